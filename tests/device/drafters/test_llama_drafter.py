"""The llama.cpp drafter on the bundled model: rollbacks leave no trace, attention is by position."""

import logging

import numpy as np
import pytest

from uihlm_device.drafters.llama_drafter import LlamaDrafter
from uihlm_device.record import Wants
from uihlm_models import bundled
from uihlm_models.errors import ModelError
from uihlm_proto.errors import InvalidRequestError

pytestmark = pytest.mark.slow

LAYER = 22
ATTENTION = Wants(attention=True)
PROBABILITY_TOLERANCE = 1e-3


def softmax(logits):
    p = np.exp(logits.astype(np.float64) - logits.max())
    return p / p.sum()


def random_ids(generator, count):
    return [int(i) for i in generator.integers(1000, 40000, count)]


@pytest.fixture(scope="module")
def drafter():
    drafter = LlamaDrafter(
        bundled.slm_path(), attention_layer=LAYER, attention_matrix=True, hidden=True, max_context=1024
    )
    yield drafter
    drafter.close()


@pytest.fixture(scope="module")
def tapped():
    drafter = LlamaDrafter(bundled.slm_path(), attention_layer=LAYER, max_context=1024)
    yield drafter
    drafter.close()


@pytest.fixture(scope="module")
def plain():
    drafter = LlamaDrafter(bundled.slm_path(), max_context=1024)
    yield drafter
    drafter.close()


@pytest.fixture(scope="module")
def reference():
    """Second loads, by whether attention is on, that only ever run a sequence from nothing."""
    loads = {
        True: LlamaDrafter(bundled.slm_path(), attention_layer=LAYER, max_context=1024),
        False: LlamaDrafter(bundled.slm_path(), max_context=1024),
    }
    yield loads
    for drafter in loads.values():
        drafter.close()


@pytest.mark.parametrize("kind", ["plain", "tapped"])
def test_next_distribution_after_rollbacks_equals_a_fresh_prefill(kind, reference, request):
    drafter = request.getfixturevalue(kind)
    generator = np.random.default_rng(1)
    text = drafter.tokenizer.encode("The capital of France is Paris, and the capital of Italy is")
    ids = []
    for step in range(12):
        keep = int(generator.integers(0, len(ids) + 1)) if step % 3 else len(ids)
        new = [text, random_ids(generator, 1), random_ids(generator, int(generator.integers(2, 30)))][step % 3]
        ids = [*ids[:keep], *new]
        got = softmax(drafter.forward(keep, new).logits)
        expected = softmax(reference[kind == "tapped"].forward(0, ids).logits)
        assert np.abs(got - expected).max() < PROBABILITY_TOLERANCE


@pytest.mark.parametrize("layer", [None, LAYER])
def test_token_by_token_a_rollback_leaves_no_trace(layer):
    """The loop of a drafter, as loaded by default: draft, be corrected, go on."""
    drafter = LlamaDrafter(bundled.slm_path(), attention_layer=layer, max_context=256)
    wants = Wants(attention=layer is not None)
    ids = random_ids(np.random.default_rng(11), 16)
    for n, token in enumerate(ids):
        for extra in range(n % 4):
            drafter.forward(n + extra, [7000 + n], wants)
        record = drafter.forward(n, [token], wants)
    logits = record.logits.copy()
    attention = None if record.attention is None else record.attention.copy()
    for n, token in enumerate(ids):
        record = drafter.forward(n, [token], wants)
    np.testing.assert_array_equal(record.logits, logits)
    if attention is not None:
        np.testing.assert_array_equal(record.attention, attention)
    drafter.close()


def test_attention_is_by_position_after_rollbacks(tapped, reference):
    generator = np.random.default_rng(2)
    ids = random_ids(generator, 30)
    tapped.forward(0, ids)
    for keep, count in ((30, 1), (20, 3), (22, 1), (23, 5), (3, 2), (5, 60), (64, 1)):
        new = random_ids(generator, count)
        ids = [*ids[:keep], *new]
        row = tapped.forward(keep, new, ATTENTION).attention.copy()
        assert row.shape == (tapped.n_head, len(ids))
        np.testing.assert_allclose(row.sum(axis=-1), 1.0, atol=1e-4)
        expected = reference[True].forward(0, ids, ATTENTION).attention
        np.testing.assert_allclose(row, expected, atol=1e-5)


