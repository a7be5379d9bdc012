"""A request in parts: the tail has the rows of the whole, and the parts hold every position once."""

import numpy as np
import pytest

from fakes import FakeEngine, contextual
from uihlm_basestation.chunks import Request
from uihlm_basestation.engines.engine import Work

V = 12
LOGITS = contextual(V, salt=3, window=50)


def in_parts(engine, work, size, missing=None):
    """Run a request in parts of at most `size` head positions; return the tail's rows and all parts."""
    request, parts = Request(work, missing=missing), []
    while request.head > size:
        part = request.first(size)
        assert 0 < len(part.new_ids) <= size and part.rows == 0 and part.more
        if not part.again:
            engine.forward([part])
        request.note(part)
        parts.append(part)
        if part.again:
            left = request.missing.new_ids[len(part.new_ids) :]
            start = part.keep_len + len(part.new_ids)
            request.missing = Work(work.session, start, left, 0, again=True) if left else None
    parts.append(request.last())
    assert not parts[-1].more
    return engine.forward(parts[-1:])[0], parts


@pytest.mark.parametrize("size", [1, 2, 5, 100])
@pytest.mark.parametrize("rows", [0, 1, 4])
def test_a_chain_in_parts_has_the_rows_of_the_whole(size, rows):
    prefix, ids = Work(1, 0, [1, 2, 3], 0), [4, 5, 6, 7, 8, 9, 10]
    whole, cut = FakeEngine(LOGITS, V), FakeEngine(LOGITS, V)
    work = Work(1, 2, ids, rows)
    for engine in (whole, cut):
        engine.forward([prefix])
    got, parts = in_parts(cut, work, size)
    np.testing.assert_array_equal(got, whole.forward([work])[0])
    assert [i for part in parts for i in part.new_ids] == ids
    assert len(parts) == 1 + -(-max(0, len(ids) - rows - size) // size)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_only_the_trunk_of_a_tree_is_cut(size):
    trunk, nodes = [4, 5, 6, 7, 8], [9, 10, 11, 9]
    parents = [-1, 0, 1, 2, 3, 4, 4, 5, 6]
    work = Work(1, 3, [*trunk, *nodes], 5, parents)
    whole, cut = FakeEngine(LOGITS, V), FakeEngine(LOGITS, V)
    for engine in (whole, cut):
        engine.forward([Work(1, 0, [1, 2, 3], 0)])
    got, parts = in_parts(cut, work, size)
    np.testing.assert_array_equal(got, whole.forward([work])[0])
    assert all(part.parents is None for part in parts[:-1]) and parts[-1].parents is not None
    assert len(parts[-1].new_ids) >= 5


def test_a_tree_of_two_roots_is_not_cut():
    request = Request(Work(1, 3, [4, 5, 6, 7], 0, [-1, 0, 1, -1]))
    assert request.head == 0
    assert request.last() is request.work


def test_a_path_goes_with_the_first_part_alone():
    request = Request(Work(1, 5, [4, 5, 6, 7], 1, path=[0, 2]))
    first = request.first(2)
    request.note(first)
    assert first.path == [0, 2] and first.keep_len == 5
    assert list(request.last().path) == [] and request.last().keep_len == 7


def test_what_is_missing_comes_first_and_changes_no_ids():
    engine = FakeEngine(LOGITS, V)
    engine.forward([Work(1, 0, [1, 2, 3, 4, 5], 0)])
    work = Work(1, 5, [6, 7, 8], 1)
    got, parts = in_parts(engine, work, 2, Work(1, 0, [1, 2, 3, 4, 5], 0, again=True))
    assert [list(part.new_ids) for part in parts if part.again] == [[1, 2], [3, 4], [5]]
    assert [part.keep_len for part in parts if part.again] == [0, 2, 4]
    np.testing.assert_array_equal(got[0], LOGITS([1, 2, 3, 4, 5, 6, 7, 8]))
