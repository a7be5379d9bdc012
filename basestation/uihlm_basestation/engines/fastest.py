"""In which weight type does this machine run a model fastest? Measured once, then remembered.

A type is timed on the real weights: a forward of 1, 4 and 16 sessions, one position each, the sizes weighing alike (geometric
mean; sizes beyond the sessions that are served are left out). Types narrower than the file's own are not tried, so that
nothing is lost but the rounding of a wider type's last bits; the file's own stands unless another is 3 % faster.

The choice is kept in the user's cache under everything it depends on: processor and its instruction sets, threads, versions,
the weights' hash. It is a choice of *floats*: y differs in its last bits between types, so equal seeds give equal tokens only
under the same one. Hence it is taken only where it is asked for, made once, and said.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from uihlm_basestation.engines.engine import Engine, Work
from uihlm_basestation.engines.loading import EngineSettings, load_engine
from uihlm_models import machine
from uihlm_models.bundled import cache_dir
from uihlm_models.errors import ModelError
from uihlm_models.llama.binding import default_threads
from uihlm_models.sources import Kind, ModelSource, file_sha256

MEASURED = "measured"
BATCHES = (1, 4, 16)

# What a base station calls the weights as the file has them.
_OWN = "auto"
_CLEARLY = 0.97
_DEPTH = 16
_REPETITIONS = 9
_VERSION = 1
# Most of the free memory and disk that a type may take for a trial.
_SHARE = 0.5

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Choice:
    """A weight type and why.

    Attributes:
        weight_type: as `EngineSettings.weight_type` takes it.
        seconds: of a forward, by type and sessions.
        remembered: whether it was measured before.
    """

    weight_type: str
    seconds: Mapping[str, Mapping[int, float]]
    remembered: bool

    def __str__(self) -> str:
        """Return the choice in one line."""
        times = "; ".join(
            f"{name} " + "/".join(f"{1e3 * own[batch]:.1f}" for batch in own) for name, own in self.seconds.items()
        )
        batches = "/".join(str(batch) for batch in next(iter(self.seconds.values())))
        how = "as measured before" if self.remembered else "measured now, and remembered"
        return f"weights run as {self.weight_type}, {how} (forward of {batches} sessions, ms: {times})"


def fastest(source: ModelSource, settings: EngineSettings, say: Say = lambda _: None) -> Choice:
    """Return the weight type that serves `source` fastest on this machine's CPU, from the cache or measured now.

    Raises:
        ModelError: if the model runs on a GPU or in 4 bits of bitsandbytes, where there is nothing to choose this way, or
            cannot be loaded.
    """
    backend = settings.backend or ("llama" if source.kind is Kind.GGUF else "torch")
    _check(backend, settings)
    facts = _facts(source, settings, backend)
    path = cache_dir() / "weight-types" / f"{_digest(facts)}.json"
    if (known := _remembered(path, facts)) is not None:
        return known
    types = _candidates(source, backend, say)
    seconds: dict[str, dict[int, float]] = {}
    for weight_type in types:
        say(f"timing weights as {weight_type} …")
        seconds[weight_type] = _timed(source, settings, weight_type)
    choice = Choice(chosen(seconds), seconds, remembered=False)
    _remember(path, facts, choice)
    if backend == "llama":
        _tidy(source, types, choice.weight_type)
    return choice


def chosen(seconds: Mapping[str, Mapping[int, float]]) -> str:
    """Return the type of the least geometric mean over its batches; the first stands unless another is clearly faster."""
    means = {name: math.exp(sum(map(math.log, own.values())) / len(own)) for name, own in seconds.items()}
    first = next(iter(means))
    best = min(means, key=lambda name: means[name])
    return best if means[best] < _CLEARLY * means[first] else first


def forward_seconds(
    engine: Engine, batches: Sequence[int], repetitions: int = _REPETITIONS, depth: int = _DEPTH
) -> dict[int, list[float]]:
    """Return the seconds of forwards of so many sessions, one position each after `depth`; sessions are closed again."""
    prefix = [7 + place % 16 for place in range(depth)]
    sessions = range(max(batches))
    for session in sessions:
        engine.forward([Work(session, 0, prefix, 1)])
    found: dict[int, list[float]] = {batch: [] for batch in batches}
    # One of each before any counts; then in turns, so that a slow moment falls on all sizes.
    for repetition in range(repetitions + 1):
        for batch in batches:
            work = [Work(session, depth, [9], 1) for session in sessions[:batch]]
            began_s = time.perf_counter()
            engine.forward(work)
            if repetition:
                found[batch].append(time.perf_counter() - began_s)
    for session in sessions:
        engine.close_session(session)
    return found


def _check(backend: str, settings: EngineSettings) -> None:
    if backend not in ("llama", "torch"):
        raise ModelError(
            f"weight types of the engine {backend} are its own: give one of those it knows, not {MEASURED}"
        )
    if settings.load_in_4bit:
        raise ModelError(f"4 bits of bitsandbytes leave no weight type to choose: give --load-in-4bit or {MEASURED}")
    if backend == "torch":
        import torch

        if torch.cuda.is_available() and settings.device_map != "cpu":
            raise ModelError(f"weight types are {MEASURED} on CPUs: on a GPU take bfloat16, or give --device-map cpu")


def _facts(source: ModelSource, settings: EngineSettings, backend: str) -> dict[str, Any]:
    package = "llama-cpp-python" if backend == "llama" else "torch"
    return {
        "version": _VERSION,
        "cpu": machine.cpu_model(),
        "flags": machine.cpu_flags(),
        "threads": settings.threads or default_threads(),
        "library": f"{package} {importlib.metadata.version(package)}",
        "weights": file_sha256(source),
        "batches": _batches(settings),
    }


def _batches(settings: EngineSettings) -> list[int]:
    return [batch for batch in BATCHES if batch <= max(1, settings.max_sessions)]


def _digest(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:24]


def _remembered(path: Path, facts: Mapping[str, Any]) -> Choice | None:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["facts"] != json.loads(json.dumps(facts)):
            return None
        seconds = {
            name: {int(batch): float(value) for batch, value in own.items()}
            for name, own in document["seconds"].items()
        }
        return Choice(str(document["weight_type"]), seconds, remembered=True)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"the weight type remembered in {path} cannot be read ({error}): delete the file") from error


def _remember(path: Path, facts: Mapping[str, Any], choice: Choice) -> None:
    document = {"weight_type": choice.weight_type, "seconds": choice.seconds, "facts": facts}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".part", delete=False, encoding="utf-8") as file:
            json.dump(document, file, indent=1)
        Path(file.name).replace(path)
    except OSError as error:
        # Without a memory the next start might choose otherwise, and the same seed would give other tokens.
        raise ModelError(
            f"the choice of weights cannot be kept in {path.parent} ({error}): set UIHLM_CACHE to a folder that can be "
            "written, or name a type"
        ) from error


def _candidates(source: ModelSource, backend: str, say: Say) -> list[str]:
    """Return the types to try, the file's own first."""
    if backend == "llama":
        from uihlm_models.gguf_types import not_narrower

        wider = not_narrower(source.path)
        room = min(
            _SHARE * (machine.available_memory_bytes() or math.inf),
            _SHARE * shutil.disk_usage(_existing(cache_dir())).free,
        )
        kept = [name for name, size in wider.items() if size <= room]
        if left := [name for name in wider if name not in kept]:
            say(f"not tried, for want of memory or disk: {', '.join(left)}")
        return [_OWN, *kept]
    if source.kind is Kind.GGUF:
        return [_OWN, "bfloat16"]
    config = json.loads((source.path / "config.json").read_text(encoding="utf-8"))
    own = str(config.get("dtype") or config.get("torch_dtype") or "float32")
    return [_OWN] if own == "float32" else [_OWN, "float32"]


def _existing(folder: Path) -> Path:
    return folder if folder.exists() else _existing(folder.parent)


def _timed(source: ModelSource, settings: EngineSettings, weight_type: str) -> dict[int, float]:
    batches = _batches(settings)
    trial = replace(settings, weight_type=weight_type, max_sessions=max(batches), max_context=2 * _DEPTH, kv_bytes=None)
    engine: Any = load_engine(source, trial)
    try:
        # The least of several: what the machine does when nothing else runs.
        return {batch: min(own) for batch, own in forward_seconds(engine, batches).items()}
    finally:
        engine.close()


def _tidy(source: ModelSource, types: Sequence[str], kept: str) -> None:
    """Delete what was written for the trial alone; a file that is wanted later is written again."""
    from uihlm_models.gguf_types import rewritten_path

    for weight_type in types:
        if weight_type not in (_OWN, kept):
            rewritten_path(source.path, weight_type).unlink(missing_ok=True)
