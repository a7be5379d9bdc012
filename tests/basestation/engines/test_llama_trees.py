"""Trees on the bundled LLM: the same floats as chains, whatever else the pool holds.

The cache is bfloat16, with which llama.cpp's fused attention gives a position the same floats in any batch
(docs/experiments.md); so everything here is compared bit for bit.
"""

from __future__ import annotations

import numpy as np
import pytest

from engine_trees import random_forwards, random_tree
from uihlm_basestation.engines import llama_trees
from uihlm_basestation.engines.engine import Work
from uihlm_basestation.engines.llama_engine import LlamaEngine
from uihlm_basestation.engines.trees import branches
from uihlm_models import bundled
from uihlm_models.errors import ModelError
from uihlm_models.llama.pool import LlamaPool
from uihlm_proto.errors import InvalidRequestError

pytestmark = pytest.mark.slow


def random_ids(rng, count):
    return [int(i) for i in rng.integers(1000, 40000, count)]


@pytest.fixture(scope="module")
def shared_engine():
    engine = LlamaEngine(bundled.llm_path(), max_sessions=3, max_context=256, n_batch=64, n_threads=1)
    yield engine
    engine.close()


@pytest.fixture
def engine(shared_engine):
    yield shared_engine
    for session in range(10):
        shared_engine.close_session(session)


@pytest.fixture(scope="module")
def fresh():
    """A second load: one session, always prefilled from nothing, never a tree."""
    engine = LlamaEngine(bundled.llm_path(), max_sessions=1, max_context=256, n_threads=1)

    def rows(ids, count=1):
        engine.close_session(0)
        return engine.forward([Work(0, 0, ids, count)])[0]

    yield rows
    engine.close()


def positions_run(monkeypatch):
    """Count what llama.cpp is asked to run in the pool."""
    counts = []
    right = LlamaPool.decode_shared

    def counting(self, ids, *others):
        counts.append(len(ids))
        return right(self, ids, *others)

    monkeypatch.setattr(LlamaPool, "decode_shared", counting)
    return counts


