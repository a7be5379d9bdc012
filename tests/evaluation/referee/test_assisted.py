"""transformers' assisted generation before the referee: what is claimed of it, and what a knob of it does by design."""

from __future__ import annotations

import numpy as np
import pytest

from uihlm_evaluation.referee.assisted import Assisted, llama_of
from uihlm_evaluation.referee.stage import Stage
from uihlm_evaluation.referee.verdict import judge


def test_the_model_is_the_table():
    import torch

    table = Stage.of_seed(0).y
    ids = [3, 11, 0, 7]
    with torch.no_grad():
        p = llama_of(table)(torch.tensor([ids])).logits.softmax(dim=-1)[0].numpy()
    np.testing.assert_allclose(p, table[ids], atol=1e-5)


@pytest.mark.slow
def test_assisted_generation_is_y_distributed():
    assert judge(Assisted(), 2000)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("decode", "defect"),
    [
        (Assisted(ensemble_weight=0.2), "drafts unverified"),
        (Assisted(temperature=0.5), "y at another temperature or truncated"),
        (Assisted(sample=False), "the target's best token alone"),
    ],
)
def test_what_bends_its_output_is_named(decode, defect):
    verdict = judge(decode, 1000)
    assert not verdict and verdict.defect == defect
