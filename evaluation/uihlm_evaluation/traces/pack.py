"""A trace pack: a trace, and which of its prompts are held out.

    manifest.json              settings, seeds, versions, weights, prompts of either side, columns
    trace.npz | trace.parquet  one row a token

Both files name their format; a pack of another one is refused.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from uihlm_evaluation.calibration.profile import ProfileModel
from uihlm_evaluation.calibration.trace import Trace, TraceError, load_trace
from uihlm_evaluation.calibration.tracing import TRACE, Progress, Tracer, TraceSettings, make_trace
from uihlm_evaluation.prompts.datasets import Dataset
from uihlm_evaluation.runs.provenance import collect
from uihlm_evaluation.traces.columns import described
from uihlm_evaluation.traces.manifest import MANIFEST, Manifest, Store, load_manifest
from uihlm_evaluation.traces.parquet import read_parquet, write_parquet
from uihlm_evaluation.traces.split import DEFAULT_SHARE, held_out

PARQUET = "trace.parquet"


class Side(enum.StrEnum):
    """Which prompts of a pack."""

    HELD_OUT = "held-out"
    TRAIN = "train"
    ALL = "all"


@dataclass(frozen=True, slots=True, eq=False)
class TracePack:
    """A trace with its split.

    Attributes:
        manifest: what holds for the whole.
        trace: every row.
    """

    manifest: Manifest
    trace: Trace

    def side(self, side: Side) -> Trace:
        """Return the rows of one side; TraceError if it has no prompts."""
        if side is Side.ALL:
            return self.trace
        held = self.held_out
        which = held if side is Side.HELD_OUT else ~held
        if not which.any():
            raise TraceError(
                f"the pack has no {side.value} prompts (held-out share {self.manifest.held_out_share:g} of "
                f"{len(np.unique(self.trace.prompt))} prompts): trace more of them, or with another --held-out"
            )
        return self.trace.rows(which)

    @property
    def held_out(self) -> npt.NDArray[np.bool_]:
        """Whether each token belongs to a held-out prompt, `[T]`."""
        return np.isin(self.trace.prompt, self.manifest.held_out)


@dataclass(frozen=True, slots=True)
class PackSettings:
    """How a pack is made.

    Attributes:
        trace: how its trace is.
        slm, llm: the weights.
        share: of the prompts that is held out.
        store: where the rows go.
    """

    trace: TraceSettings
    slm: ProfileModel
    llm: ProfileModel
    share: float = DEFAULT_SHARE
    store: Store = Store.NPZ


def make_pack(
    tracer: Tracer,
    settings: PackSettings,
    dataset: Dataset,
    output: Path,
    resume: bool,
    on_progress: Callable[[Progress], None],
) -> TracePack:
    """Answer every prompt under `hlm`, keep what both ends know of each token, and return the pack, which is also in `output`.

    Raises:
        InvalidRequestError, UnavailableError, TraceError: as `make_trace`.
    """
    if resume and (output / PARQUET).is_file() and not (output / TRACE).exists():
        # What the settings are compared with lies in a file of its own, so the rows may change theirs.
        read_parquet(output / PARQUET).save(output / TRACE)
    traced = make_trace(tracer, settings.trace, dataset.examples, output, resume, on_progress)
    answered = set(traced.trace.prompt.tolist())
    sides: dict[bool, list[int]] = {True: [], False: []}
    for example in dataset.examples:
        if example.index in answered:
            sides[held_out(example.user_turn, settings.share)].append(example.index)
    config = settings.trace.config
    manifest = Manifest(
        store=settings.store,
        dataset=dataset.label,
        prompts_digest=dataset.digest,
        seed=config.selection.seed,
        config=config.to_dict(),
        provenance=collect().to_json(),
        slm=(settings.slm.label, settings.slm.sha256),
        llm=(settings.llm.label, settings.llm.sha256),
        train=tuple(sides[False]),
        held_out=tuple(sides[True]),
        held_out_share=settings.share,
        tokens=len(traced.trace),
        columns=described(traced.trace),
        failed=traced.failed,
    )
    pack = TracePack(manifest, traced.trace)
    _store(pack, output)
    return pack


def _store(pack: TracePack, output: Path) -> None:
    """Put the rows into the file that the manifest names, and leave no other behind."""
    if pack.manifest.store is Store.PARQUET:
        write_parquet(pack.trace, pack.held_out, output / PARQUET)
        (output / TRACE).unlink()
    else:
        (output / PARQUET).unlink(missing_ok=True)
    pack.manifest.save(output)


def load_pack(folder: Path) -> TracePack:
    """Return the pack in a folder.

    Raises:
        TraceError: if there is none, it is of another format, or its rows are not those of its manifest.
    """
    manifest = load_manifest(folder)
    if manifest.store is Store.PARQUET:
        trace = read_parquet(folder / PARQUET)
    else:
        trace = load_trace(folder / TRACE)
    here, said = set(trace.prompt.tolist()), {*manifest.train, *manifest.held_out}
    if len(trace) != manifest.tokens or here != said:
        raise TraceError(
            f"{folder / MANIFEST} speaks of {manifest.tokens} tokens of {len(said)} prompts, the rows beside it are "
            f"{len(trace)} of {len(here)}: make the pack anew with `uihlm-device trace`"
        )
    return TracePack(manifest, trace)
