"""Decode loops for the referee: of this project's own parts, which tests/mutants.py breaks, and of plain NumPy."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from known_rows import Known
from uihlm_basestation import session
from uihlm_evaluation.referee.sample import Decode
from uihlm_evaluation.referee.stage import Model
from uihlm_proto.codecs import codec
from uihlm_proto.randomness import Draws, session_key

V = 12


def ours(name: str = "dense32", draft_length: int = 1) -> Decode:
    """A loop of our codec and our judge: `draft_length` drafts a round, none of them skipped."""
    uplink = codec(name, V)

    def decode(x: Model, y: Model, prompt: Sequence[int], max_tokens: int, seed: int) -> list[int]:
        key, ids = session_key(seed, 0), list(prompt)
        draws = Draws(key)
        while len(ids) < len(prompt) + max_tokens:
            start, line = len(ids), list(ids)
            drafts = []
            for place in range(draft_length):
                coded = uplink.draft(x(line), key, start + place)
                drafts.append(uplink.decode(coded.encode()))
                line.append(coded.token)
            # Through the session's name, which a mutant may have exchanged.
            verdict = session.verify_chain(drafts, lambda i: Known(y(line[: start + i])), uplink.judge, draws, start)  # noqa: B023
            ids = line[: start + verdict.accepted]
            if verdict.token is not None:
                ids.append(verdict.token)
        return ids[len(prompt) :][:max_tokens]

    return decode


Row = npt.NDArray[np.float64]
# (x, y, ids so far, the two models, generator) → token
Step = Callable[[Row, Row, list[int], Model, Model, np.random.Generator], int]


def plain(step: Step, seeded: bool = True) -> Decode:
    """A loop as anyone would write it with NumPy, one token a step."""

    def decode(x: Model, y: Model, prompt: Sequence[int], max_tokens: int, seed: int) -> list[int]:
        generator = np.random.default_rng(seed if seeded else 7)
        ids = list(prompt)
        for _ in range(max_tokens):
            ids.append(step(x(ids), y(ids), ids, x, y, generator))
        return ids[len(prompt) :]

    return decode


def drawn(p: Row, generator: np.random.Generator) -> int:
    return int(np.searchsorted(np.cumsum(p), generator.uniform() * p.sum()))


def verified(x: Row, y: Row, generator: np.random.Generator, leniency: float = 1.0, shown: Row | None = None) -> int:
    """Speculative sampling of one token; the judge may be shown another x than d is drawn from."""
    d = drawn(x, generator)
    told = x if shown is None else shown
    if generator.uniform() * told[d] <= leniency * y[d]:
        return d
    return drawn(np.maximum(y - told, 0.0), generator)


RIGHT = plain(lambda x, y, ids, small, large, generator: verified(x, y, generator))
WRONG: dict[str, Decode] = {
    "drafts unverified": plain(
        lambda x, y, ids, small, large, generator: (
            drawn(x, generator) if len(ids) % 4 == 0 else verified(x, y, generator)
        )
    ),
    "acceptance too lenient": plain(lambda x, y, ids, small, large, generator: verified(x, y, generator, 2.0)),
    "y at another temperature or truncated": plain(
        lambda x, y, ids, small, large, generator: verified(x, y**1.25 / (y**1.25).sum(), generator)
    ),
    "x of one position before": plain(
        lambda x, y, ids, small, large, generator: verified(x, y, generator, shown=small(ids[:-1]))
    ),
    "y of one position before": plain(
        lambda x, y, ids, small, large, generator: verified(x, large(ids[:-1]), generator)
    ),
    "the seed is ignored": plain(lambda x, y, ids, small, large, generator: verified(x, y, generator), seeded=False),
}
