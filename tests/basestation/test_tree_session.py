"""Trees of drafts through a session: what comes of them is what the LLM writes alone, and bad ones leave it as it was."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from fakes import FakeEngine, contextual, mixed
from sessions import PREFIX, alone, ask, opened, tree_upload
from uihlm_basestation.batcher import Batcher
from uihlm_proto.codecs import codec
from uihlm_proto.errors import InvalidRequestError
from uihlm_proto.limits import MAX_DRAFTS
from uihlm_proto.randomness import Role, session_key, words
from uihlm_proto.sampling import Sampling
from uihlm_proto.v1 import verification_pb2 as pb

V = 12
STOP = 11
LLM = contextual(V, salt=1)
DRAFTER = mixed(LLM, contextual(V, salt=2), 0.4)


def draft_tree(ids, key, rng, nodes):
    """Nodes and parents: under some node met before, the best of log x + G that it does not have yet."""
    tokens, parents, contexts = [], [], [list(ids)]
    for _ in range(nodes):
        above = int(rng.integers(max(0, len(contexts) - 4), len(contexts)))
        x = Sampling().distribution(DRAFTER(contexts[above]))
        noise = -np.log((words(key, Role.GUMBEL, len(contexts[above]), V).astype(float) + 1) / 2.0**64)
        taken = {t for t, p in zip(tokens, parents, strict=True) if p == above - 1}
        token = next(int(t) for t in np.argsort(noise / x) if int(t) not in taken)
        tokens.append(token)
        parents.append(above - 1)
        contexts.append([*contexts[above], token])
    return tokens, parents


def scenario(play, stop_ids=()):
    async def run():
        engine = FakeEngine(LLM, V, stop_ids)
        batcher = Batcher(engine)
        try:
            return await play(engine, batcher)
        finally:
            await batcher.close()

    return asyncio.run(run())


@pytest.mark.slow
def test_trees_write_what_the_llm_writes_alone_token_by_token():
    """Three thousand tokens in two sessions at once, of trees of many shapes, with skips and chains between them."""

    async def write(engine, batcher, number, seed, target):
        key, rng, ids, epoch = session_key(seed, 0), np.random.default_rng(seed), list(PREFIX), 0
        session = await opened(engine, batcher, number, key)
        trips = deepest = 0
        while len(ids) < target:
            nodes = int(rng.integers(1, 12))
            if rng.random() < 0.15:
                tokens, parents = draft_tree(ids, key, rng, 1)
                (verdict,) = await ask(session, tree_upload(len(ids), tokens, [], epoch=epoch))
                ids += [*tokens[: verdict.accepted], *([verdict.token_id] if verdict.HasField("token_id") else [])]
                epoch += verdict.accepted == 0
                continue
            tokens, parents = draft_tree(ids, key, rng, nodes)
            (verdict,) = await ask(session, tree_upload(len(ids), tokens, parents, epoch=epoch))
            assert not verdict.stale and verdict.accepted == len(verdict.path) == len(verdict.y_d)
            ids += [*(tokens[node] for node in verdict.path), verdict.token_id]
            epoch += (verdict.path[-1] if verdict.path else -1) in parents
            trips, deepest = trips + 1, max(deepest, verdict.accepted)
        assert ids[len(PREFIX) :] == await alone(engine, batcher, len(ids) - len(PREFIX), key)
        return (len(ids) - len(PREFIX)) / trips, deepest

    async def play(engine, batcher):
        outcomes = [await write(engine, batcher, 98, 7, 1500)]
        outcomes += [await write(engine, batcher, 97, 8, 1500)]
        return outcomes

    for tokens_a_trip, deepest in scenario(play):
        assert tokens_a_trip > 1.5 and deepest >= 3, "trees this bad test nothing"


def test_an_accepted_path_is_not_run_again():
    async def play(engine, batcher):
        key, rng = session_key(3, 0), np.random.default_rng(3)
        session, ids, epoch = await opened(engine, batcher, 1, key), list(PREFIX), 0
        for trip in range(40):
            tokens, parents = draft_tree(ids, key, rng, 8)
            (verdict,) = await ask(session, tree_upload(len(ids), tokens, parents, epoch=epoch))
            # The token the last verdict ended with, and the tree: nothing else.
            assert verdict.cost.positions == 8 + (trip > 0) and verdict.cost.forwards == 1
            ids += [*(tokens[node] for node in verdict.path), verdict.token_id]
            epoch += (verdict.path[-1] if verdict.path else -1) in parents
        assert any(part.path[1:] for part in engine.log), "no path of two nodes ever stood"

    scenario(play)


def test_a_stop_token_inside_the_tree_ends_the_walk_and_the_session_goes_on():
    async def play(engine, batcher):
        stops = 0
        for seed in range(60):
            key = session_key(seed, 1)
            engine.stop_ids = frozenset()  # the LLM writes on, so that what follows a stop token is known
            own = await alone(engine, batcher, 6, key)
            engine.stop_ids = frozenset({STOP})
            if STOP not in own[:4]:
                continue
            stops += 1
            end = own.index(STOP)
            session = await opened(engine, batcher, 1, key)
            (verdict,) = await ask(session, tree_upload(3, own, range(-1, 5)))
            assert list(verdict.path) == list(range(end + 1)) and not verdict.HasField("token_id")
            # The row after it is at hand: two roots need no trunk, and nothing was corrected.
            position, following = 3 + end + 1, own[end + 1]
            (after,) = await ask(session, tree_upload(position, [following, (following + 1) % V], [-1, -1]))
            assert after.cost.positions == 2 and list(after.path) == [0]
            batcher.close_session(1)
        assert stops >= 3

    scenario(play)


BAD_TREES = {
    "too few parents": ({"tokens": [1, 2], "parents": [-1]}, "1 parents for 2 nodes"),
    "too many parents": ({"tokens": [1], "parents": [-1, 0]}, "2 parents for 1 nodes"),
    "a parent after its child": ({"tokens": [1, 2], "parents": [1, -1]}, "node 0 names parent 1"),
    "its own parent": ({"tokens": [1, 2], "parents": [-1, 1]}, "node 1 names parent 1"),
    "a parent below -1": ({"tokens": [1], "parents": [-2]}, "node 0 names parent -2"),
    "twins": ({"tokens": [1, 2, 2], "parents": [-1, 0, 0]}, "drafts 1 and 2 are siblings with one token 2"),
    "twin roots": ({"tokens": [4, 4], "parents": [-1, -1]}, "drafts 0 and 1 are siblings with one token 4"),
    "an id out of range": ({"tokens": [1, V], "parents": [-1, 0]}, "draft id 12 is outside"),
    "too many nodes": (
        {"tokens": [1] * (MAX_DRAFTS + 1), "parents": range(-1, MAX_DRAFTS)},
        f"65 drafts in one upload: at most {MAX_DRAFTS}",
    ),
    "parents of nothing": ({"tokens": [], "parents": [-1], "generate": 1}, "1 parents for 0 nodes"),
    "deeper than the context": ({"tokens": [1] * 10, "parents": range(-1, 9)}, "positions are needed"),
}


@pytest.mark.parametrize("kind", BAD_TREES)
def test_a_bad_tree_is_refused_and_the_session_is_as_it_was(kind):
    fields, words_of_it = BAD_TREES[kind]

    async def play(engine, batcher):
        engine.max_context = 20
        key, rng = session_key(5, 0), np.random.default_rng(5)
        own = await alone(engine, batcher, 16, key)
        session = await opened(engine, batcher, 1, key)
        # A first tree, so that a path waits to be kept.
        (verdict,) = await ask(session, tree_upload(3, [*own[:2], (own[1] + 1) % V], [-1, 0, 0]))
        assert list(verdict.path) == [0, 1]
        ran = len(engine.log)
        ids = [*PREFIX, *own[:3]]
        position = len(ids) + 6 if kind == "deeper than the context" else len(ids)
        skipped = [0] * (position - len(ids))
        with pytest.raises(InvalidRequestError, match=words_of_it):
            await ask(session, tree_upload(position, skipped_ids=skipped, **fields))
        assert len(engine.log) == ran, "a bad tree reached the engine"
        tokens, parents = draft_tree(ids, key, rng, 6)
        (verdict,) = await ask(session, tree_upload(len(ids), tokens, parents))
        assert [*(tokens[n] for n in verdict.path), verdict.token_id] == own[3 : 4 + len(verdict.path)]

    scenario(play)


@pytest.mark.parametrize("name", ["dense32", "dense16"])
def test_a_tree_with_a_distribution_is_refused(name):
    async def play(engine, batcher):
        session = await opened(engine, batcher, 1, session_key(5, 0), name)
        payload = codec(name, V).draft(np.full(V, 1 / V), session_key(5, 0), 3).encode()
        with pytest.raises(InvalidRequestError, match=f"codec coupled, not {name}"):
            await ask(session, pb.Upload(first_position=3, drafts=[pb.Draft(payload=payload)], parents=[-1]))

    scenario(play)
