"""A GGUF in another weight type: the same model, wider numbers."""

import numpy as np
import pytest

from uihlm_models import bundled
from uihlm_models.errors import ModelError
from uihlm_models.gguf_types import rewritten
from uihlm_models.llama.runtime import LlamaRuntime, RuntimeSettings

IDS = [504, 1129, 314, 260, 2240, 28, 284, 357]


def last_row(path):
    with LlamaRuntime(path, RuntimeSettings(n_ctx=64)) as runtime:
        runtime.decode(IDS, range(len(IDS)), 0, [False] * (len(IDS) - 1) + [True])
        z = runtime.logits()[0].astype(np.float64)
    p = np.exp(z - z.max())
    return p / p.sum()


def test_a_type_that_is_not_known_is_refused():
    with pytest.raises(ModelError, match="no weights of type int8: take one of float32, float16, q8_0, bfloat16"):
        rewritten(bundled.llm_path(), "int8")


@pytest.mark.slow
def test_it_is_the_same_model_written_once(tmp_path, monkeypatch):
    monkeypatch.setenv("UIHLM_CACHE", str(tmp_path))
    path = rewritten(bundled.llm_path(), "q8_0")
    assert path.parent == tmp_path and path.stat().st_size > 1.3 * bundled.llm_path().stat().st_size
    written = path.stat().st_mtime_ns
    assert rewritten(bundled.llm_path(), "q8_0") == path and path.stat().st_mtime_ns == written
    assert [found.suffix for found in tmp_path.iterdir()] == [".gguf"]
    # llama.cpp rounds activations to 8 bits beside either type: the rows are near, not equal.
    assert 0.5 * np.abs(last_row(path) - last_row(bundled.llm_path())).sum() < 0.1
