"""The Torch engine: sessions apart, rollback, eviction, rows, refusals."""

from __future__ import annotations

import numpy as np
import pytest

from tiny_torch import CONTEXT, VOCABULARY_SIZE, on_one_thread, write_tiny_llama
from uihlm_basestation.engines.engine import Work
from uihlm_basestation.engines.torch_engine import TorchEngine
from uihlm_models.errors import ModelError
from uihlm_models.pytorch.runtime import PREFILL_CHUNK, TorchSettings, WeightType, load_torch
from uihlm_proto.errors import InvalidRequestError
from uihlm_proto.fingerprint import fingerprint

CPU = TorchSettings(WeightType.FLOAT32, device_map="cpu")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    yield from on_one_thread()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return load_torch(write_tiny_llama(tmp_path_factory.mktemp("tiny")), CPU)


@pytest.fixture
def engine(tiny):
    return TorchEngine(tiny, max_context=0)


def random_ids(rng, count):
    return [int(i) for i in rng.integers(2, VOCABULARY_SIZE, count)]


def fresh(model, ids, rows=1):
    """The rows of a prefill by transformers alone."""
    import torch

    with torch.inference_mode():
        return model.module(torch.tensor([ids]), use_cache=False).logits[0, len(ids) - rows :].numpy()


def test_after_random_rollbacks_of_many_sessions_every_row_equals_a_fresh_prefill(tiny):
    engine = TorchEngine(tiny, max_sessions=3)
    rng = np.random.default_rng(11)
    held: dict[int, list[int]] = {session: [] for session in range(5)}
    for _ in range(40):
        work = []
        for session in rng.permutation(5)[: rng.integers(1, 6)]:
            ids = held[int(session)]
            keep = int(rng.integers(max(0, len(ids) - 6), len(ids) + 1))
            new = random_ids(rng, int(rng.integers(1, 9)))
            held[int(session)] = ids[:keep] + new
            work.append(Work(int(session), keep, new, int(rng.integers(0, len(new) + 1))))
        for part, logits in zip(work, engine.forward(work), strict=True):
            assert logits.shape == (part.rows, VOCABULARY_SIZE) and logits.dtype == np.float32
            expected = fresh(tiny, held[part.session], part.rows)
            np.testing.assert_allclose(logits, expected, atol=1e-4)
        assert len(engine.cached_sessions) <= 3


def test_a_session_that_lost_its_cache_goes_on_as_if_it_had_not(tiny):
    engine = TorchEngine(tiny, max_sessions=1)
    roomy = TorchEngine(tiny, max_sessions=2)
    for part in (Work(1, 0, [5, 6, 7, 8], 1), Work(2, 0, [9, 10], 1), Work(1, 3, [11, 12], 2), Work(2, 2, [13], 1)):
        np.testing.assert_allclose(engine.forward([part])[0], roomy.forward([part])[0], atol=1e-5)
        assert engine.cached_sessions == {part.session}
    assert roomy.cached_sessions == {1, 2}


def test_the_cache_not_used_for_longest_makes_room(tiny):
    engine = TorchEngine(tiny, max_sessions=2)
    engine.forward([Work(1, 0, [5], 0), Work(2, 0, [5], 0)])
    engine.forward([Work(1, 1, [6], 0)])
    engine.forward([Work(3, 0, [5], 0)])
    assert engine.cached_sessions == {1, 3}


def test_rows_may_span_prefill_chunks(tiny, engine):
    ids = random_ids(np.random.default_rng(12), PREFILL_CHUNK + 20)
    logits = engine.forward([Work(1, 0, ids, 40)])[0]
    np.testing.assert_allclose(logits, fresh(tiny, ids, 40), atol=1e-4)
    all_rows = engine.forward([Work(1, 0, ids, len(ids))])[0]
    np.testing.assert_allclose(all_rows, fresh(tiny, ids, len(ids)), atol=1e-4)


def test_the_rows_belong_to_the_caller(engine):
    first = engine.forward([Work(1, 0, [5, 6], 1)])[0]
    copy = first.copy()
    engine.forward([Work(1, 1, [7], 1)])
    np.testing.assert_array_equal(first, copy)
    first[:] = 0.0


