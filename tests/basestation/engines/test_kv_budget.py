"""A budget for caches: fewer are held, nobody's distribution changes."""

from __future__ import annotations

import numpy as np
import pytest

from tiny_torch import LAYERS, write_tiny_llama
from uihlm_basestation.engines.engine import Work
from uihlm_basestation.engines.torch_engine import TorchEngine
from uihlm_models import bundled
from uihlm_models.errors import ModelError
from uihlm_models.pytorch.runtime import TorchSettings, WeightType, load_torch
from uihlm_proto.errors import InvalidRequestError
from uihlm_proto.limits import MAX_DRAFTS

# Two key-value heads of 8, keys and values, float32.
POSITION_BYTES = LAYERS * 2 * 8 * 2 * 4


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = write_tiny_llama(tmp_path_factory.mktemp("tiny"))
    return load_torch(folder, TorchSettings(WeightType.FLOAT32, device_map="cpu"))


def turns(engine, sessions, count):
    """Let sessions take turns; return every row."""
    rows = []
    for session in range(sessions):
        rows += engine.forward([Work(session, 0, [5 + session, 6, 7], 1)])
    for turn in range(count):
        work = [Work(session, 3 + turn, [9 + turn], 1) for session in range(sessions)]
        for start in range(0, sessions, engine.caches):
            group = work[start : start + engine.caches]
            for part in group:
                missing = engine.missing(part)
                if missing is not None and turn % 2:
                    engine.forward([missing])
                    assert engine.missing(part) is None
            rows += engine.forward(group)
    return rows


def test_a_torch_engine_keeps_as_many_caches_as_its_budget_holds(tiny):
    assert tiny.kv_position_bytes == POSITION_BYTES
    each = (100 + MAX_DRAFTS) * POSITION_BYTES
    engine = TorchEngine(tiny, max_sessions=16, max_context=100, kv_bytes=3 * each + 5)
    assert engine.caches == 3
    roomy = TorchEngine(tiny, max_sessions=16, max_context=100, kv_bytes=1000 * each)
    assert roomy.caches == 16
    for few, many in zip(turns(engine, 7, 4), turns(roomy, 7, 4), strict=True):
        np.testing.assert_allclose(few, many, atol=1e-4)
    assert len(engine.cached_sessions) == 3 and len(roomy.cached_sessions) == 7
    with pytest.raises(ModelError, match="--kv-memory"):
        TorchEngine(tiny, max_context=100, kv_bytes=each - 1)


def test_what_runs_again_must_be_what_the_session_holds(tiny):
    engine = TorchEngine(tiny, max_sessions=1, max_context=100)
    engine.forward([Work(1, 0, [5, 6, 7], 0)])
    engine.forward([Work(2, 0, [5], 0)])
    assert engine.missing(Work(1, 3, [8], 1)) == Work(1, 0, [5, 6, 7], 0, again=True)
    # Beyond what is kept nothing is missed.
    assert engine.missing(Work(1, 2, [8], 1)) == Work(1, 0, [5, 6], 0, again=True)
    assert engine.missing(Work(2, 1, [8], 1)) is None
    with pytest.raises(InvalidRequestError, match="does not hold the ids"):
        engine.forward([Work(1, 0, [5, 9], 0, again=True)])
    engine.forward([Work(1, 0, [5, 6], 0, again=True)])
    assert engine.missing(Work(1, 3, [8], 1)) == Work(1, 2, [7], 0, again=True)


def test_a_session_whose_request_is_not_through_keeps_its_cache(tiny):
    engine = TorchEngine(tiny, max_sessions=2, max_context=100)
    engine.forward([Work(1, 0, [5, 6, 7], 0, more=True)])
    engine.forward([Work(2, 0, [5], 0)])
    engine.forward([Work(3, 0, [5], 0)])
    assert engine.cached_sessions == {1, 3}
    engine.forward([Work(1, 3, [5], 0)])
    engine.forward([Work(3, 1, [5], 0)])
    engine.forward([Work(4, 0, [5], 0)])
    assert engine.cached_sessions == {3, 4}


@pytest.mark.slow
def test_a_llama_engine_keeps_as_many_caches_as_its_budget_holds():
    from uihlm_basestation.engines.llama_engine import LlamaEngine

    # Two caches of 256 positions and the pool for trees that they bring.
    cells = 2 * 256 + 2 * (256 + 512)
    tight = LlamaEngine(bundled.llm_path(), max_sessions=8, max_context=256, kv_bytes=cells * 23_040)
    roomy = LlamaEngine(bundled.llm_path(), max_sessions=8, max_context=256)
    assert (tight.caches, roomy.caches) == (2, 8)
    for few, many in zip(turns(tight, 5, 3), turns(roomy, 5, 3), strict=True):
        p, q = (np.exp(row.astype(np.float64) - row.max()) for row in (few, many))
        assert np.abs(p / p.sum() - q / q.sum()).max() < 1e-3
    assert len(tight.cached_sessions) == 2
    tight.close()
    roomy.close()
    with pytest.raises(ModelError, match="--kv-memory"):
        LlamaEngine(bundled.llm_path(), max_context=256, kv_bytes=1000)
