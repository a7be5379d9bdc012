"""Attention weights from the inputs of fused attention: the equation, what is refused, and llama.cpp's own word on both."""

import ctypes
import sys

import numpy as np
import pytest

from uihlm_device.drafters import graph_tensors
from uihlm_device.drafters.attention_tap import AttentionTap
from uihlm_device.drafters.fused_attention import FusedAttention
from uihlm_device.drafters.graph_tensors import FusedNode, GraphTensors
from uihlm_device.drafters.llama_drafter import LlamaDrafter
from uihlm_device.record import Wants
from uihlm_models import bundled
from uihlm_models.errors import ModelError

HEADS, GROUPS, WIDTH, CELLS = 6, 2, 8, 16
QUERIES, KEYS, MASK = 1, 2, 4


def half_bits(values):
    """The upper halves of floats: BF16, rounded towards zero."""
    return (values.view(np.uint32) >> 16).astype(np.uint16)


class Graph:
    """Tensors in NumPy: what `GraphTensors` would have read."""

    def __init__(self, tokens, length, keys_as=np.float32, scale=0.3, softcap=0.0, sinks=0, mask=MASK):
        generator = np.random.default_rng(length)
        self.node = FusedNode(0, scale, softcap, QUERIES, KEYS, 3, mask, sinks)
        keys = generator.normal(size=(GROUPS, CELLS, WIDTH)).astype(np.float32)
        if keys_as is np.uint16:
            bits = half_bits(keys)
            self.keys, stored = (bits.astype(np.uint32) << 16).view(np.float32), bits
        else:
            stored = keys.astype(keys_as)
            self.keys = stored.astype(np.float32)
        self.queries = generator.normal(size=(HEADS, tokens, WIDTH)).astype(np.float32)
        seen = np.arange(CELLS) <= np.arange(length - tokens, length)[:, np.newaxis]
        self.mask = np.where(seen, 0.0, -np.inf).astype(np.float16)[np.newaxis]
        self.tensors = {QUERIES: self.queries, KEYS: stored, MASK: self.mask}
        self.read = []

    def fused(self, output):
        return self.node

    def rows(self, address, start, stop):
        self.read.append((address, start, stop))
        return self.tensors[address][:, start:stop].copy()

    def expected(self, length):
        """softmax(softcap(s · Q Kᵀ) + M), head by head, in float64."""
        found = np.empty((HEADS, self.queries.shape[1], length))
        for head in range(HEADS):
            scores = self.queries[head].astype(np.float64) @ self.keys[head // (HEADS // GROUPS)].T * self.node.scale
            if self.node.softcap:
                scores = self.node.softcap * np.tanh(scores / self.node.softcap)
            weights = np.exp(scores + self.mask[0])
            found[head] = (weights / weights.sum(axis=1, keepdims=True))[:, :length]
        return found


def weights(attention, tokens, length, every_row):
    """As a graph runs, and once it has: what later nodes of it write over is not looked at any more."""
    graph = attention._tensors
    attention.catch(0, tokens, every_row)
    held = dict(graph.tensors)
    for address in (QUERIES, MASK):
        graph.tensors[address] = np.full_like(held[address], np.nan)
    found = attention.weights(length)
    graph.tensors = held
    return found


@pytest.mark.parametrize("softcap", [0.0, 1.5])
@pytest.mark.parametrize("keys_as", [np.float32, np.float16, np.uint16])
def test_weights_are_the_softmax_of_the_scaled_products(keys_as, softcap):
    graph = Graph(3, 9, keys_as, softcap=softcap)
    every = weights(FusedAttention(graph), 3, 9, every_row=True)
    np.testing.assert_allclose(every, graph.expected(9), atol=1e-6)
    last = weights(FusedAttention(graph), 3, 9, every_row=False)
    np.testing.assert_allclose(last, every[:, -1:], atol=1e-6)


def test_keys_are_read_once_and_again_where_positions_ran_again():
    attention = FusedAttention(Graph(1, 5))
    for length, kept, read in ((5, 0, (0, 5)), (6, 5, (5, 6)), (8, 6, (6, 8)), (7, 3, (3, 7))):
        graph = attention._tensors = Graph(1, length)
        if length > 5:
            attention.kept = kept
            # What was kept came from other graphs: these positions' keys must be this one's.
            attention._keys[:, :kept] = graph.keys[:, :kept]
        np.testing.assert_allclose(weights(attention, 1, length, False), graph.expected(length), atol=1e-6)
        assert (KEYS, *read) in graph.read
        assert attention.kept == length


def test_more_positions_than_there_was_room_for(monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "CELLS", 700)
    attention = FusedAttention(Graph(1, 200))
    weights(attention, 1, 200, False)
    graph = attention._tensors = Graph(1, 600)
    attention._keys[:, :200] = graph.keys[:, :200]
    np.testing.assert_allclose(weights(attention, 1, 600, False), graph.expected(600), atol=1e-6)
    assert (KEYS, 200, 600) in graph.read


def distances(graph):
    graph.mask[0, -1, :9] = -np.arange(9)[::-1]


def holes(graph):
    graph.mask[0, -1, [3, 12]] = graph.mask[0, -1, [12, 3]]


def nothing(graph):
    graph.mask[0, -1] = -np.inf


def itself(graph):
    graph.mask[0, -1, 8] = -np.inf


@pytest.mark.parametrize("spoil", [distances, holes, nothing, itself])
def test_cells_that_are_not_positions_are_refused(spoil):
    graph = Graph(2, 9)
    spoil(graph)
    for every_row in (False, True):
        with pytest.raises(ModelError, match="by position"):
            weights(FusedAttention(graph), 2, 9, every_row)


def test_what_lies_outside_a_window_weighs_nothing():
    graph = Graph(3, 9)
    for row, token in enumerate(range(6, 9)):
        graph.mask[0, row, : token - 3] = -np.inf
    for every_row in (False, True):
        found = weights(FusedAttention(graph), 3, 9, every_row)
        np.testing.assert_allclose(found, graph.expected(9)[:, 0 if every_row else 2 :], atol=1e-6)
        assert np.all(found[:, -1, :5] == 0.0) and np.all(found[:, -1, 5:] > 0.0)


@pytest.mark.parametrize("without", [{"sinks": 5}, {"mask": 0}])
def test_weights_that_do_not_sum_to_one_are_refused(without):
    with pytest.raises(ModelError, match="sinks"):
        FusedAttention(Graph(1, 4, **without)).catch(0, 1, False)


class Memory:
    """One tensor in memory, laid out as ggml does it; numbers are copied from where its data points."""

    def __init__(self, numbers, kind=0, op=0, streams=1):
        self.numbers = numbers
        self.block = ctypes.create_string_buffer(512)
        planes, rows, width = numbers.shape
        strides = [*numbers.strides[::-1], numbers.nbytes]
        graph_tensors._SHAPE.pack_into(self.block, 0, kind, width, rows, planes, streams, *strides)
        ctypes.c_int32.from_buffer(self.block, 80).value = op

    @property
    def address(self):
        return ctypes.addressof(self.block)


@pytest.fixture
def tensors():
    found, known = GraphTensors(), {}

    def copy(address, to, offset, size):
        ctypes.memmove(to, known[address].numbers.ctypes.data + offset, size)

    found._copy = copy
    found.known = known
    return found


def put(tensors, *more, **settings):
    memory = Memory(*more, **settings)
    tensors.known[memory.address] = memory
    return memory.address


def test_rows_are_read_whatever_the_order_in_memory(tensors):
    numbers = np.arange(2 * 3 * 4, dtype=np.float32).reshape(3, 2, 4)
    # As the cache holds keys: cell by cell, all heads of one together.
    address = put(tensors, numbers.transpose(1, 0, 2))
    np.testing.assert_array_equal(tensors.rows(address, 1, 3), numbers.transpose(1, 0, 2)[:, 1:3])
    np.testing.assert_array_equal(tensors.rows(address, 2, 3), numbers.transpose(1, 0, 2)[:, 2:3])
    with pytest.raises(ModelError, match="up to row 4"):
        tensors.rows(address, 3, 4)


@pytest.mark.parametrize("strange", [{"kind": 8}, {"streams": 2}])
def test_numbers_of_other_kinds_are_refused(tensors, strange):
    with pytest.raises(ModelError, match="unexpected tensor"):
        tensors.rows(put(tensors, np.zeros((1, 2, 3), np.float32), **strange), 0, 1)


def test_what_is_no_fused_attention_is_refused(tensors):
    output, source = Memory(np.zeros((1, 1, 1), np.float32)), Memory(np.zeros((1, 1, 1), np.float32), op=3)
    with pytest.raises(ModelError, match="not fused"):
        tensors.fused(output.address)
    ctypes.c_void_p.from_buffer(output.block, 152).value = source.address
    with pytest.raises(ModelError, match="not fused"):
        tensors.fused(output.address)


def test_another_layout_is_noticed_before_it_is_believed(tensors):
    output = Memory(np.zeros((1, 1, 1), np.float32))
    ctypes.c_void_p.from_buffer(output.block, 152).value = 8  # no address of anything
    tensors._get_name = lambda address: address + 240
    with pytest.raises(ModelError, match="another way"):
        tensors.fused(output.address)
    tensors._get_bytes = lambda address: 7
    with pytest.raises(ModelError, match="another way"):
        tensors.rows(put(tensors, np.zeros((1, 2, 3), np.float32)), 0, 1)


def test_readers_do_not_pile_up(tensors):
    for rows in range(1, 200):
        assert tensors.rows(put(tensors, np.zeros((1, rows, 3), np.float32)), 0, rows).shape == (1, rows, 3)
    assert len(tensors._readers) <= 64


def test_positions_that_run_again_are_read_again():
    tap = AttentionTap(3)
    tap._attention[3].kept = 40
    tap.begin(2, 33, capture=False, every_row=False)
    assert tap._attention[3].kept == 31
    tap.begin(1, 34, capture=True, every_row=False)
    assert tap._attention[3].kept == 31


@pytest.mark.parametrize("step", ["catch", "weights"])
def test_whatever_goes_wrong_is_told_as_what_cannot_be_read(monkeypatch, step):
    """Nothing may leave the callback, and who asks for weights knows one error."""

    def strange(*asked):
        raise TypeError("strange tensor")

    monkeypatch.setattr(FusedAttention, "catch", lambda *asked: None)
    monkeypatch.setattr(FusedAttention, step, strange)
    tap = AttentionTap(3)
    monkeypatch.setattr(tap._tensors, "name", lambda tensor: b"kqv_out-3")
    tap.begin(1, 4, capture=True, every_row=False)
    # Asked, and called back with its data.
    assert tap.answer(8) and tap.answer(8) and tap.captured
    with pytest.raises(ModelError, match="layer 3 cannot be read: strange tensor"):
        tap.weights(3)


@pytest.mark.slow
def test_weights_times_values_are_what_the_library_puts_out(monkeypatch):
    """The equation on the bundled model: A · V is the node's own output, but for its 16-bit numbers."""
    found, put_out = [], {}
    honest_catch, honest_weights = FusedAttention.catch, FusedAttention.weights

    def catch(self, output, tokens, every_row):
        honest_catch(self, output, tokens, every_row)
        source = ctypes.c_void_p.from_address(output + 152).value
        # [token, head, width]
        outputs = GraphTensors().rows(source, 0, len(self._queries))
        put_out[self] = outputs[-self._queries.shape[1] :].copy()

    def weights(self, length):
        own = honest_weights(self, length)
        values = GraphTensors().rows(self._node.values, 0, length)
        if values.dtype == np.uint16:
            values = (values.astype(np.uint32) << 16).view(np.float32)
        values = values.astype(np.float64)
        values = values.repeat(len(own) // len(values), axis=0)
        found.append((np.einsum("hrn,hnw->rhw", own, values), put_out[self]))
        return own

    monkeypatch.setattr(FusedAttention, "catch", catch)
    monkeypatch.setattr(FusedAttention, "weights", weights)
    drafter = LlamaDrafter(bundled.slm_path(), attention_layer=22, max_context=512, n_threads=1)
    found.clear()  # of the row that was tried at the load
    ids = [int(i) for i in np.random.default_rng(0).integers(1000, 40000, 300)]
    wants = Wants(attention=True, attention_layers=True)
    drafter.forward(0, ids, wants)
    drafter.forward(300, [5], wants)
    drafter.forward(290, [6, 7], wants)
    drafter.close()
    assert len(found) == 3 * 26
    for expected, outputs in found:
        size = np.sqrt((outputs**2).mean())
        # The library rounds Q to BF16 and sums in 16 bits.
        assert np.sqrt(((expected - outputs) ** 2).mean()) < 0.01 * size
        # A check of the check: the values of a neighbour.
        assert np.sqrt(((np.roll(expected, 1, axis=-1) - outputs) ** 2).mean()) > 0.5 * size
