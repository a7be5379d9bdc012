"""The referee's word on a decode loop.

    y-distributed  ⇔  p ≥ false-alarm rate          (uihlm_evaluation.referee.chi_square)
    suspects       by log P(sample | defect) − log P(sample | right loop)

A defect is named for the law that its output has. Two defects of one law look alike; two at once look like neither. So the word
also says whether the likeliest law fits, and how far the next one is behind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from uihlm_evaluation.referee.chi_square import FALSE_ALARM, POWER, Outcome, chi_square, smallest_share
from uihlm_evaluation.referee.defects import DEFECTS, RIGHT, Defect
from uihlm_evaluation.referee.sample import Decode, Sample, sampled
from uihlm_evaluation.referee.stage import FloatArray, Stage

TOKENS = 20_000
# A defect is named alone if it is a thousand times as likely as the next.
_CLEAR_NAT = 6.9


@dataclass(frozen=True, slots=True)
class Suspect:
    """A known defect that makes the sample likelier than a right loop would.

    Attributes:
        name, advice: of the defect.
        lead_nat: log of how many times as likely as under a right loop.
        fit: chi-square of the sample against the defect's own law; None where that is one of whole answers.
    """

    name: str
    advice: str
    lead_nat: float
    fit: Outcome | None

    @property
    def fits(self) -> bool:
        """Whether the defect explains all that the test can see."""
        return self.fit is None or self.fit.p_value >= FALSE_ALARM


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found.

    Attributes:
        test: chi-square against y.
        tokens: how many were written.
        false_alarm: how often a right loop is called wrong.
        smallest_share: of unverified drafts in the output that is caught with probability `power`.
        power: that probability.
        suspects: likeliest first; none if the loop is right.
    """

    test: Outcome
    tokens: int
    false_alarm: float
    smallest_share: float
    power: float
    suspects: tuple[Suspect, ...] = ()

    @property
    def fair(self) -> bool:
        """Whether the output is y-distributed as far as the test can see."""
        return self.test.p_value >= self.false_alarm

    @property
    def defect(self) -> str | None:
        """The likeliest known defect; None if the loop is right, or wrong in no known way."""
        return self.suspects[0].name if self.suspects else None

    def __bool__(self) -> bool:
        """Return whether the output is y-distributed."""
        return self.fair

    def __str__(self) -> str:
        """Return the verdict in words."""
        found = "y-distributed" if self.fair else "NOT y-distributed"
        lines = [
            f"{found}: chi-square {self.test.statistic:.1f} on {self.test.freedom} degrees of freedom, "
            f"p = {self.test.p_value:.2g}, {self.tokens:,} tokens",
            f"(false alarms {self.false_alarm:.0e}; {100 * self.smallest_share:.1f} % of unverified drafts in the output "
            f"would be caught with probability {self.power:g})",
        ]
        if not self.fair:
            lines += self._named()
        return "\n".join(lines)

    def _named(self) -> list[str]:
        if not self.suspects:
            return ["looks like no known defect: none of their laws is likelier than that of a right loop"]
        best, *others = self.suspects
        lines = [f"looks like: {best.name} ({best.lead_nat:.0f} nats likelier than a right loop)", f"  {best.advice}"]
        close = [other for other in others if best.lead_nat - other.lead_nat < _CLEAR_NAT]
        lines += [f"or like: {other.name} ({other.lead_nat:.0f} nats)\n  {other.advice}" for other in close]
        if others and not close:
            lines.append(f"  next: {others[0].name}, {best.lead_nat - others[0].lead_nat:.0f} nats behind")
        if not best.fits:
            assert best.fit is not None, "a law of whole answers always fits"
            lines.append(
                f"  but its law does not fit either (p = {best.fit.p_value:.2g}): a variant of it, two defects at once, or "
                "one that is not known"
            )
        return lines


def judge(
    decode: Decode,
    tokens: int = TOKENS,
    seed: int = 0,
    drafted: Callable[[FloatArray], FloatArray] | None = None,
    false_alarm: float = FALSE_ALARM,
) -> Verdict:
    """Have a decode loop write, and say whether the output is y-distributed and which known defect it looks like.

    Args:
        decode: the loop; see `uihlm_evaluation.referee.sample.Decode`.
        tokens: how many it writes: the more, the smaller the bias that shows.
        seed: of the models' rows, the prompts and the answers; the same seed, the same verdict.
        drafted: what the loop makes of x `[V]` before it draws d, as a top-k or a codec does; the names of defects need it.
        false_alarm: how often a right loop may be called wrong.

    Raises:
        RefereeError: if the loop breaks its contract.
    """
    stage = Stage.of_seed(seed)
    sample = sampled(decode, stage, tokens, seed)
    return judged(sample, stage if drafted is None else stage.drafted_from(drafted), false_alarm)


def judged(sample: Sample, stage: Stage, false_alarm: float = FALSE_ALARM) -> Verdict:
    """Return the word on a sample."""
    test = chi_square(sample.counts.sum(axis=0), stage.y)
    least = smallest_share(stage, sample.tokens, false_alarm)
    suspects = _suspects(sample, stage) if test.p_value < false_alarm else ()
    return Verdict(test, sample.tokens, false_alarm, least, POWER, suspects)


def _suspects(sample: Sample, stage: Stage) -> tuple[Suspect, ...]:
    right = RIGHT.law.likelihood(sample, stage).log
    found = [_suspect(defect, sample, stage, right) for defect in DEFECTS]
    return tuple(sorted((s for s in found if s.lead_nat > 0.0), key=lambda s: -s.lead_nat))


def _suspect(defect: Defect, sample: Sample, stage: Stage, right: float) -> Suspect:
    likelihood = defect.law.likelihood(sample, stage)
    fit = None if likelihood.table is None else chi_square(sample.counts, likelihood.table)
    return Suspect(defect.name, defect.advice, likelihood.log - right, fit)