@pytest.mark.parametrize("nodes", [1, 4, 16, 64])
def test_every_branch_of_a_tree_has_the_floats_of_a_chain_and_so_has_what_follows_the_path_kept(engine, fresh, nodes):
    rng = np.random.default_rng(nodes)
    prompt, ids, parents = random_ids(rng, 40), random_ids(rng, nodes), random_tree(rng, nodes)
    engine.forward([Work(1, 0, prompt, 0)])
    (rows,) = engine.forward([Work(1, 40, ids, nodes, parents)])
    for branch in branches(parents)[:: 1 + nodes // 16]:
        assert np.array_equal(rows[branch], fresh([*prompt, *(ids[n] for n in branch)], len(branch)))
    path = max(branches(parents), key=len)
    after = random_ids(rng, 3)
    (rows,) = engine.forward([Work(1, 40 + len(path), after, 3, None, path)])
    assert np.array_equal(rows, fresh([*prompt, *(ids[n] for n in path), *after], 3))


@pytest.mark.parametrize(("fallen", "seed"), [(256, 1), (8, 2)])
def test_after_random_trees_chains_and_rollbacks_of_many_sessions_every_row_is_that_of_a_fresh_prefill(
    engine, fresh, monkeypatch, fallen, seed
):
    monkeypatch.setattr(llama_trees, "_MAX_FALLEN", fallen)
    rng = np.random.default_rng(seed)
    checked = 0
    for ids, row in random_forwards(engine, rng, lambda: int(rng.integers(1000, 40000)), 5, 10, 40):
        if rng.random() < 0.12:
            assert np.array_equal(row, fresh(ids)[0])
            checked += 1
    assert checked > 20


def test_a_path_that_stands_and_a_session_that_moves_are_not_run_again(engine, monkeypatch):
    rng = np.random.default_rng(3)
    counts = positions_run(monkeypatch)
    engine.forward([Work(1, 0, random_ids(rng, 50), 0), Work(2, 0, random_ids(rng, 20), 0)])
    assert counts == []  # in streams
    engine.forward([Work(1, 50, random_ids(rng, 4), 4, [-1, 0, 0, 2])])
    assert counts == [4]  # moved
    engine.forward([Work(1, 53, random_ids(rng, 5), 5, [-1, 0, 1, 1, 2], [0, 2, 3]), Work(2, 20, [7], 1)])
    assert counts == [4, 5]
    engine.forward([Work(1, 55, [9], 1, None, [0, 1])])
    assert counts == [4, 5, 1]


def test_one_id_after_another_stays_where_the_tree_was(engine, fresh, monkeypatch):
    """What goes on with single ids behind a tree has its cache in the pool, and not in a stream."""
    rng = np.random.default_rng(6)
    counts = positions_run(monkeypatch)
    prompt = random_ids(rng, 30)
    engine.forward([Work(1, 0, prompt, 0)])
    engine.forward([Work(1, 30, [7, 8, 9], 3, [-1, 0, 0])])
    held = [*prompt, 7, 9]
    (row,) = engine.forward([Work(1, 32, [11], 1, None, [0, 2])])
    for token in (12, 13, 14):
        held.append(token - 1)
        (row,) = engine.forward([Work(1, len(held), [token], 1)])
    assert np.array_equal(row, fresh([*held, 14]))
    assert counts == [3, 1, 1, 1, 1]


def test_a_neighbour_in_the_same_forward_is_unharmed(engine, fresh):
    rng = np.random.default_rng(4)
    prompts = {session: random_ids(rng, 15) for session in (1, 2, 3)}
    engine.forward([Work(session, 0, ids, 0) for session, ids in prompts.items()])
    texts = dict(prompts)
    for _ in range(3):
        trees = {session: (random_ids(rng, 9), random_tree(rng, 9)) for session in (1, 3)}
        work = [Work(s, len(texts[s]), ids, 9, parents) for s, (ids, parents) in trees.items()]
        chain = random_ids(rng, 2)
        work.insert(1, Work(2, len(texts[2]), chain, 2))
        rows = engine.forward(work)
        texts[2] = [*texts[2], *chain]
        assert np.array_equal(rows[1], fresh(texts[2], 2))
        for part, own in ((work[0], rows[0]), (work[2], rows[2])):
            branch = branches(part.parents)[-1]
            ids = [*texts[part.session], *(part.new_ids[n] for n in branch)]
            assert np.array_equal(own[branch], fresh(ids, len(branch)))


def test_more_leaves_than_sequences_and_a_log_that_fills_up(engine, fresh):
    """Three sessions of 63 branches each, over and over: other trees fall, the log is written anew, nobody reads wrong."""
    rng = np.random.default_rng(5)
    parents = [-1, *[0] * 63]
    texts = {session: random_ids(rng, 10) for session in range(4)}
    engine.forward([Work(session, 0, ids, 0) for session, ids in texts.items()])
    pending = dict.fromkeys(texts, ())
    for trip in range(4):
        ids = {session: random_ids(rng, 64) for session in texts}
        work = [Work(s, len(texts[s]), ids[s], 64, parents, pending[s]) for s in texts]
        for part, rows in zip(work, engine.forward(work), strict=True):
            leaf = 1 + 5 * trip + part.session
            own = texts[part.session]
            assert np.array_equal(rows[[0, leaf]], fresh([*own, part.new_ids[0], part.new_ids[leaf]], 2))
            pending[part.session] = (0, leaf)
            texts[part.session] = [*own, part.new_ids[0], part.new_ids[leaf]]


def test_a_bad_tree_is_refused_before_anything_runs(engine, fresh):
    engine.forward([Work(1, 0, [5, 6, 7], 0), Work(2, 0, [5, 6], 0)])
    engine.forward([Work(1, 3, [8, 9, 10], 1, [-1, 0, 0])])
    good = Work(2, 2, [11], 1)
    for bad, sentence in (
        (Work(1, 3, [8, 9], 1, [-1]), "1 parents for 2 nodes"),
        (Work(1, 3, [8, 9], 1, [-1, 1]), "node 1 names parent 1"),
        (Work(1, 5, [8], 1, None, [0, 0]), "does not run from a root"),
        (Work(1, 5, [8], 1, None, [1, 2]), "does not run from a root"),
        (Work(1, 5, [8], 1, None, [0]), "holds 4 positions, cannot keep 5"),
        (Work(1, 3, [8] * 67, 1, [-1, *[0] * 66]), "65 nodes beside its trunk"),
        (Work(1, 3, [8] * 254, 1, list(range(-1, 253))), "the context holds 256"),
        (Work(2, 2, [8], 1, None, [0]), "does not run from a root"),
    ):
        with pytest.raises(InvalidRequestError, match=sentence):
            engine.forward([good, bad] if bad.session == 1 else [bad])
    (rows,) = engine.forward([Work(1, 5, [12], 1, None, [0, 2])])
    assert np.array_equal(rows, fresh([5, 6, 7, 8, 10, 12]))


def test_a_failed_forward_leaves_the_path_to_be_kept(engine, fresh, monkeypatch):
    engine.forward([Work(1, 0, [5, 6, 7], 0)])
    engine.forward([Work(1, 3, [8, 9, 10], 1, [-1, 0, 0])])
    part = Work(1, 5, [12, 13], 2, [-1, 0], [0, 2])
    with monkeypatch.context() as patch:

        def fail(*_):
            raise ModelError("broken")

        patch.setattr(LlamaPool, "logits", fail)
        with pytest.raises(ModelError, match="broken"):
            engine.forward([part])
    (rows,) = engine.forward([part])
    assert np.array_equal(rows, fresh([5, 6, 7, 8, 10, 12, 13], 2))


def test_sessions_that_send_trees_are_computed_together_and_apart_from_chains(engine):
    engine.forward([Work(session, 0, [5, 6], 1) for session in (0, 1, 2)])
    engine.forward([Work(session, 2, [7, 8], 2, parents=[-1, -1]) for session in (0, 2)])
    assert engine.beside(0, [1, 2]) == [2]
    assert engine.beside(1, [0, 2]) == []
    assert engine.beside(9, [0, 1, 2, 8]) == [8]
