"""Trees that are sent in several uploads: what comes of them is what the LLM writes alone, and bad ones leave it as it was."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from fakes import FakeEngine, contextual
from sessions import alone, opened
from sessions import ask as verdicts
from sessions import tree_upload as upload
from uihlm_basestation.batcher import Batcher
from uihlm_basestation.open_tree import OpenTree
from uihlm_proto.errors import InvalidRequestError
from uihlm_proto.limits import MAX_DRAFTS, MAX_TREE
from uihlm_proto.randomness import session_key
from uihlm_proto.v1 import verification_pb2 as pb

V, STOP = 12, 11
KEY = session_key(4, 0)


async def ask(session, request):
    (verdict,) = await verdicts(session, request)
    return verdict


def scenario(play, codec="coupled", stop_ids=(), max_context=64):
    """Run `play(session, engine, own)`, `own` being the 24 tokens that the LLM writes alone."""

    async def run():
        engine = FakeEngine(contextual(V, salt=1), V, ())
        batcher = Batcher(engine)
        try:
            own = await alone(engine, batcher, 24, KEY)
            engine.stop_ids, engine.max_context = frozenset(stop_ids), max_context
            session = await opened(engine, batcher, 1, KEY, codec)
            engine.log.clear()
            await play(session, engine, own)
        finally:
            await batcher.close()

    asyncio.run(run())


def other(token, *others):
    """A token that is none of these."""
    return next(i for i in range(V) if i not in (token, *others))


def test_the_walk_goes_on_in_what_was_sent_behind_it():
    """A root that stands, its draw in the second upload, a draw in the third that the second did not hold."""

    async def play(session, engine, own):
        first = await ask(session, upload(3, [own[0], other(own[0])], [-1, -1]))
        assert list(first.path) == [0] and first.token_id == own[1]
        # Nodes 2, 3 below node 0, 4 below 3: the draw is 3, the next one is 4.
        second = await ask(session, upload(3, [other(own[1]), own[1], own[2]], [0, 0, 3], continues=2))
        assert list(second.path) == [4] and second.token_id == own[3] and not second.stale
        assert second.y_d and second.cost.forwards == 1
        # Run anew: the draw of the first verdict and one node, nothing of the branch that fell.
        assert second.cost.positions == 2
        # Nothing that was sent holds the next draw.
        third = await ask(session, upload(3, [other(own[3])], [4], continues=5))
        assert third.stale and third.cost.forwards == 0
        # What comes last may hang from any node sent: here from 4, beside a node that fell.
        fourth = await ask(session, upload(3, [own[3]], [4], continues=6))
        assert not fourth.stale and list(fourth.path) == [] and fourth.token_id == own[4]
        # None of the draws took the place of a child that was judged: no correction.
        after = await ask(session, upload(3 + 5, [own[5]], [-1]))
        assert list(after.path) == [0] and after.token_id == own[6]

    scenario(play)


def test_a_draw_in_place_of_a_child_that_was_judged_is_a_correction():
    async def play(session, engine, own):
        await ask(session, upload(3, [own[0]], [-1]))
        second = await ask(session, upload(3, [own[1], other(own[2])], [0, 1], continues=1))
        assert not second.path and second.token_id == own[2]
        assert (await ask(session, upload(6, [own[3]], [-1]))).stale
        assert list((await ask(session, upload(6, [own[3]], [-1], epoch=1))).path) == [0]

    scenario(play)


def test_a_draw_that_took_the_place_of_a_root_can_be_followed():
    async def play(session, engine, own):
        first = await ask(session, upload(3, [other(own[0])], [-1]))
        assert not first.path and first.token_id == own[0]
        second = await ask(session, upload(3, [own[0], own[1]], [-1, 1], continues=1))
        assert list(second.path) == [2] and second.token_id == own[2]

    scenario(play)


def test_uploads_on_branches_that_fell_are_stale_and_change_nothing():
    async def play(session, engine, own):
        await ask(session, upload(3, [other(own[0])], [-1]))
        stale = await ask(session, upload(3, [other(own[1])], [0], continues=1))
        assert stale.stale and not stale.HasField("token_id")
        # A tree of its own takes its place, and what still comes for the old one is of another epoch.
        assert list((await ask(session, upload(4, [own[1]], [-1], epoch=1))).path) == [0]
        late = await ask(session, upload(3, [own[0]], [-1], continues=2, epoch=0))
        assert late.stale and late.cost.forwards == 0
        assert not (await ask(session, upload(6, [own[3]], [-1], epoch=1))).stale

    scenario(play)


def test_nothing_follows_a_stop_token():
    async def play(session, engine, own):
        end = own.index(STOP)
        verdict = await ask(session, upload(3, own[:end], range(-1, end - 1)))
        assert verdict.token_id == STOP and list(verdict.path) == list(range(end))
        assert (await ask(session, upload(3, [STOP, 1], [end - 1, end], continues=end))).stale

    scenario(play, stop_ids=(STOP,))


@pytest.mark.parametrize("kind", ["chain", "generate", "skipped"])
def test_any_other_upload_ends_the_tree(kind):
    async def play(session, engine, own):
        await ask(session, upload(3, [own[0]], [-1]))
        requests = {
            "chain": upload(5, [own[2]], []),
            "generate": pb.Upload(first_position=5, generate=1),
            "skipped": upload(6, [own[3]], [], skipped_ids=[own[2]]),
        }
        assert not (await ask(session, requests[kind])).stale
        # Not even where it holds the id that came last.
        last = own[3] if kind == "skipped" else own[2]
        assert (await ask(session, upload(3, [last], [0], continues=1))).stale

    scenario(play)


BAD = {
    "another number of nodes": ({"continues": 2}, "continues a tree of 2 nodes at position 3, but 1 were sent"),
    "another position": ({"position": 4}, "continues a tree of 1 nodes at position 4"),
    "no parents": ({"parents": []}, r"parents \[\] for nodes 1 … 1"),
    "a parent that is not there": ({"parents": [1]}, r"parents \[1\] for nodes 1 … 1"),
    "a parent below -1": ({"parents": [-2]}, r"parents \[-2\]"),
    "a twin of a node sent before": ({"tokens": ["own"], "parents": [-1]}, "drafts 0 and 1 are siblings"),
    "an id out of range": ({"tokens": [V]}, "draft id 12 is outside"),
    "nothing": ({"tokens": [], "parents": []}, "holds drafts and their parents, and nothing else"),
    "skipped ids": ({"skipped_ids": [1]}, "and nothing else"),
    "context ids": ({"context_ids": [1]}, "and nothing else"),
    "an audit": ({"audit": b"1"}, "and nothing else"),
    "generate": ({"generate": 1}, "and nothing else"),
    "a guess": ({"assumed_id": 1}, "and nothing else"),
    "an epoch to come": ({"epoch": 1}, "epoch 1 is ahead"),
    "too many drafts": (
        {"tokens": [1] * (MAX_DRAFTS + 1), "parents": range(MAX_DRAFTS + 1)},
        f"65 drafts in one upload: at most {MAX_DRAFTS}",
    ),
    "deeper than the context": ({"tokens": ["next", *[1] * 12], "parents": range(13)}, "positions are needed"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_continuation_is_refused_and_the_session_is_as_it_was(kind):
    fields, says = BAD[kind]

    async def play(session, engine, own):
        await ask(session, upload(3, [own[0]], [-1]))
        ran = len(engine.log)
        given = {"position": 3, "tokens": [other(own[1])], "parents": [0], "continues": 1, **fields}
        named = {"own": own[0], "next": own[1]}
        given["tokens"] = [named.get(token, token) for token in given["tokens"]]
        with pytest.raises(InvalidRequestError, match=says):
            await ask(session, upload(**given))
        assert len(engine.log) == ran, "a bad upload reached the engine"
        good = await ask(session, upload(3, [own[1], own[2]], [0, 1], continues=1))
        assert list(good.path) == [2] and good.token_id == own[3]

    scenario(play, max_context=16)


def test_a_codec_that_says_more_than_ids_has_no_trees():
    async def play(session, engine, own):
        with pytest.raises(InvalidRequestError, match="open the session with the codec coupled"):
            await ask(session, upload(3, [1], [-1], continues=1))

    scenario(play, codec="dense32")


def test_a_tree_does_not_grow_for_ever():
    tree = OpenTree(0, 3, (0,) * MAX_TREE, tuple(range(-1, MAX_TREE - 1)))
    with pytest.raises(InvalidRequestError, match=f"{MAX_TREE + 1} nodes: at most {MAX_TREE}"):
        tree.with_more(pb.Upload(continues=MAX_TREE, first_position=3, parents=[0]), [1])


def test_what_hangs_from_a_node():
    tree = OpenTree(0, 0, (4, 5, 6, 7, 8), (-1, 0, 0, 1, 2), end=0)
    assert tree.after(6) == 2 and tree.after(4) is None
    assert tree.below(0) == [1, 2, 3, 4] and tree.below(1) == [3] and tree.below(4) == []
    assert tree.hanging(0, [1, 2, 3, 4]) == ([5, 6, 7, 8], [-1, -1, 0, 1])


def test_y_is_that_of_a_tree_sent_at_once():
    """Of each token that stands, bit for bit; the draw between two uploads is judged by nobody."""
    known = []

    async def whole(session, engine, own):
        known.extend((await ask(session, upload(3, own[:6], range(-1, 5)))).y_d)

    async def parted(session, engine, own):
        first = await ask(session, upload(3, own[:2], [-1, 0]))
        second = await ask(session, upload(3, own[2:6], [1, 2, 3, 4], continues=2))
        assert np.array_equal([*first.y_d, *second.y_d], [*known[:2], *known[3:]])

    scenario(whole)
    scenario(parted)
