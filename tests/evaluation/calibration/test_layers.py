"""Statistics of all layers: each is what the decoding loop's own rule says of that layer."""

import numpy as np
import pytest

from uihlm_device.rules.importance import importance
from uihlm_evaluation.calibration.layers import GAMMAS, READOUTS, layer_statistics


@pytest.mark.parametrize("n", [2, 3, 40, 300])
def test_every_layer_reading_and_gamma_is_the_loops_importance(n):
    attention = np.random.default_rng(n).dirichlet(np.full(n, 0.1), size=(7, 9)).astype(np.float32)
    attention[3, 2] = np.eye(n, dtype=np.float32)[-1]  # all on itself: nothing precedes
    found = layer_statistics(attention)
    assert found.counts.shape == (7, len(READOUTS), len(GAMMAS))
    for layer, rows in enumerate(attention):
        for r, readout in enumerate(READOUTS):
            for g, gamma in enumerate(GAMMAS):
                expected = importance(rows, gamma, readout)
                assert found.counts[layer, r, g] == expected.count
        assert found.entropy_nat[layer] == pytest.approx(expected.entropy_nat, abs=1e-5)
        assert found.max_weight[layer] == pytest.approx(expected.max_weight, abs=1e-6)
