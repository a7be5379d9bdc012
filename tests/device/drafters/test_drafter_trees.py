"""Drafters that look at several branches: each node sees the cache and its own ancestors, whatever ran beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from tiny_torch import VOCABULARY_SIZE, write_tiny_llama
from uihlm_device.drafters.drafter import TreeDrafter
from uihlm_device.drafters.llama_drafter import LlamaDrafter
from uihlm_device.drafters.torch_drafter import TorchDrafter
from uihlm_models import bundled
from uihlm_models.errors import ModelError
from uihlm_models.pytorch.runtime import AttentionKind, TorchSettings, WeightType, load_torch
from uihlm_proto.errors import InvalidRequestError

# How far apart two batchings of the same ids may be, and how far another id in the branch always is, as total variation.
# With 4-bit weights the order of the cells moves probabilities (uihlm_basestation/engines/llama_trees.py).
NEAR = {"torch": 1e-4, "llama": 0.12}


def softmax(logits: np.ndarray) -> np.ndarray:
    p = np.exp(logits.astype(np.float64) - logits.max())
    return p / p.sum()


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return 0.5 * float(np.abs(softmax(a) - softmax(b)).sum())


@pytest.fixture(scope="module", params=["torch", "torch-eager", pytest.param("llama", marks=pytest.mark.slow)])
def make(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], TreeDrafter]:
    if request.param == "llama":
        return lambda: LlamaDrafter(bundled.slm_path(), max_context=256, n_threads=1)
    kind = AttentionKind.SDPA if request.param == "torch" else AttentionKind.EAGER
    folder = write_tiny_llama(tmp_path_factory.mktemp("tiny"))
    model = load_torch(folder, TorchSettings(WeightType.FLOAT32, kind, device_map="cpu"))
    return lambda: TorchDrafter(model, max_context=0)


@pytest.fixture
def pair(make: Callable[[], TreeDrafter]) -> Iterator[tuple[TreeDrafter, TreeDrafter]]:
    """A drafter, and a fresh one to hold it against."""
    drafters = make(), make()
    yield drafters
    for drafter in drafters:
        drafter.close()


def near(drafter: TreeDrafter) -> float:
    return NEAR["llama" if isinstance(drafter, LlamaDrafter) else "torch"]


def test_rows_are_those_of_the_branch_alone_and_the_path_stays(pair: tuple[TreeDrafter, TreeDrafter]) -> None:
    drafter, fresh = pair
    rng = np.random.default_rng(1)
    low, high = (2, VOCABULARY_SIZE) if drafter.vocabulary_size == VOCABULARY_SIZE else (1000, 40000)

    def some(count: int) -> list[int]:
        return [int(token) for token in rng.integers(low, high, count)]

    ids = some(9)
    drafter.forward(0, ids[:-1])
    far = []
    for _ in range(5):
        # The last draw, which ends the last round, is run as the tree's trunk.
        trunk = drafter.forward(len(ids) - 1, ids[-1:]).logits.copy()
        assert distance(trunk, fresh.forward(0, ids).logits) < near(drafter)
        branches: list[list[int]] = []
        nodes = []
        for batch in (2, 3, 4):
            before = len(branches)
            parents = [int(rng.integers(-1, before)) for _ in range(batch)]
            new = some(batch)
            rows = drafter.grow(new, parents).copy()
            branches += [
                [*(branches[parent] if parent >= 0 else ()), len(nodes) + n] for n, parent in enumerate(parents)
            ]
            nodes += new
            for branch, row in zip(branches[before:], rows, strict=True):
                alone = fresh.forward(0, [*ids, *(nodes[node] for node in branch)]).logits.copy()
                assert distance(row, alone) < near(drafter)
                far.append(distance(row, fresh.forward(0, [*ids, *some(len(branch))]).logits))
        path = branches[int(rng.integers(len(branches)))]
        path = path[: int(rng.integers(0, len(path) + 1))]
        drafter.settle(path)
        ids += [*(nodes[node] for node in path), *some(1)]
    # The bound above tells branches apart.
    assert np.median(far) > 2.0 * near(drafter)


def test_what_hangs_from_the_path_can_stay_and_grows_on(pair: tuple[TreeDrafter, TreeDrafter]) -> None:
    """0 ─ 2 ─ 4 ─ 5, 0 ─ 3, 1 ─ 6, 2 ─ 7: with 0 and 2 settled, 4, 5 and 7 are the next tree's 0, 1 and 2."""
    drafter, fresh = pair
    ids, nodes = [5, 6, 7], [11, 12, 13, 14, 15, 16, 17, 18]
    drafter.forward(0, ids)
    for batch, parents in (
        (slice(0, 2), (-1, -1)),
        (slice(2, 4), (0, 0)),
        (slice(4, 5), (2,)),
        (slice(5, 8), (4, 1, 2)),
    ):
        drafter.grow(nodes[batch], parents)
    drafter.settle([0, 2], kept=[4, 5, 7])
    rows = drafter.grow([21, 22, 23, 24], [1, 2, 0, -1]).copy()
    trunk = [*ids, 11, 13]
    branches = ([15, 16, 21], [18, 22], [15, 23], [24])
    for row, branch in zip(rows, branches, strict=True):
        assert distance(row, fresh.forward(0, [*trunk, *branch]).logits) < near(drafter)
    drafter.settle([0, 1, 3])
    after = drafter.forward(len(trunk) + 3, [31]).logits.copy()
    assert distance(after, fresh.forward(0, [*trunk, 15, 16, 21, 31]).logits) < near(drafter)
    # What fell is gone, and its place is free again.
    row = drafter.grow([41], [-1])[0].copy()
    assert distance(row, fresh.forward(0, [*trunk, 15, 16, 21, 31, 41]).logits) < near(drafter)


