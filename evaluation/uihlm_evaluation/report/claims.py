"""What comes out of a run, as sentences: does each signal beat its control, and where does the LLM alone beat them all.

Two rows are compared at matched upload rate: a rule that uploads more must catch more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from uihlm_evaluation.report.comparisons import Comparison, Measure, Outcome, compare
from uihlm_evaluation.report.measures import RowMeasures, Study
from uihlm_evaluation.results.policy_result import LLM

TOLERANCE = 0.03


@dataclass(frozen=True, slots=True)
class Claim:
    """A question and its answer.

    Attributes:
        question: what is asked.
        measure: in which quantity.
        outcome: of the side that the question names first.
        sentence: the answer, with its intervals.
        parts: the comparisons behind it.
    """

    question: str
    measure: Measure
    outcome: Outcome
    sentence: str
    parts: tuple[Comparison, ...] = ()


def claims(study: Study) -> tuple[Claim, ...]:
    """Return what the run shows of each signal, then where the LLM alone wins."""
    found: list[Claim] = []
    for rival in ("random", "confidence"):
        for measure in (Measure.QUALITY, Measure.CAUGHT):
            found.append(_matched(study, "u", rival, measure))
    for measure in (Measure.QUALITY, Measure.CAUGHT):
        found.append(_matched(study, "ui", "u-random", measure))
    for measure in (Measure.QUALITY, Measure.FORWARDS, Measure.BITS, Measure.SECONDS):
        found.append(_llm_alone(study, measure))
    return tuple(found)


def _matched(study: Study, policy: str, rival: str, measure: Measure) -> Claim:
    """Compare every row of a policy with the rival's row of nearest upload rate."""
    question = f"Does {policy} beat {rival} at the same upload rate?"
    rows = study.of_policy(policy)
    if not rows:
        return _unanswered(question, measure, f"this run has no row {policy}: add --policy {policy} and {rival}")
    parts: list[Comparison] = []
    reasons: list[str] = []
    for row in rows:
        near = _nearest(row, study.of_policy(rival))
        compared = compare(study, row, near, measure) if near is not None else _lacking(study, row, rival)
        if isinstance(compared, str):
            reasons.append(compared)
        else:
            parts.append(compared)
    if not parts:
        return _unanswered(question, measure, "; ".join(dict.fromkeys(reasons)))
    sentence = _told(parts[0], measure) if len(parts) == 1 else _summed_up(parts, policy, rival, measure)
    return Claim(question, measure, _joint(parts), sentence + _not_compared(reasons), tuple(parts))


def _nearest(row: RowMeasures, rivals: Sequence[RowMeasures]) -> RowMeasures | None:
    """Return the rival of nearest upload rate within TOLERANCE, at the same θ_u where both have one."""
    own = row.result.theta_u
    same = [r for r in rivals if own is None or r.result.theta_u is None or abs(r.result.theta_u - own) < 1e-9]
    near = min(same, key=lambda r: abs(r.upload_rate - row.upload_rate), default=None)
    return near if near is not None and abs(near.upload_rate - row.upload_rate) <= TOLERANCE else None


def _lacking(study: Study, row: RowMeasures, rival: str) -> str:
    """Say which row to add as a control of `row`."""
    flags = f"--policy {rival}"
    if rival == "confidence" and row.theta_c is not None:
        flags += f" --theta-c {row.theta_c:.3g}"
    elif rival == "random":
        flags += f" --rate {row.upload_rate:.3g}"
    elif rival == "u-random" and row.thinning is not None:
        flags += f" --rate {row.thinning:.3g}"
    there = study.of_policy(rival)
    if not there:
        problem = f"this run has no row {rival}"
    else:
        rates = ", ".join(f"{100.0 * r.upload_rate:.1f} %" for r in there)
        problem = f"no row {rival} (uploads {rates}) is within {100.0 * TOLERANCE:.0f} points of it"
    return f"{row.label} uploads {100.0 * row.upload_rate:.1f} % and {problem}: add {flags}"


