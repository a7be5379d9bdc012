"""Random work of chains and trees for any engine, and what a fresh prefill of the same ids must give."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from uihlm_basestation.engines.engine import Engine, Work
from uihlm_basestation.engines.trees import branches

Rows = np.ndarray
# rows of a prefill from nothing: (ids, rows) → [rows, V]
Fresh = Callable[[list[int], int], Rows]


def random_tree(rng: np.random.Generator, nodes: int, reach: int = 5) -> list[int]:
    """Parents of a tree in which a node hangs from one of the `reach` before it, or is a root."""
    return [-1, *(int(rng.integers(max(-1, node - reach), node)) for node in range(1, nodes))]


@dataclass
class Held:
    """What a session should hold: the ids that stand, and a tree beside them."""

    ids: list[int] = field(default_factory=list)
    nodes: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)


def random_forwards(
    engine: Engine, rng: np.random.Generator, token: Callable[[], int], sessions: int, forwards: int, longest: int
) -> Iterator[tuple[list[int], Rows]]:
    """Run random work and yield every row with the ids before and at it: (ids, row `[V]`)."""
    held = {session: Held() for session in range(sessions)}
    for _ in range(forwards):
        work = []
        for session in map(int, rng.permutation(sessions)[: int(rng.integers(1, sessions + 1))]):
            before, path, parents = held[session], [], None
            if before.parents:
                leads = branches(before.parents)
                branch = leads[int(rng.integers(len(leads)))]
                path = branch[: int(rng.integers(0, len(branch) + 1))]
            ids = [*before.ids, *(before.nodes[node] for node in path)]
            keep = 0 if len(ids) > longest else max(0, len(ids) - int(rng.integers(0, 3)))
            count = int(rng.integers(1, 18))
            if rng.random() < 0.7:
                parents = random_tree(rng, count)
            new = [token() for _ in range(count)]
            work.append(Work(session, keep, new, int(rng.integers(0, count + 1)), parents, path))
            kept = ids[:keep]
            held[session] = Held([*kept, *new]) if parents is None else Held(kept, new, parents)
        for part, rows in zip(work, engine.forward(work), strict=True):
            assert rows.shape == (part.rows, engine.vocabulary_size) and rows.dtype == np.float32
            stands = held[part.session]
            first = len(part.new_ids) - part.rows
            if part.parents is None:
                for n in range(part.rows):
                    yield stands.ids[: len(stands.ids) - part.rows + n + 1], rows[n]
            else:
                for branch in branches(part.parents):
                    for depth, node in enumerate(branch):
                        if node >= first:
                            yield [*stands.ids, *(part.new_ids[n] for n in branch[: depth + 1])], rows[node - first]