def test_forward_drops_a_tree_nobody_settled(pair: tuple[TreeDrafter, TreeDrafter]) -> None:
    drafter, fresh = pair
    drafter.forward(0, [5, 6, 7])
    drafter.grow([8, 9], [-1, -1])
    after = drafter.forward(3, [10]).logits.copy()
    assert distance(after, fresh.forward(0, [5, 6, 7, 10]).logits) < near(drafter)
    with pytest.raises(InvalidRequestError, match="not all among the 0 nodes"):
        drafter.grow([8], [1])


@pytest.mark.parametrize(
    ("ids", "parents", "reason"),
    [
        ([], [], "at least one node"),
        ([1, 2], [-1], "2 ids and 1 parents"),
        ([1] * 65, [-1] * 65, "to at most 64"),
        ([1, 2], [-1, 0], "not all among the 0 nodes"),
        ([1_000_000], [-1], "outside the vocabulary"),
    ],
)
def test_nodes_that_do_not_fit_are_refused_and_nothing_changes(
    pair: tuple[TreeDrafter, TreeDrafter], ids: list[int], parents: list[int], reason: str
) -> None:
    drafter, fresh = pair
    drafter.forward(0, [5, 6, 7])
    with pytest.raises(InvalidRequestError, match=reason):
        drafter.grow(ids, parents)
    row = drafter.grow([8], [-1])[0].copy()
    assert distance(row, fresh.forward(0, [5, 6, 7, 8]).logits) < near(drafter)


def test_a_full_tree_fits_beside_a_full_context(pair: tuple[TreeDrafter, TreeDrafter]) -> None:
    drafter, _ = pair
    room = drafter.max_context
    drafter.forward(0, [5] * (room - 1))
    rows = drafter.grow(list(range(2, 66)), [-1] * 64)
    assert np.isfinite(rows).all()
    drafter.settle([0])
    with pytest.raises(InvalidRequestError, match="context is full"):
        drafter.forward(room, [5])


@pytest.mark.slow
def test_a_drafter_that_shows_attention_has_no_branches() -> None:
    drafter = LlamaDrafter(bundled.slm_path(), attention_layer=22, max_context=64, n_threads=1)
    drafter.forward(0, [5])
    with pytest.raises(ModelError, match="loaded without attention"):
        drafter.grow([6], [-1])
    drafter.close()