def _llm_alone(study: Study, measure: Measure) -> Claim:
    question = "Does the LLM alone beat every other row?"
    alone = study.of_policy(LLM)
    if not alone:
        return _unanswered(question, measure, "this run has no row llm: add --policy llm")
    others = [row for row in study.rows if row.result.policy != LLM]
    if not others:
        return _unanswered(question, measure, "this run has no row but llm: add others, as --policy hlm --policy u")
    compared = [compare(study, alone[0], other, measure) for other in others]
    parts = [part for part in compared if isinstance(part, Comparison)]
    if not parts:
        return _unanswered(question, measure, next(part for part in compared if isinstance(part, str)))
    groups = {outcome: [part for part in parts if part.outcome is outcome] for outcome in Outcome}
    value = f"llm alone: {measure.shown(parts[0].first_value)} {measure.value}"
    if len(groups[Outcome.BETTER]) == len(parts):
        close = min(parts, key=lambda part: abs(part.difference.mean))
        told = f"better than every other row ({len(parts)}); the nearest is {close.second}, {_bracket(close, measure)}"
    else:
        phrases = {
            Outcome.BETTER: "better than",
            Outcome.WORSE: "worse than",
            Outcome.NOT_SHOWN: "no difference shown to",
        }
        told = "; ".join(f"{phrase} {_named(groups[key], measure)}" for key, phrase in phrases.items() if groups[key])
    reasons = [part for part in compared if isinstance(part, str)]
    sentence = f"{value}: {told}." + _not_compared(reasons)
    return Claim(question, measure, _joint(parts), sentence, tuple(parts))


def _named(parts: Sequence[Comparison], measure: Measure) -> str:
    if len(parts) > 3:
        lowest, highest = (f(parts, key=lambda part: part.difference.mean) for f in (min, max))
        return f"{len(parts)} rows, from {lowest.second} ({_bracket(lowest, measure)}) to {highest.second} " + (
            f"({_bracket(highest, measure)})"
        )
    return ", ".join(f"{part.second} ({_bracket(part, measure)})" for part in parts)


def _joint(parts: Sequence[Comparison]) -> Outcome:
    outcomes = {part.outcome for part in parts}
    return outcomes.pop() if len(outcomes) == 1 else Outcome.MIXED


def _not_compared(reasons: Sequence[str]) -> str:
    return f" Not compared: {'; '.join(dict.fromkeys(reasons))}." if reasons else ""


def _unanswered(question: str, measure: Measure, reason: str) -> Claim:
    return Claim(question, measure, Outcome.NOT_ANSWERED, f"Not answered: {reason}.")


def _bracket(part: Comparison, measure: Measure) -> str:
    d = part.difference
    if d.low == d.high == 0.0:
        return "equal"
    shown = [measure.shown(value, signed=True) for value in (d.mean, d.low, d.high)]
    unit = shown[0].partition(" ")[2]
    low, high = (text.partition(" ")[0] for text in shown[1:])
    return f"{shown[0].partition(' ')[0]} [{low}, {high}]{' ' + unit if unit else ''}"


def _told(part: Comparison, measure: Measure) -> str:
    verb = {
        Outcome.BETTER: f"{part.first} is better than {part.second}",
        Outcome.WORSE: f"{part.first} is worse than {part.second}",
    }.get(part.outcome, f"No difference shown between {part.first} and {part.second}")
    values = f"{measure.shown(part.first_value)} against {measure.shown(part.second_value)}"
    uploads = f"{100.0 * part.first_upload:.1f} % and {100.0 * part.second_upload:.1f} %"
    return (
        f"{verb} in {measure.value}: {values}, difference {_bracket(part, measure)}, over {part.prompts} prompts, "
        f"at upload rates of {uploads}."
    )


def _summed_up(parts: Sequence[Comparison], policy: str, rival: str, measure: Measure) -> str:
    counts = {outcome: sum(part.outcome is outcome for part in parts) for outcome in Outcome}
    return (
        f"{policy} against {rival} in {measure.value}, {len(parts)} pairs of rows at matched upload rates: better in "
        f"{counts[Outcome.BETTER]}, worse in {counts[Outcome.WORSE]}, no difference shown in {counts[Outcome.NOT_SHOWN]}. "
        f"Where there is none, chance alone shows one in 20 pairs."
    )