def test_reading_attention_changes_no_logit(tapped, plain):
    ids = random_ids(np.random.default_rng(13), 40)
    for n in (30, 31, 40):
        for drafter in (tapped, plain):
            drafter.forward(0, ids[:n])
        read = tapped.forward(n, [5], ATTENTION).logits
        np.testing.assert_array_equal(read, plain.forward(n, [5]).logits)


def test_attention_is_caught_across_every_change_of_graph(tapped, caplog):
    """From 240 to 270 positions the padded number of cells changes; prefills of other lengths rebuild the graph too."""
    with caplog.at_level(logging.DEBUG, logger="uihlm_device.drafters.llama_drafter"):
        tapped.forward(0, random_ids(np.random.default_rng(3), 240), ATTENTION)
        for n in range(240, 270):
            assert tapped.forward(n, [5], ATTENTION if n % 2 else Wants()).logits.size
            row = tapped.forward(n, [6], ATTENTION).attention
            assert row.shape[1] == n + 1
            assert np.all(row[:, -1] > 0.0)
        tapped.forward(100, [7, 8, 9], ATTENTION)
        tapped.forward(103, [7], ATTENTION)
    assert "again" not in caplog.text


def test_stale_addresses_are_noticed_and_the_batch_runs_again(tapped, caplog):
    ids = random_ids(np.random.default_rng(4), 20)
    tapped.forward(0, ids)
    expected = tapped.forward(20, [5], ATTENTION).attention.copy()
    tap = tapped._tap
    honest = tap.answer
    seen = []

    def note(tensor):
        seen.append(tensor)
        return honest(tensor)

    tap.answer = note
    try:
        tapped.forward(20, [5], ATTENTION)
    finally:
        del tap.answer
    tap._answers[seen[-1]] = False  # what a rebuilt graph at other addresses would leave
    with caplog.at_level(logging.DEBUG, logger="uihlm_device.drafters.llama_drafter"):
        row = tapped.forward(20, [5], ATTENTION).attention
    assert "again" in caplog.text
    np.testing.assert_allclose(row, expected, atol=1e-5)


def test_matrix_rows_are_the_head_averages_and_roll_back(drafter):
    generator = np.random.default_rng(5)
    wants = Wants(attention=True, attention_matrix=True)
    ids = random_ids(generator, 40)
    drafter.forward(0, ids, wants)
    for keep, count in ((40, 2), (42, 3), (30, 2), (32, 270), (302, 2)):
        new = random_ids(generator, count)
        ids = [*ids[:keep], *new]
        record = drafter.forward(keep, new, wants)
        matrix = record.attention_matrix
        assert matrix.shape == (len(ids), len(ids))
        np.testing.assert_allclose(matrix.sum(axis=-1), 1.0, atol=1e-4)
        assert np.all(np.triu(matrix, 1) == 0.0)
        np.testing.assert_allclose(matrix[-1], record.attention.mean(axis=0), atol=1e-6)
    grown = matrix.copy()
    fresh = drafter.forward(0, ids, wants).attention_matrix
    np.testing.assert_allclose(grown, fresh, atol=1e-3)


def test_matrix_is_whole_when_it_was_not_asked_for_every_time(drafter):
    ids = random_ids(np.random.default_rng(6), 20)
    drafter.forward(0, ids)
    drafter.forward(20, [5])
    matrix = drafter.forward(21, [6], Wants(attention_matrix=True)).attention_matrix
    np.testing.assert_allclose(matrix.sum(axis=-1), 1.0, atol=1e-4)


def test_hidden_state_gives_the_logits_and_changes_nothing(drafter):
    ids = random_ids(np.random.default_rng(7), 25)
    drafter.forward(0, ids[:-1])
    without = drafter.forward(len(ids) - 1, ids[-1:]).logits.copy()
    record = drafter.forward(0, ids, Wants(hidden=True))
    np.testing.assert_array_equal(record.logits, without)
    assert record.hidden.shape == (576,)
    first = record.hidden.copy()
    again = drafter.forward(len(ids) - 1, ids[-1:], Wants(hidden=True)).hidden
    np.testing.assert_array_equal(again, first)
    other = drafter.forward(len(ids), [5], Wants(hidden=True)).hidden
    assert np.abs(other - first).max() > 0.5


