"""From weights to an engine: which library runs them.

Other packages add engines through the entry-point group `uihlm.engines` (docs/add-an-engine.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points

from uihlm_basestation.engines.engine import Engine
from uihlm_basestation.engines.slotted import DEFAULT_CACHES, DEFAULT_CONTEXT
from uihlm_models.errors import ModelError
from uihlm_models.sources import Kind, ModelSource


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """How an engine is loaded.

    Attributes:
        backend: one of `backends()`; None goes by the form of the weights.
        max_sessions: caches kept at once; older ones are run again when they are next needed.
        max_context: positions of one session.
        threads: CPU threads of llama.cpp; 0 takes every core.
        gpu_layers: llama.cpp: blocks put on a GPU; -1 puts all.
        weight_type: `auto` (as the file has them), `float32`, `bfloat16`, `float16`; llama.cpp also `q8_0`: the file is then
            written anew once (uihlm_models/gguf_types.py). Which is fastest here, engines.fastest measures.
        device_map: Torch: `auto`, `cpu`, `cuda:0` …
        load_in_4bit: Torch: quantise with bitsandbytes.
        kv_bytes: most memory for caches; None bounds them by `max_sessions` alone.
    """

    backend: str | None = None
    max_sessions: int = DEFAULT_CACHES
    max_context: int = DEFAULT_CONTEXT
    threads: int = 0
    gpu_layers: int = -1
    weight_type: str = "auto"
    device_map: str = "auto"
    load_in_4bit: bool = False
    kv_bytes: int | None = None


Factory = Callable[[ModelSource, EngineSettings], Engine]
ENTRY_POINT_GROUP = "uihlm.engines"
_BUILT_IN = ("llama", "torch")


def backends() -> list[str]:
    """Return every engine's name: the built-in ones, then those of other packages."""
    others = {point.name for point in entry_points(group=ENTRY_POINT_GROUP)} - set(_BUILT_IN)
    return [*_BUILT_IN, *sorted(others)]


def load_engine(source: ModelSource, settings: EngineSettings = EngineSettings()) -> Engine:
    """Return an engine that serves the weights; ModelError says what is missing or does not fit."""
    backend = settings.backend or ("llama" if source.kind is Kind.GGUF else "torch")
    if backend not in _BUILT_IN:
        return _from_package(backend, source, settings)
    if backend == "llama":
        if source.kind is not Kind.GGUF:
            raise ModelError(
                f"llama.cpp reads GGUF files, and {source.label} is a folder: leave --backend out, or name a GGUF"
            )
        from uihlm_basestation.engines.llama_engine import LlamaEngine

        path = source.path
        if settings.weight_type != "auto":
            from uihlm_models.gguf_types import rewritten

            path = rewritten(path, settings.weight_type)
        return LlamaEngine(
            path,
            max_sessions=settings.max_sessions,
            max_context=settings.max_context,
            kv_bytes=settings.kv_bytes,
            n_threads=settings.threads,
            gpu_layers=settings.gpu_layers,
        )
    from uihlm_basestation.engines.torch_engine import TorchEngine
    from uihlm_models.pytorch.runtime import TorchSettings, WeightType, load_torch

    if settings.weight_type not in {kind.value for kind in WeightType}:
        raise ModelError(f"Torch has no weights of type {settings.weight_type}: take float32, bfloat16 or float16")
    torch_settings = TorchSettings(
        weight_type=WeightType(settings.weight_type), device_map=settings.device_map, load_in_4bit=settings.load_in_4bit
    )
    model = load_torch(source.path, torch_settings)
    return TorchEngine(
        model,
        max_sessions=settings.max_sessions,
        max_context=min(settings.max_context, model.context_length),
        kv_bytes=settings.kv_bytes,
    )


def _from_package(backend: str, source: ModelSource, settings: EngineSettings) -> Engine:
    for point in entry_points(group=ENTRY_POINT_GROUP, name=backend):
        factory: Factory = point.load()
        engine = factory(source, settings)
        # Found out now, and not in the middle of somebody's answer.
        if lacking := [name for name in vars(Engine) if not (name.startswith("_") or hasattr(engine, name))]:
            raise ModelError(
                f"the engine {backend!r} lacks {', '.join(lacking)}, which this base station asks for: install a version of "
                "its package that was made for this one (docs/add-an-engine.md)"
            )
        return engine
    raise ModelError(f"unknown engine {backend!r}: known are {', '.join(backends())}; install the package that has it")