def test_a_closed_session_is_forgotten(engine):
    engine.forward([Work(1, 0, [5, 6], 1)])
    engine.close_session(1)
    engine.close_session(99)
    assert engine.cached_sessions == frozenset()
    with pytest.raises(InvalidRequestError, match="holds 0 positions, cannot keep 2"):
        engine.forward([Work(1, 2, [7], 1)])


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (Work(2, 0, [], 0), "without new ids"),
        (Work(2, 1, [5], 1), "holds 0 positions, cannot keep 1"),
        (Work(2, -1, [5], 1), "cannot keep -1"),
        (Work(2, 0, [5], 2), "2 rows of logits for 1 new ids"),
        (Work(2, 0, [5], -1), "-1 rows"),
        (Work(2, 0, [VOCABULARY_SIZE], 1), "outside the vocabulary"),
        (Work(2, 0, [5] * (CONTEXT + 1), 1), "the context holds"),
        (Work(1, 0, [5], 1), "one part each"),
    ],
)
def test_a_bad_part_is_refused_before_any_part_runs(engine, part, words):
    engine.forward([Work(1, 0, [5, 6, 7], 1)])
    with pytest.raises(InvalidRequestError, match=words):
        engine.forward([Work(1, 1, [8], 1), part])
    # Session 1 still has its three positions.
    engine.forward([Work(1, 3, [9], 1)])


def test_a_part_that_failed_can_be_asked_again(tiny, engine, monkeypatch):
    engine.forward([Work(1, 0, [5, 6, 7], 1)])
    part = Work(1, 2, [8, 9], 1)

    def fail(*args, **kwargs):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(tiny.module.model.layers[2], "forward", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        engine.forward([part])
    monkeypatch.undo()
    np.testing.assert_allclose(engine.forward([part])[0], fresh(tiny, [5, 6, 8, 9]), atol=1e-5)


def test_an_engine_says_what_it_is(engine, tiny):
    assert engine.fingerprint == fingerprint(tiny.tokenizer.pieces()) and len(engine.fingerprint) == 32
    assert engine.vocabulary_size == VOCABULARY_SIZE and engine.max_context == CONTEXT
    assert engine.stop_ids == {0, 1, 7}
    assert "float32" in engine.description and "sdpa" in engine.description
    assert TorchEngine(tiny, max_context=100).max_context == 100
    assert TorchEngine(tiny, max_context=10 * CONTEXT).max_context == CONTEXT
    with pytest.raises(ModelError, match="at least 1"):
        TorchEngine(tiny, max_sessions=0)


def probabilities(logits):
    p = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return p / p.sum(axis=-1, keepdims=True)


@pytest.mark.slow
def test_the_bundled_model_serves_what_llama_cpp_serves():
    from uihlm_basestation.engines.llama_engine import LlamaEngine
    from uihlm_models.bundled import llm_path

    text = "<|im_start|>user\nName three rivers of France and the seas they reach.<|im_end|>\n<|im_start|>assistant\n"
    ours = TorchEngine(load_torch(llm_path(), CPU))
    theirs = LlamaEngine(llm_path(), max_sessions=1, max_context=256)
    assert ours.fingerprint == theirs.fingerprint and ours.stop_ids == theirs.stop_ids
    ids = ours.tokenizer.encode(text)
    # A wrong tail first: the agreement then also covers the rollback.
    wrong, right = Work(1, 0, [*ids[:10], 400, 500, 600], 1), Work(1, 10, ids[10:], len(ids) - 10)
    rows = []
    for engine in (ours, theirs):
        engine.forward([wrong])
        rows.append(probabilities(engine.forward([right])[0]))
        engine.close()
    distance = 0.5 * np.abs(rows[0] - rows[1]).sum(axis=1)
    # llama.cpp rounds activations to 8 bits for its integer products, Torch does not
    # (tests/device/drafters/test_torch_bundled.py compares them on float32 weights).
    assert distance.mean() < 0.05 and distance.max() < 0.1