def test_prompt_longer_than_a_batch_gives_the_same_attention_width(tapped):
    ids = random_ids(np.random.default_rng(8), 700)
    row = tapped.forward(0, ids, ATTENTION).attention
    assert row.shape[1] == 700
    np.testing.assert_allclose(row.sum(axis=-1), 1.0, atol=1e-4)


def test_another_layer_can_be_watched(tapped):
    ids = random_ids(np.random.default_rng(9), 30)
    tapped.forward(0, ids)
    before = tapped.forward(29, ids[-1:], ATTENTION).attention.copy()
    tapped.watch(3)
    other = tapped.forward(29, ids[-1:], ATTENTION).attention.copy()
    tapped.watch(LAYER)
    again = tapped.forward(29, ids[-1:], ATTENTION).attention
    assert np.abs(other - before).max() > 0.05
    np.testing.assert_array_equal(again, before)


def test_every_layer_at_once_is_each_layer_watched_alone(tapped, caplog):
    ids = random_ids(np.random.default_rng(10), 30)
    everything = Wants(attention=True, attention_layers=True)
    tapped.forward(0, ids[:-1])
    with caplog.at_level(logging.DEBUG, logger="uihlm_device.drafters.llama_drafter"):
        record = tapped.forward(29, ids[-1:], everything)
        layers, row = record.attention_layers, record.attention.copy()
        assert layers.shape == (tapped.n_layer, tapped.n_head, 30)
        np.testing.assert_array_equal(row, layers[LAYER])
        for layer in (0, 11, tapped.n_layer - 1):
            tapped.watch(layer)
            np.testing.assert_array_equal(tapped.forward(29, ids[-1:], ATTENTION).attention, layers[layer])
        tapped.watch(LAYER)
        # From one to all and back while the graph stays the same.
        for _ in range(3):
            np.testing.assert_array_equal(tapped.forward(29, ids[-1:], everything).attention_layers, layers)
            record = tapped.forward(29, ids[-1:], ATTENTION)
            np.testing.assert_array_equal(record.attention, row)
            assert record.attention_layers is None
    assert "again" not in caplog.text


def test_one_stale_layer_of_all_is_noticed(tapped, caplog):
    ids = random_ids(np.random.default_rng(12), 20)
    everything = Wants(attention=True, attention_layers=True)
    tapped.forward(0, ids)
    expected = tapped.forward(20, [5], everything).attention_layers
    tap, seen = tapped._tap, []
    honest = tap.answer

    def note(tensor):
        seen.append(tensor)
        return honest(tensor)

    tap.answer = note
    try:
        tapped.forward(20, [5], everything)
    finally:
        del tap.answer
    tap._answers[seen[len(seen) // 2]] = False
    with caplog.at_level(logging.DEBUG, logger="uihlm_device.drafters.llama_drafter"):
        np.testing.assert_array_equal(tapped.forward(20, [5], everything).attention_layers, expected)
    assert "again" in caplog.text


def test_logits_are_a_view(plain):
    record = plain.forward(0, [5, 6])
    assert not record.logits.flags.owndata
    assert record.logits.shape == (plain.vocabulary_size,)


def test_bad_requests_are_refused_and_leave_the_cache_right(plain, reference):
    plain.forward(0, [5, 6, 7])
    for keep, new, sentence in (
        (3, [], "at least one"),
        (4, [5], "holds 3"),
        (-1, [5], "holds 3"),
        (3, [5] * 1022, "full"),
        (3, [49152], "vocabulary"),
    ):
        with pytest.raises(InvalidRequestError, match=sentence):
            plain.forward(keep, new)
    extras = ("attention", "attention_matrix", "hidden", "attention_layers")
    for wants in (Wants(**{extra: True}) for extra in extras):
        with pytest.raises(ModelError, match="load the drafter"):
            plain.forward(3, [8], wants)
    got = softmax(plain.forward(3, [8]).logits)
    assert np.abs(got - softmax(reference[False].forward(0, [5, 6, 7, 8]).logits)).max() < PROBABILITY_TOLERANCE


def test_missing_layer_and_missing_file_are_model_errors(tmp_path):
    with pytest.raises(ModelError, match="0 … 25"):
        LlamaDrafter(bundled.slm_path(), attention_layer=26, max_context=256)
    with pytest.raises(ModelError, match="no model file"):
        LlamaDrafter(tmp_path / "none.gguf")
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + b"\x00" * 100)
    with pytest.raises(ModelError, match="cannot load"):
        LlamaDrafter(tmp_path / "bad.gguf")
