"""Which answers reject a draft: also where a path is empty, and the place it starts from is known from earlier answers."""

import asyncio

import numpy as np
import pytest

from fakes import FakeEngine, contextual
from sessions import KEY, PREFIX, alone, ask, opened, tree_upload
from uihlm_basestation.batcher import Batcher
from uihlm_basestation.observing.rejections import Rejections
from uihlm_proto.v1 import verification_pb2 as pb

V = 12


def verdict(token=None, path=(), stale=False):
    return pb.Verdict(token_id=token, path=path, stale=stale, accepted=len(path))


def begun():
    """A stream whose LLM drew 5 after node 0."""
    rejections = Rejections(V)
    assert not rejections.take(tree_upload(3, [4], [-1]), verdict(5, [0]))
    return rejections


def test_an_empty_path_rejects_what_hangs_from_the_llms_last_draw():
    assert begun().take(tree_upload(3, [5, 6], [0, 1], continues=1), verdict(7))


def test_an_empty_path_rejects_nothing_where_nothing_hangs():
    assert not begun().take(tree_upload(3, [6, 5, 6], [0, 0, 1], continues=1), verdict(7))


def test_the_next_walk_starts_where_an_empty_path_ended():
    rejections = begun()
    assert not rejections.take(tree_upload(3, [5], [0], continues=1), verdict(7))
    # Node 2 is the draw below node 1; the 7 below node 0 is another one, and has no child.
    assert rejections.take(tree_upload(3, [7, 7, 1], [1, 0, 2], continues=2), verdict(9))


def test_uploads_beside_the_llms_way_reject_nothing_and_change_nothing():
    rejections = begun()
    assert not rejections.take(tree_upload(3, [6, 5], [0, 1], continues=1), verdict(stale=True))
    assert rejections.take(tree_upload(3, [5, 6], [0, 3], continues=3), verdict(7))


def test_the_end_of_an_answer_is_no_rejection():
    assert not begun().take(tree_upload(3, [5, 6, 7], [0, 1, 2], continues=1), verdict(path=[2]))


@pytest.mark.parametrize("seed", range(3))
def test_rejections_are_the_corrections_of_the_session(seed):
    """Trees of random shape, begun and continued, of drafts that are often the LLM's own."""

    async def scene():
        engine, rng = FakeEngine(contextual(V, salt=1), V), np.random.default_rng(seed)
        batcher, rejections = Batcher(engine), Rejections(V)
        own = [*PREFIX, *await alone(engine, batcher, 220)]
        session = await opened(engine, batcher, 1, KEY)
        ids, seen = len(PREFIX), set()
        while ids < 200:
            first, epoch, tokens, parents, depth = ids, session._epoch, [], [], {-1: -1}
            # The nodes on the LLM's way, each below the one before it.
            way = [-1]
            for _ in range(int(rng.integers(1, 5))):
                known = len(tokens)
                for node in range(known, known + int(rng.integers(1, 6))):
                    parent = way[-1] if rng.random() < 0.6 else int(rng.integers(max(-1, node - 4), node))
                    depth[node] = depth[parent] + 1
                    taken = {t for t, p in zip(tokens, parents, strict=True) if p == parent}
                    drawn = own[first + depth[node]]
                    token = drawn if rng.random() < 0.5 else int(rng.integers(V))
                    tokens.append(token if token not in taken else next(t for t in range(V) if t not in taken))
                    parents.append(parent)
                    if parent == way[-1] and tokens[-1] == drawn:
                        way.append(node)
                upload = tree_upload(first, tokens[known:], parents[known:], continues=known, epoch=epoch)
                before = session._epoch
                (answer,) = await ask(session, upload)
                rejected = session._epoch - before
                assert rejections.take(upload, answer) == rejected
                seen.add((known > 0, answer.stale, len(answer.path) > 0, rejected))
                ids += 0 if answer.stale else len(answer.path) + 1
        await batcher.close()
        return seen

    seen = asyncio.run(scene())
    assert {(True, False, False, 1), (True, False, False, 0), (True, False, True, 1), (True, True, False, 0)} <= seen
