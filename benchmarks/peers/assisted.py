"""transformers' assisted generation on the same weights: `generate(assistant_model=…)`, sampling at the same temperature.

The GGUFs are loaded in Torch, where their 4-bit weights become float32 without a change of value: transformers runs no packed
GGUF weights. Its default top-k of 50 is off, and no stop token ends an answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers.peer import TEMPERATURE


def loaded(path: Path, weight_type: str = "float32") -> Any:
    """Return a GGUF as a transformers model on the CPU that writes on after stop tokens."""
    from transformers.utils import logging

    from uihlm_models.pytorch.runtime import TorchSettings, WeightType, load_torch

    # Its bars and its remarks on its own arguments are no part of a table.
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    module = load_torch(path, TorchSettings(weight_type=WeightType(weight_type), device_map="cpu")).module
    module.generation_config.eos_token_id = None
    return module


@dataclass(slots=True)
class Assisted:
    """A way of calling it (`Peer`).

    Attributes:
        llm, slm: transformers models; no `slm` is the LLM alone.
        drafts: tokens the assistant drafts a round; None leaves transformers' own settings (20, cut short where the assistant
            is less sure than 0.4).
    """

    llm: Any
    slm: Any = None
    drafts: int | None = None

    def write(self, prompt: Sequence[int], tokens: int, seed: int) -> int:
        """Write an answer; see `Peer`."""
        import torch

        torch.manual_seed(seed)
        more: dict[str, Any] = {}
        if self.slm is not None:
            more["assistant_model"] = self.slm
            config = self.slm.generation_config
            config.num_assistant_tokens = 20 if self.drafts is None else self.drafts
            config.assistant_confidence_threshold = 0.4 if self.drafts is None else 0.0
            config.num_assistant_tokens_schedule = "constant"
        ids = torch.tensor([list(prompt)])
        with torch.no_grad():
            line = self.llm.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=True,
                temperature=TEMPERATURE,
                top_k=0,
                max_new_tokens=tokens,
                **more,
            )
        return int(line.shape[1]) - len(prompt)
