"""From weights to drafters: which library runs them, and one drafter for each kind of need.

A drafter whose attention can be read is asked a callback about every tensor of every forward; one that is never read should
not pay for that. So a device loads up to two, over the same weights file (memory-mapped once).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from uihlm_device.drafters.drafter import Drafter
from uihlm_device.rules.importance import Readout
from uihlm_device.rules.policies import Needs, Policy
from uihlm_models.errors import ModelError
from uihlm_models.sources import Kind, ModelSource
from uihlm_models.tokenizer import Tokenizer

if TYPE_CHECKING:
    from uihlm_models.pytorch.runtime import TorchModel

# Of the depth: layer 22 of 26 for the bundled drafter, where the `heads` reading resembles the paper's rates.
_DEFAULT_DEPTH = 0.85


def default_layer(depth: int) -> int:
    """Return the attention layer that is read when none is named, of a model with `depth` layers."""
    return int(_DEFAULT_DEPTH * depth)


@dataclass(frozen=True, slots=True)
class DrafterSettings:
    """How drafters are loaded.

    Attributes:
        backend: `llama` or `torch`; None goes by the form of the weights.
        layer: attention layer read, from 0; None takes the one at 0.85 of the depth.
        readout: `matrix` makes the drafter keep every row.
        max_context: positions of the cache.
        threads: CPU threads; 0 takes every core.
    """

    backend: str | None = None
    layer: int | None = None
    readout: Readout = Readout.HEADS
    max_context: int = 2048
    threads: int = 0


@dataclass(frozen=True, slots=True)
class _Kind:
    attention: bool
    hidden: bool

    @classmethod
    def of(cls, policy: Policy) -> _Kind:
        return cls(attention=Needs.IMPORTANCE in policy.needs, hidden=Needs.HIDDEN in policy.needs)


class Drafters:
    """The drafters of one device, loaded when first asked for."""

    def __init__(self, source: ModelSource, settings: DrafterSettings = DrafterSettings()) -> None:
        backend = settings.backend or ("llama" if source.kind is Kind.GGUF else "torch")
        if backend == "llama" and source.kind is not Kind.GGUF:
            raise ModelError(
                f"llama.cpp reads GGUF files, and {source.label} is a folder: leave --backend out, or name a GGUF"
            )
        self._source = source
        self._settings = settings
        self._llama = backend == "llama"
        self._loaded: dict[_Kind, Drafter] = {}
        self._torch: dict[bool, TorchModel] = {}
        self._tokenizer: Tokenizer | None = None

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        if self._tokenizer is None:
            if self._llama:
                from uihlm_models.llama.tokenizer import LlamaTokenizer

                self._tokenizer = LlamaTokenizer.from_file(self._source.path)
            else:
                self._tokenizer = self._torch_model(eager=False).tokenizer
        return self._tokenizer

    def for_policy(self, policy: Policy) -> Drafter:
        """Return a drafter that can record what the policy needs, and pays for nothing else."""
        kind = _Kind.of(policy)
        if kind not in self._loaded:
            self._loaded[kind] = self._load(kind, self._settings.threads)
        return self._loaded[kind]

    def another(self, policy: Policy, threads: int) -> Drafter:
        """Return one more such drafter, whose cache is its own, over the same weights; `threads` are llama.cpp's."""
        return self._load(_Kind.of(policy), threads)

    def _load(self, kind: _Kind, threads: int) -> Drafter:
        return self._load_llama(kind, threads) if self._llama else self._load_torch(kind)

    def _load_llama(self, kind: _Kind, threads: int) -> Drafter:
        from uihlm_device.drafters.llama_drafter import LlamaDrafter

        settings = self._settings
        drafter = LlamaDrafter(
            self._source.path,
            attention_layer=0 if kind.attention else None,
            attention_matrix=kind.attention and settings.readout is Readout.MATRIX,
            hidden=kind.hidden,
            max_context=settings.max_context,
            n_threads=threads,
        )
        if kind.attention:
            # The depth is known only now that the file is read.
            drafter.watch(self._layer(drafter.n_layer))
        return drafter

    def _load_torch(self, kind: _Kind) -> Drafter:
        from uihlm_device.drafters.torch_drafter import TorchDrafter

        model = self._torch_model(eager=kind.attention)
        return TorchDrafter(
            model,
            attention_layer=self._layer(model.layer_count) if kind.attention else None,
            max_context=min(self._settings.max_context, model.context_length),
        )

    def _torch_model(self, eager: bool) -> TorchModel:
        from uihlm_models.pytorch.runtime import AttentionKind, TorchSettings, load_torch

        if eager not in self._torch:
            kind = AttentionKind.EAGER if eager else AttentionKind.SDPA
            self._torch[eager] = load_torch(self._source.path, TorchSettings(attention=kind))
        return self._torch[eager]

    def _layer(self, depth: int) -> int:
        return default_layer(depth) if self._settings.layer is None else self._settings.layer
