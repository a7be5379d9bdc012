"""How much of all rejection an upload rule would have caught, at any upload rate.

    caught(r) = Σ_{tokens in the top share r by score} β ÷ Σ β

Tokens of one score are taken in part, as a coin between them would on average; so a constant score is chance. In every
resample of the prompts the cut is made anew, so rules are compared at exactly equal upload rates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from uihlm_evaluation.calibration.resampling import Estimates, FloatArray
from uihlm_evaluation.quality.bootstrap import RESAMPLES

# Keeps the largest array near 10 MB for a trace of 5,000 tokens.
_CHUNK = 200


def captured(
    rules: Mapping[str, FloatArray],
    beta: FloatArray,
    prompt: npt.NDArray[np.int32],
    rates: Sequence[float],
    seed: int = 0,
) -> dict[str, Estimates]:
    """Return, for each rule, the share of rejection caught at each rate.

    Args:
        rules: name → score `[T]`, the higher the sooner uploaded.
        beta: rejection probabilities `[T]`.
        prompt: to which prompt each token belongs `[T]`.
        rates: upload rates, 0…1.
        seed: of the resamples, which all rules share.
    """
    _, index = np.unique(prompt, return_inverse=True)
    prompts = int(index.max()) + 1
    generator = np.random.default_rng(seed % 2**64)
    weights = generator.multinomial(prompts, np.full(prompts, 1.0 / prompts), size=RESAMPLES)
    at = np.asarray(rates, np.float64)
    return {
        name: Estimates(
            _shares(score, beta, index, np.ones((1, prompts)), at)[0],
            np.concatenate(
                [_shares(score, beta, index, weights[i : i + _CHUNK], at) for i in range(0, RESAMPLES, _CHUNK)]
            ),
        )
        for name, score in rules.items()
    }


def gain(rule: Estimates, over: Estimates) -> Estimates:
    """Return what a rule catches more than another, resample by resample."""
    return Estimates(rule.point - over.point, rule.draws - over.draws)


def _shares(
    score: FloatArray, beta: FloatArray, index: npt.NDArray[np.int_], weights: npt.NDArray[Any], rates: FloatArray
) -> FloatArray:
    """Return `[resample, rate]` for weights of the prompts `[resample, prompt]`."""
    order = np.argsort(-score, kind="stable")
    ranked = score[order]
    ties = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
    weight = weights[:, index[order]].astype(np.float64)
    tokens = np.cumsum(np.add.reduceat(weight, ties, axis=1), axis=1)
    caught = np.cumsum(np.add.reduceat(weight * beta[order], ties, axis=1), axis=1)
    return np.array(
        [
            np.interp(rates * n[-1], np.concatenate([[0.0], n]), np.concatenate([[0.0], c])) / c[-1]
            for n, c in zip(tokens, caught, strict=True)
        ]
    )
