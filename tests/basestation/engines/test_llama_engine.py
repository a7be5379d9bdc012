"""The llama.cpp engine on the bundled LLM: neighbours, rollbacks and evictions leave a session's distribution alone.

The cache is bfloat16 here: with float16 and 4-bit weights, batches of another shape alone move probabilities by up to 0.08
(`KvType`), which would hide what these tests look for.
"""

import numpy as np
import pytest

from uihlm_basestation.engines.engine import Work
from uihlm_basestation.engines.llama_engine import LlamaEngine
from uihlm_models import bundled
from uihlm_models.errors import ModelError
from uihlm_proto.errors import InvalidRequestError

pytestmark = pytest.mark.slow

PROBABILITY_TOLERANCE = 1e-3


def softmax(logits):
    p = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return p / p.sum(axis=-1, keepdims=True)


def random_ids(generator, count):
    return [int(i) for i in generator.integers(1000, 40000, count)]


@pytest.fixture(scope="module")
def shared_engine():
    engine = LlamaEngine(bundled.llm_path(), max_sessions=3, max_context=512, n_batch=64)
    yield engine
    engine.close()


@pytest.fixture
def engine(shared_engine):
    yield shared_engine
    for session in range(10):
        shared_engine.close_session(session)


@pytest.fixture(scope="module")
def reference():
    """A second load: one session, always prefilled from nothing."""
    engine = LlamaEngine(bundled.llm_path(), max_sessions=1, max_context=512)

    def fresh(ids, rows):
        engine.close_session(0)
        return softmax(engine.forward([Work(0, 0, ids, rows)])[0])

    yield fresh
    engine.close()


def test_distributions_after_rollbacks_in_company_equal_a_fresh_prefill(engine, reference):
    generator = np.random.default_rng(1)
    ids = {session: [] for session in range(3)}
    worst = 0.0
    for _ in range(8):
        work = []
        for session in generator.permutation(3)[: int(generator.integers(1, 4))]:
            held = ids[int(session)]
            keep = int(generator.integers(max(0, len(held) - 12), len(held) + 1))
            new = random_ids(generator, int(generator.choice([1, 2, 5, 30])))
            work.append(Work(int(session), keep, new, int(generator.integers(0, min(len(new), 3) + 1))))
            ids[int(session)] = [*held[:keep], *new]
        for part, rows in zip(work, engine.forward(work), strict=True):
            assert rows.shape == (part.rows, engine.vocabulary_size)
            if part.rows:
                expected = reference(ids[part.session], part.rows)
                worst = max(worst, float(np.abs(softmax(rows) - expected).max()))
    assert worst < PROBABILITY_TOLERANCE


def test_work_longer_than_a_batch_is_cut_and_put_together(engine, reference):
    generator = np.random.default_rng(2)
    long, short = random_ids(generator, 150), random_ids(generator, 3)
    rows = engine.forward([Work(0, 0, long, 100), Work(1, 0, short, 2)])
    assert np.abs(softmax(rows[0]) - reference(long, 100)).max() < PROBABILITY_TOLERANCE
    assert np.abs(softmax(rows[1]) - reference(short, 2)).max() < PROBABILITY_TOLERANCE


def test_evicted_session_goes_on_as_if_nothing_happened(engine, reference):
    generator = np.random.default_rng(3)
    ids = {session: random_ids(generator, 20) for session in range(5)}
    for session, prompt in ids.items():
        engine.forward([Work(session, 0, prompt, 1)])
    assert engine.cached_sessions == {2, 3, 4}
    (rows,) = engine.forward([Work(0, 18, [2000, 2001, 2002], 2)])
    assert engine.cached_sessions == {3, 4, 0}
    expected = reference([*ids[0][:18], 2000, 2001, 2002], 2)
    assert np.abs(softmax(rows) - expected).max() < PROBABILITY_TOLERANCE


def test_more_parts_than_slots_in_one_forward(engine, reference):
    generator = np.random.default_rng(4)
    ids = {session: random_ids(generator, 10 + session) for session in range(5)}
    engine.forward([Work(session, 0, prompt, 0) for session, prompt in ids.items()])
    rows = engine.forward([Work(session, len(prompt), [3000 + session], 1) for session, prompt in ids.items()])
    for session, prompt in ids.items():
        expected = reference([*prompt, 3000 + session], 1)
        assert np.abs(softmax(rows[session]) - expected).max() < PROBABILITY_TOLERANCE


def test_rows_belong_to_the_caller(engine):
    (rows,) = engine.forward([Work(0, 0, [5, 6], 1)])
    before = rows.copy()
    engine.forward([Work(0, 2, [7], 1), Work(1, 0, [9], 1)])
    assert np.array_equal(rows, before)


