"""The known defects of decode loops: what each is called, what its law is, and where to look.

They are the mutants against which this project's own losslessness is tested, found in published code, and a few more that
leave traces of their own. `RIGHT` is no defect but the law of a correct loop.
"""

from __future__ import annotations

from dataclasses import dataclass

from uihlm_evaluation.referee import noise, steps
from uihlm_evaluation.referee.answers import ReseededLaw, SeedLaw
from uihlm_evaluation.referee.laws import Law, StaleLaw, StepLaw
from uihlm_evaluation.referee.steps import emitted, ratio, residual


@dataclass(frozen=True, slots=True)
class Defect:
    """A way to be wrong.

    Attributes:
        name: what went wrong.
        advice: what the code should do instead.
        law: of what it writes.
    """

    name: str
    advice: str
    law: Law


RIGHT = Defect("none", "", StepLaw(steps.right, (0.0,)))

DEFECTS: tuple[Defect, ...] = (
    Defect(
        "drafts unverified",
        "some or all drafts reach the output without being judged: look at skipped positions, at the bonus token (it is "
        "drawn from y, not from x), and at drafts kept after a rejection",
        StepLaw(steps.unverified, (0.0,)),
    ),
    Defect("acceptance ratio inverted", "accept with min(1, y_d/x_d), not x_d/y_d", StepLaw(steps.inverted)),
    Defect("acceptance too lenient", "accept with min(1, y_d/x_d) and no factor on it", StepLaw(steps.lenient)),
    Defect(
        "plausible drafts stand",
        "whether y_d is above a bar does not say whether d may stand: accept with min(1, y_d/x_d)",
        StepLaw(steps.typical),
    ),
    Defect(
        "x truncated after the draft was drawn",
        "draw d from the very distribution that the judge is shown: truncate first, then sample",
        StepLaw(steps.truncated),
    ),
    Defect(
        "x quantised after the draft was drawn",
        "quantise x first, then draw d from what was quantised",
        StepLaw(steps.quantised),
    ),
    Defect(
        "mass spread over what x leaves out",
        "the judge must use the x that d was drawn from, without smoothing",
        StepLaw(steps.spread_in_residual),
    ),
    Defect(
        "drafts outside the top-k always accepted",
        "a draft whose probability is not on the list still has one: send it",
        StepLaw(steps.outside_stands),
    ),
    Defect(
        "drafts of one token accepted by force",
        "a stop token is judged like any other draft",
        StepLaw(steps.one_stands),
    ),
    Defect(
        "scalar x_d in place of x in the residual",
        "the residual is max(y − x, 0) over the whole vocabulary, not y − x_d",
        StepLaw(steps.scalar_in_residual),
    ),
    Defect(
        "x known at d alone in the residual",
        "the residual needs x at every token, not only at the draft",
        StepLaw(steps.draft_alone_in_residual),
    ),
    Defect(
        "replacement drawn from y itself",
        "after a rejection draw from norm(max(y − x, 0)), not from y",
        StepLaw(steps.from_y),
    ),
    # Undiluted: it writes (x + y)/2, and diluted it is a smaller share of drafts unverified.
    Defect("residual without max(., 0)", "cut y − x off at 0 before normalising", StepLaw(steps.absolute, (0.0,))),
    Defect("residual from logits", "subtract probabilities, not logits", StepLaw(steps.from_logits)),
    Defect(
        "the target's best token alone",
        "greedy decoding, an exact match with argmax y, or a y that is known at its largest value only: draw from y",
        StepLaw(steps.greedy),
    ),
    Defect(
        "y at another temperature or truncated",
        "a default of the library reshapes y: set temperature 1, top-k 0 and top-p 1, or judge against the reshaped y",
        StepLaw(steps.reshaped),
    ),
    Defect(
        "the draft's noise reused for acceptance",
        "draw the number that judges d afresh",
        StepLaw(noise.acceptance_shares_draft),
    ),
    Defect(
        "the draft's noise reused for the residual",
        "draw the replacement with noise that did not draw d",
        StepLaw(noise.residual_shares_draft),
    ),
    Defect(
        "the draft's race noise reused for the residual",
        "Gumbel or exponential noise that d won with must not race the residual: draw afresh, or race y and judge nothing",
        StepLaw(noise.residual_shares_race),
    ),
    Defect(
        "one number for acceptance and residual",
        "draw the replacement with another number than the one that rejected d",
        StepLaw(noise.residual_shares_acceptance),
    ),
    Defect(
        "noise shifted when the draft loses",
        "index shared noise by token id, not by place in a list of candidates",
        StepLaw(noise.race_shifted),
    ),
    Defect(
        "y of one position before",
        "the row of y after token t judges the draft at t + 1: an offset is wrong, or a cache was not rolled back",
        StaleLaw(lambda x, y, x_before, y_before: y_before),
    ),
    Defect(
        "x of one position before",
        "the judge is shown another x than d was drawn from: an offset is wrong, or a cache was not rolled back",
        StaleLaw(lambda x, y, x_before, y_before: emitted(x, ratio(x_before, y), residual(x_before, y))),
    ),
    Defect(
        "re-seeded before every token",
        "seed a generator once an answer, or key it by position",
        ReseededLaw(),
    ),
    Defect("the seed is ignored", "noise must depend on the seed that the loop is given", SeedLaw()),
)
