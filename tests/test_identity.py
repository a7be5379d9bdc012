"""Drafter = LLM: acceptance is 1 − TV(x̂, y), which is 1 where nothing is rounded."""

from __future__ import annotations

import numpy as np
import pytest

from chi_square import (
    LOSSLESS,
    PLAIN,
    SHAPES,
    V,
    acceptance_p_value,
    law,
    quantised,
    served,
    shaped,
    total_variation,
)
from fakes import contextual
from uihlm_device.tokens import Origin
from uihlm_proto.sampling import Sampling


@pytest.mark.parametrize("sampling", [PLAIN, *SHAPES], ids=str)
@pytest.mark.parametrize("codec", ["dense32", "coupled"])
def test_a_drafter_that_is_the_llm_is_always_right(codec: str, sampling: Sampling) -> None:
    z = contextual(V, salt=5)
    for record in (r for answer in served(z, z, codec, 500, sampling=sampling) for r in answer):
        assert record.origin is Origin.ACCEPTED
        assert record.x_d == pytest.approx(record.y_d, rel=1e-5)
        assert record.tv is None or record.tv < 1e-6


@pytest.mark.parametrize("sampling", [PLAIN, SHAPES[0]], ids=str)
@pytest.mark.parametrize("codec", ["lattice", "lattice:k=4,l=16"])
def test_a_lattice_costs_the_distance_of_its_nearest_point_and_no_more(codec: str, sampling: Sampling) -> None:
    """Identity: a drafter that is the LLM is accepted with 1 − TV(x̂, y), verdict by verdict."""
    z = contextual(V, salt=5)
    written = served(z, z, codec, 1000, sampling=sampling)
    rejection = 0.0
    for index, answer in enumerate(written):
        line = [1, *range(1 + index % 5)]
        for record in answer:
            y = shaped(law(z)(tuple(line)), sampling)
            tv = total_variation(quantised(y, codec), y)
            assert record.tv == pytest.approx(tv, abs=1e-6)
            rejection += tv
            line.append(record.token)
    assert rejection > 1.0
    assert acceptance_p_value(written, 1.0 - rejection / 1000) > LOSSLESS


@pytest.mark.parametrize("tv", [0.3, 0.02])
def test_an_adaptive_lattice_rejects_the_llm_no_more_than_its_bound(tv: float) -> None:
    z = contextual(V, salt=5)
    written = served(z, z, f"lattice:tv={tv}", 500)
    told = [r.tv for answer in written for r in answer]
    assert max(told) <= tv + 1e-6
    assert acceptance_p_value(written, 1.0 - float(np.mean(told))) > LOSSLESS


def test_half_precision_costs_its_own_rounding_and_no_more() -> None:
    """Identity under dense16: the expected rejection of each verdict is 1 − y_d/x̂_d, its TV that of x̂ and y."""
    z = contextual(V, salt=5)
    written = served(z, z, "dense16", 1000)
    rejection = 0.0
    for index, answer in enumerate(written):
        line = [1, *range(1 + index % 5)]
        for record in answer:
            y = law(z)(tuple(line))
            x_hat = y.astype(np.float16).astype(float)
            x_hat /= x_hat.sum()
            tv = total_variation(x_hat, y)
            assert 0.0 < tv < 2.0**-11
            assert record.tv == pytest.approx(tv, rel=1e-2)
            rejection += tv
            line.append(record.token)
    assert acceptance_p_value(written, 1.0 - rejection / 1000) > LOSSLESS