def test_bad_parts_are_refused_before_anything_runs(engine, reference):
    engine.forward([Work(0, 0, [5, 6, 7], 0)])
    good = Work(1, 0, [5], 1)
    for bad, sentence in (
        (Work(0, 3, [], 0), "without new ids"),
        (Work(0, 4, [5], 1), "holds 3"),
        (Work(0, 3, [5], 2), "rows"),
        (Work(0, 3, [5] * 510, 1), "512"),
        (Work(0, 3, [49152], 1), "vocabulary"),
        (Work(1, 0, [6], 1), "one part each"),
    ):
        with pytest.raises(InvalidRequestError, match=sentence):
            engine.forward([good, bad])
    assert engine.cached_sessions == {0}
    (rows,) = engine.forward([Work(0, 3, [8], 1)])
    assert np.abs(softmax(rows) - reference([5, 6, 7, 8], 1)).max() < PROBABILITY_TOLERANCE


def test_failed_forward_leaves_the_sessions_as_they_were(engine, reference, monkeypatch):
    engine.forward([Work(0, 0, [5, 6, 7], 0)])
    with monkeypatch.context() as patch:

        def fail(*_):
            raise ModelError("broken")

        patch.setattr(engine._runtime, "logits", fail)
        with pytest.raises(ModelError, match="broken"):
            engine.forward([Work(0, 1, [9, 10, 11], 1)])
    (rows,) = engine.forward([Work(0, 3, [8], 1)])
    assert np.abs(softmax(rows) - reference([5, 6, 7, 8], 1)).max() < PROBABILITY_TOLERANCE


def test_a_step_has_the_floats_of_any_other_forward(engine, monkeypatch):
    """One id behind all that was run goes a shorter way, whose rows and bookkeeping are those of the long one."""
    ids = [5, 6, 7, 8, 9, 10]
    steps = []
    for session, short in ((0, True), (1, False)):
        with monkeypatch.context() as patch:
            taken = []
            step = engine._step
            patch.setattr(engine, "_step", lambda part, step=step, short=short: step(part) if short else None)
            run = engine._runtime.decode
            patch.setattr(
                engine._runtime, "decode", lambda *asked, taken=taken, run=run: taken.append(1) or run(*asked)
            )
            engine.forward([Work(session, 0, ids[:2], 1)])
            steps.append([engine.forward([Work(session, at, [ids[at]], 1)])[0] for at in range(2, 6)])
            assert len(taken) == (1 if short else 5)
            # After a rollback, which is no step, and beside it.
            steps[-1] += engine.forward([Work(session, 3, [11], 1)])
            steps[-1] += engine.forward([Work(session, 4, [12], 1)])
    assert all(np.array_equal(a, b) for a, b in zip(*steps, strict=True))
    assert engine._histories[0].ids == engine._histories[1].ids == [5, 6, 7, 11, 12]
    assert engine.cached_sessions == {0, 1}


def test_a_bad_or_failed_step_leaves_the_session_as_it_was(engine, reference, monkeypatch):
    engine.forward([Work(0, 0, [5, 6, 7], 0)])
    for bad, sentence in (
        (Work(0, 4, [5], 1), "holds 3"),
        (Work(0, 3, [49152], 1), "vocabulary"),
        (Work(0, 3, [-1], 1), "vocabulary"),
    ):
        with pytest.raises(InvalidRequestError, match=sentence):
            engine.forward([bad])
    for name in ("decode_one", "logits"):
        with monkeypatch.context() as patch:

            def fail(*_):
                raise ModelError("broken")

            patch.setattr(engine._runtime, name, fail)
            with pytest.raises(ModelError, match="broken"):
                engine.forward([Work(0, 3, [9], 1)])
        assert engine._histories[0].ids == [5, 6, 7] and engine.cached_sessions == frozenset()
        (rows,) = engine.forward([Work(0, 3, [8], 1)])
        assert np.abs(softmax(rows) - reference([5, 6, 7, 8], 1)).max() < PROBABILITY_TOLERANCE
        engine.forward([Work(0, 2, [7], 1)])


def test_a_full_context_takes_no_step(engine):
    engine.forward([Work(0, 0, [5] * 511, 1)])
    engine.forward([Work(0, 511, [6], 1)])
    with pytest.raises(InvalidRequestError, match="512"):
        engine.forward([Work(0, 512, [7], 1)])


def test_closed_session_is_forgotten(engine):
    engine.forward([Work(0, 0, [5, 6], 0)])
    engine.close_session(0)
    engine.close_session(99)
    with pytest.raises(InvalidRequestError, match="holds 0"):
        engine.forward([Work(0, 2, [5], 1)])


def test_context_is_the_models_when_none_is_named():
    engine = LlamaEngine(bundled.llm_path(), max_sessions=1, max_context=0)
    assert engine.max_context == 8192
    engine.close()


def test_sessions_in_neighbouring_streams_are_computed_together(engine):
    assert engine.beside(0, [1, 2]) == [1, 2], "nobody knows yet where they will stand"
    engine.forward([Work(session, 0, [session + 5], 1) for session in range(3)])
    assert sorted(engine.beside(1, [0, 2])) == [0, 2]
    assert sorted(engine.beside(0, [1, 2])) == [1, 2]
    assert engine.beside(0, [2]) == []
    assert engine.beside(2, [0]) == []
    assert engine.beside(0, [7]) == engine.beside(7, [0]) == []
    # The stream in the middle changes hands.
    engine.close_session(1)
    engine.forward([Work(7, 0, [5], 1)])
    assert sorted(engine.beside(0, [2, 7])) == [2, 7]
