"""Rows of one cache: many sessions in one forward, each as if it were alone."""

from __future__ import annotations

import numpy as np
import pytest

from tiny_torch import VOCABULARY_SIZE, on_one_thread, write_tiny_llama
from uihlm_models.pytorch.runtime import TorchSettings, WeightType, load_torch
from uihlm_models.pytorch.slots import SlotRun, TorchSlots

CPU = TorchSettings(WeightType.FLOAT32, device_map="cpu")
TOLERANCE = 1e-4


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    yield from on_one_thread()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return load_torch(write_tiny_llama(tmp_path_factory.mktemp("tiny")), CPU)


@pytest.fixture
def calls(tiny, monkeypatch):
    """The shape of the ids of every forward."""
    shapes = []
    forward = tiny.module.forward

    def counted(ids, **named):
        shapes.append(tuple(ids.shape))
        return forward(ids, **named)

    monkeypatch.setattr(tiny.module, "forward", counted)
    return shapes


def ids(rng, count):
    return [int(i) for i in rng.integers(2, VOCABULARY_SIZE, count)]


def alone(model, prefix, rows=1):
    """What a cache of its own gives."""
    return model.run(model.new_cache(), prefix, rows)


def test_one_row_runs_what_a_cache_of_its_own_runs_bit_for_bit(tiny):
    rng = np.random.default_rng(0)
    slots, cache = TorchSlots(tiny, 3, 400), tiny.new_cache()
    for keep, count in ((0, 30), (30, 1), (28, 1), (29, 4), (20, 300)):
        new = ids(rng, count)
        tiny.cut(cache, keep)
        slots.cut(1, keep)
        np.testing.assert_array_equal(slots.run([SlotRun(1, new, 1)])[0], tiny.run(cache, new, 1))


def test_those_who_ask_for_as_much_go_in_one_forward(tiny, calls):
    rng = np.random.default_rng(1)
    slots, held = TorchSlots(tiny, 8, 400), {}
    for slot in range(8):
        held[slot] = ids(rng, 5 + 7 * slot)
        slots.run([SlotRun(slot, held[slot], 0)])
    calls.clear()
    for order in (range(8), (5, 2, 7), (3, 4, 5, 6)):
        new = {slot: ids(rng, 1) for slot in order}
        rows = slots.run([SlotRun(slot, new[slot], 1) for slot in order])
        for slot, row in zip(order, rows, strict=True):
            held[slot] += new[slot]
            np.testing.assert_allclose(row, alone(tiny, held[slot]), atol=TOLERANCE)
    assert [shape for shape in calls if shape[0] > 1] == [(8, 1), (3, 1), (4, 1)]


def test_lengths_that_differ_are_padded_up_to_a_third(tiny, calls):
    rng = np.random.default_rng(2)
    slots = TorchSlots(tiny, 6, 400)
    counts = [4, 5, 5, 60, 61, 1]
    runs = [SlotRun(slot, ids(rng, count), min(count, 2)) for slot, count in enumerate(counts)]
    got = slots.run(runs)
    shapes = list(calls)
    assert sorted(shapes) == [(1, 1), (2, 61), (3, 5)]
    for run, rows in zip(runs, got, strict=True):
        np.testing.assert_allclose(rows, alone(tiny, run.ids, run.rows), atol=TOLERANCE)


def test_rows_after_random_company_and_rollbacks_are_those_of_a_fresh_run(tiny):
    rng = np.random.default_rng(3)
    slots, held = TorchSlots(tiny, 5, 400), {slot: [] for slot in range(5)}
    for _ in range(25):
        runs = []
        for slot in map(int, rng.permutation(5)[: rng.integers(2, 6)]):
            keep = int(rng.integers(max(0, len(held[slot]) - 5), len(held[slot]) + 1))
            slots.cut(slot, keep)
            new = ids(rng, int(rng.integers(1, 7)))
            held[slot] = held[slot][:keep] + new
            runs.append(SlotRun(slot, new, int(rng.integers(0, len(new) + 1))))
        for run, rows in zip(runs, slots.run(runs), strict=True):
            assert rows.shape == (run.rows, VOCABULARY_SIZE) and rows.dtype == np.float32
            np.testing.assert_allclose(rows, alone(tiny, held[run.slot], run.rows), atol=TOLERANCE)
            assert slots.length(run.slot) == len(held[run.slot])


def test_trees_of_several_rows_go_together_and_their_paths_stay(tiny, calls):
    rng = np.random.default_rng(4)
    slots = TorchSlots(tiny, 3, 400)
    prefixes = [ids(rng, 6 + slot) for slot in range(3)]
    nodes = [ids(rng, 4) for _ in range(3)]
    parents = [-1, -1, 1, 2]
    for slot, prefix in enumerate(prefixes):
        slots.run([SlotRun(slot, prefix, 0)])
    calls.clear()
    rows = slots.run([SlotRun(slot, own, 4, parents) for slot, own in enumerate(nodes)])
    assert calls == [(3, 4)]
    for prefix, own, got in zip(prefixes, nodes, rows, strict=True):
        for row, path in zip(got, ([0], [1], [1, 2], [1, 2, 3]), strict=True):
            np.testing.assert_allclose(row, alone(tiny, [*prefix, *(own[n] for n in path)])[0], atol=TOLERANCE)
    new = [ids(rng, 1) for _ in range(3)]
    for slot, prefix in enumerate(prefixes):
        slots.keep_path(slot, len(prefix), [1, 2])
    for prefix, own, more, row in zip(
        prefixes, nodes, new, slots.run([SlotRun(slot, more, 1) for slot, more in enumerate(new)]), strict=True
    ):
        np.testing.assert_allclose(row, alone(tiny, [*prefix, own[1], own[2], *more]), atol=TOLERANCE)


def test_memory_is_taken_as_rows_fill(tiny):
    slots = TorchSlots(tiny, 100, 1000)
    slots.run([SlotRun(0, [5, 6, 7], 1)])
    layer = slots._cache.layers[0]
    assert layer.keys.shape[0] == 1 and layer.keys.shape[2] == 256
    slots.run([SlotRun(1, [5] * 300, 1)])
    assert layer.keys.shape[0] == 2 and layer.keys.shape[2] == 512
    np.testing.assert_allclose(slots.run([SlotRun(0, [8], 1)])[0], alone(tiny, [5, 6, 7, 8]), atol=TOLERANCE)
