"""How much a cache takes, and how many fit."""

import pytest

from uihlm_models import bundled
from uihlm_models.errors import ModelError
from uihlm_models.kv_memory import KvShape, caches_within


def test_the_bundled_models_header_says_how_large_its_cache_is():
    shape = KvShape.of(bundled.llm_path())
    # 30 layers, 3 key-value heads of 64, keys and values, 2 bytes each.
    assert shape == KvShape(position_bytes=30 * 3 * 64 * 2 * 2, trained=8192)


def test_as_many_caches_as_fit_and_at_least_one():
    assert caches_within(1000, 300) == 3
    assert caches_within(300, 300) == 1
    with pytest.raises(ModelError, match=r"takes 2\.0 MiB and 1\.0 MiB are allowed: allow more with --kv-memory"):
        caches_within(2**20, 2**21)
