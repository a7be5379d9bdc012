"""How keys and values are stored: 16 bits a number each, but not the same 16 bits.

F16 for both is what llama.cpp uses by itself. With it, and with 4-bit weights, a position's logits depend on how many
positions were computed with it: between batchings of one prompt probabilities moved by up to 0.08 on the CPU this was tried
on. Keys in BF16 make fused attention give the same floats in any batching, and lie no further from a float32 cache: mean
total variation 0.027 against 0.026, the noise of the 4-bit weights. Values in BF16 change nothing in that, but CPUs without
instructions for them read them slowly: half a millisecond of a forward of ten.
"""

from __future__ import annotations

import enum

from uihlm_models.llama.binding import library

# Numbers of ggml's type enum, which is written into files and so never renumbered; the binding lacks bfloat16's.
_F16, _BF16 = 1, 30


class KvType(enum.Enum):
    """Types of keys and of values."""

    F16 = "f16"
    BF16 = "bf16"
    BF16_F16 = "bf16-f16"

    @property
    def ggml_types(self) -> tuple[int, int]:
        """ggml's numbers of the types of keys and of values."""
        return (_F16 if self is KvType.F16 else _BF16, _BF16 if self is KvType.BF16 else _F16)


def steady_kv_type() -> KvType:
    """Return the fastest type with which a position's floats do not depend on what they were computed with.

    A GPU's fused attention wants one type for both; there BF16 costs nothing.

    Raises:
        ModelError: if llama-cpp-python is not installed.
    """
    return KvType.BF16 if library().llama_supports_gpu_offload() else KvType.BF16_F16
