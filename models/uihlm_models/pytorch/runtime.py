"""Causal language models in Torch, run by transformers: loading, and one forward against a key-value cache.

Weights come from a local Hugging Face folder, a hub id (safetensors, or one GGUF file of the repository) or a GGUF
file, which is unpacked as it is loaded. Code and pickles from a repository are never run: safetensors or GGUF only, and
no remote code. Heavy libraries are imported when a model is loaded, not with this module.
"""

from __future__ import annotations

import contextlib
import enum
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from uihlm_models.errors import ModelError
from uihlm_models.pytorch.files import first_line, locate
from uihlm_models.pytorch.gguf_once import gguf_read_once
from uihlm_models.pytorch.tokenizer import TorchTokenizer

Float32Array = npt.NDArray[np.float32]

# Attention over a chunk holds [head, chunk, n] weights at once: this bounds them however long the prompt is.
PREFILL_CHUNK = 512

# Layers whose cache can be cut back to any earlier position. A recurrent state cannot: it forgets how it came about.
_CROPPABLE_LAYERS = frozenset({"full_attention", "sliding_attention", "chunked_attention"})


class WeightType(enum.Enum):
    """The type of the weights in memory; AUTO takes what the checkpoint says (float32 for a GGUF)."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


class AttentionKind(enum.Enum):
    """How attention is computed: EAGER keeps the weights readable, SDPA is the faster fused one."""

    EAGER = "eager"
    SDPA = "sdpa"


@dataclass(frozen=True, slots=True)
class TorchSettings:
    """How to load a model.

    Attributes:
        weight_type: type of the weights in memory.
        attention: EAGER where attention rows will be read, else SDPA.
        device_map: where the weights go: "auto", "cpu", "cuda:1" …
        load_in_4bit: quantise the linear layers to 4 bits with bitsandbytes.
        revision: branch, tag or commit on the hub; None takes its main branch.
        gguf_file: the GGUF file to take from a hub repository; None takes its safetensors.
        local_files_only: never use the network; hub ids are looked up in the user's cache.
    """

    weight_type: WeightType = WeightType.AUTO
    attention: AttentionKind = AttentionKind.SDPA
    device_map: str = "auto"
    load_in_4bit: bool = False
    revision: str | None = None
    gguf_file: str | None = None
    local_files_only: bool = False


@dataclass(frozen=True, slots=True)
class TorchModel:
    """A loaded model and its tokenizer.

    Attributes:
        module: the transformers model, in eval mode.
        tokenizer: its tokenizer, `vocabulary_size` pieces.
        label: what was loaded, for logs.
        vocabulary_size: V, the width of a row of logits.
        context_length: positions the model was trained for.
        layer_count: its decoder layers.
        head_count: attention heads of a layer.
        attention: how attention is computed.
    """

    module: Any
    tokenizer: TorchTokenizer
    label: str
    vocabulary_size: int
    context_length: int
    layer_count: int
    head_count: int
    attention: AttentionKind

    @property
    def stop_ids(self) -> frozenset[int]:
        """Ids that end an answer."""
        return self.tokenizer.stop_ids

    @property
    def description(self) -> str:
        """Model, weight type, attention, device and library in a few words."""
        import torch
        import transformers

        weights = "4 bit" if getattr(self.module, "is_loaded_in_4bit", False) else str(self.module.dtype)
        return (
            f"{self.label} ({weights.removeprefix('torch.')}, {self.attention.value} attention,"
            f" {self.module.device.type}, transformers {transformers.__version__}, torch {torch.__version__})"
        )

    @property
    def kv_position_bytes(self) -> int:
        """Bytes of keys and values that one position of one session takes."""
        config = self.module.config.get_text_config()
        heads = getattr(config, "num_key_value_heads", None) or self.head_count
        width = getattr(config, "head_dim", None) or config.hidden_size // self.head_count
        return int(2 * self.layer_count * heads * width * self.module.dtype.itemsize)

    def new_cache(self) -> Any:
        """Return an empty key-value cache for one sequence.

        It is made without the model's configuration, so that a layer with a sliding window keeps what slides out of it
        (the mask hides it): a rollback may need it again.
        """
        from transformers import DynamicCache

        return DynamicCache()

    def cut(self, cache: Any, keep_len: int) -> None:
        """Roll `cache` back to its first `keep_len` positions."""
        surplus = cache.get_seq_length() - keep_len
        if surplus > 0:
            cache.crop(-surplus)  # a positive argument, the length to keep, is refused since transformers 5

    def run(self, cache: Any, new_ids: Sequence[int], rows: int) -> Float32Array:
        """Run `new_ids` after what `cache` holds and return the raw logits of the last `rows` of them, `[rows, V]`.

        Long inputs run in chunks of PREFILL_CHUNK. If this raises, the cache is unusable.

        Raises:
            ModelError: if the model does not keep one cache position per token.
        """
        import torch

        kept: list[Float32Array] = []
        with torch.inference_mode():
            for start in range(0, len(new_ids), PREFILL_CHUNK):
                chunk = new_ids[start : start + PREFILL_CHUNK]
                length = cache.get_seq_length() + len(chunk)
                wanted = min(max(rows - (len(new_ids) - start - len(chunk)), 0), len(chunk))
                output = self.module(
                    torch.tensor([list(chunk)], device=self.module.device),
                    past_key_values=cache,
                    use_cache=True,
                    logits_to_keep=max(wanted, 1),  # 0 would mean all of them
                )
                if cache.get_seq_length() != length:
                    raise ModelError(
                        f"{self.label} holds {cache.get_seq_length()} cache positions after {length} tokens, so it"
                        " cannot be rolled back: use a model with plain attention"
                    )
                if wanted:
                    kept.append(output.logits[0, -wanted:].float().cpu().numpy())
        if len(kept) == 1:
            return kept[0]
        return np.concatenate(kept) if kept else np.empty((0, self.vocabulary_size), np.float32)


def load_torch(model: str | Path, settings: TorchSettings = TorchSettings()) -> TorchModel:
    """Load a causal language model and its tokenizer.

    `model` is a GGUF file, a local Hugging Face folder or a hub id `owner/name`, tried in this order.

    Raises:
        ModelError: if it is not there, holds no weights that may be loaded, or transformers cannot run it; the message
            says what to get and where to put it.
    """
    _check_installed(settings)
    files = locate(str(model), settings.revision, settings.gguf_file, settings.local_files_only)
    folder, gguf_file = files.folder, files.gguf_file
    if gguf_file is not None and settings.load_in_4bit:
        raise ModelError(
            f"{gguf_file} is quantised already: take load_in_4bit back, or load the safetensors of the model"
        )

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    label = gguf_file or (folder.name if Path(model).expanduser().exists() else str(model))
    weight_type = settings.weight_type
    if gguf_file is not None and weight_type is WeightType.AUTO:
        weight_type = WeightType.FLOAT32
    shared: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
    if gguf_file is not None:
        shared["gguf_file"] = gguf_file
    try:
        with gguf_read_once() if gguf_file is not None else contextlib.nullcontext():
            tokenizer = AutoTokenizer.from_pretrained(str(folder), **shared)
            module = AutoModelForCausalLM.from_pretrained(
                str(folder),
                dtype="auto" if weight_type is WeightType.AUTO else getattr(torch, weight_type.value),
                attn_implementation=settings.attention.value,
                device_map=settings.device_map,
                use_safetensors=True,
                quantization_config=_quantisation(settings, gguf_file),
                **shared,
            ).eval()
        config = module.config.get_text_config()
        loaded = TorchModel(
            module,
            TorchTokenizer(tokenizer, config.vocab_size, module.generation_config.eos_token_id),
            label,
            config.vocab_size,
            config.max_position_embeddings,
            config.num_hidden_layers,
            config.num_attention_heads,
            settings.attention,
        )
    except ModelError:
        raise
    # A broken, missing or unknown model shows as almost anything: OSError, ValueError, KeyError, ImportError,
    # RuntimeError, SafetensorError, AttributeError for a configuration without positions or heads.
    except Exception as error:
        raise ModelError(
            f"transformers cannot load {label} from {folder} ({type(error).__name__}: {first_line(error)}). Put a"
            " complete causal language model there (config.json, *.safetensors and the tokenizer's files, or a GGUF of"
            " a supported architecture), or name another model"
        ) from error
    recurrent = set(getattr(config, "layer_types", None) or ()) - _CROPPABLE_LAYERS
    if recurrent:
        raise ModelError(
            f"{label} has layers of type {', '.join(sorted(recurrent))}, whose state cannot be rolled back after a"
            " rejected draft: use a model with plain attention"
        )
    return loaded


def _check_installed(settings: TorchSettings) -> None:
    missing = [
        name for name in ("torch", "transformers", "accelerate", "gguf") if importlib.util.find_spec(name) is None
    ]
    if missing:
        raise ModelError(f"models in Torch need {', '.join(missing)}: run `pip install 'uihlm[torch]'`")
    if settings.load_in_4bit and importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError("load_in_4bit needs bitsandbytes: run `pip install bitsandbytes`, or load without it")


def _quantisation(settings: TorchSettings, gguf_file: str | None) -> Any:
    """Return transformers' quantisation setting, or None."""
    import torch
    import transformers

    if settings.load_in_4bit:
        compute = (
            torch.bfloat16 if settings.weight_type is WeightType.AUTO else getattr(torch, settings.weight_type.value)
        )
        return transformers.BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=compute
        )
    # Newer releases would otherwise fetch compiled matrix kernels from the hub and keep the GGUF's blocks packed.
    if gguf_file is not None and hasattr(transformers, "GgufConfig"):
        return transformers.GgufConfig(dequantize=True)
    return None
