"""A position's floats must not depend on what it was computed with: the type of the cache that gives this."""

import numpy as np

from uihlm_models import bundled
from uihlm_models.llama.kv_type import KvType, steady_kv_type
from uihlm_models.llama.runtime import LlamaRuntime, RuntimeSettings

_IDS = [int(i) for i in np.random.default_rng(0).integers(5, 40000, 120)]
_LAST = len(_IDS) - 1


def test_types_of_keys_and_of_values() -> None:
    assert KvType.F16.ggml_types == (1, 1)
    assert KvType.BF16.ggml_types == (30, 30)
    assert KvType.BF16_F16.ggml_types == (30, 1)


def test_floats_do_not_depend_on_the_batching() -> None:
    settings = RuntimeSettings(n_ctx=128, n_threads=1, kv_type=steady_kv_type())
    found = []
    with LlamaRuntime(bundled.slm_path(), settings) as runtime:
        for cut in (1, 33, _LAST):
            runtime.truncate(0, 0)
            for start, stop in ((0, cut), (cut, len(_IDS))):
                positions = np.arange(start, stop, dtype=np.int32)
                runtime.decode(_IDS[start:stop], positions, 0, positions == _LAST)
            found.append(runtime.logits()[0].copy())
    # With KvType.F16 they move by half a logit here.
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])
