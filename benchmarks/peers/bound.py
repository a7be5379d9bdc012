"""What blocks of drafts can gain over the LLM alone, at the most.

A round of L drafts costs L drafter forwards and one LLM forward of L + 1 positions, and leaves (1 − α^(L+1)) ÷ (1 − α) tokens
if each draft stands with probability α. Against an LLM that writes one token a forward, with c the drafter's forward and
(L + 1)/g the LLM's of L + 1 positions, both in forwards of one position of the LLM:

    speed-up(L) = (1 − α^(L+1)) ÷ ((1 − α) · (L·c + (L + 1)/g))

Nothing of it is overhead: no sampling, no message, no arithmetic of a verdict. One thing it leaves out no code can save: where
all L drafts stand, the drafter must run the last of them, which it has not run, before the bonus. With e what a second position
adds to its forwards of a round, in the same unit, a round costs α^L·e more. Nobody asks for that position's logits.
"""

from __future__ import annotations

from collections.abc import Mapping


def tokens_a_round(alpha: float, length: int) -> float:
    """Return the expected tokens of a round of `length` drafts that each stand with probability `alpha`, bonus included."""
    if not 0.0 <= alpha <= 1.0 or length < 1:
        raise ValueError(f"need an acceptance in 0 … 1 and at least 1 draft, got {alpha} and {length}")
    return length + 1.0 if alpha == 1.0 else (1.0 - alpha ** (length + 1)) / (1.0 - alpha)


def speed_up(alpha: float, length: int, c: float, g: float, e: float = 0.0) -> float:
    """Return the speed-up over the LLM alone at draft length L; g is the batch gain at L + 1 positions."""
    return tokens_a_round(alpha, length) / (length * c + alpha**length * e + (length + 1) / g)


def bound(
    alphas: Mapping[int, float],
    costs: Mapping[int, float],
    gains: Mapping[int, float],
    lasts: Mapping[int, float] | None = None,
) -> tuple[int, float]:
    """Return (L, speed-up) of the best L ≥ 2, given for each L acceptance α, drafter cost c, batch gain g at L + 1, and e."""

    def reached(length: int) -> float:
        return speed_up(alphas[length], length, costs[length], gains[length], lasts[length] if lasts else 0.0)

    best = max((length for length in alphas if length > 1), key=reached)
    return best, reached(best)
