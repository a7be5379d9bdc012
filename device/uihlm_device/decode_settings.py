"""How an answer is written: what a token is drawn from, and how drafts travel. Which are uploaded is the policy's."""

from __future__ import annotations

from dataclasses import dataclass

from uihlm_device.drafting import Decide, DraftSettings
from uihlm_device.outages.outage import Outage
from uihlm_device.rules.importance import Readout
from uihlm_device.rules.risk import Recalibrate
from uihlm_device.rules.uncertainty import Estimator
from uihlm_proto.errors import InvalidRequestError
from uihlm_proto.limits import MAX_DRAFTS, MAX_STREAM_INTERVAL
from uihlm_proto.sampling import Sampling

# A draft length that is chosen anew for each answer.
AUTO = 0


@dataclass(frozen=True, slots=True)
class DecodeSettings:
    """How tokens are drawn and measured; which are uploaded is the policy's.

    Attributes:
        sampling: the contract that shapes x and y.
        max_tokens: length limit of an answer; the stop token counts as one.
        estimator: of the uncertainty u.
        gamma: γ of the importance threshold.
        readout: reading of the attention.
        draft_length: drafts an upload carries under a policy that uploads every token; a bonus token follows two or more.
            AUTO picks the length for each answer (uihlm_device/draft_length.py).
        draft_p_min: such an upload also ends with a draft of which the drafter's probability x_d is below this: what would
            follow it is likely to fall with it. 0 ends none early.
        in_flight: uploads that may wait for their verdicts at once; 1 waits for each. Of a tree, the others continue it.
        run_on: whether, under a policy that uploads every token by itself, the LLM's forward for the next draft begins with the
            verdict before it, while that is on its way; else with the upload, as in the papers.
        stream_interval: tokens that a message brings where the LLM writes alone (policy `llm`); the first comes by itself.
        audit: whether the base station says of skipped tokens too how likely it would have rejected them.
        risk: budget of skipping, rejection probability of skipped tokens a token; None sets none. Implies the audit.
        recalibrate: whether θ_u moves between answers to hold that budget.
        decide: whether the policy looks at the draft, or decides before it is drawn (then uploads are unbiased).
        outage: what happens where the base station does not answer; None gives the answer up at once.
        tree: nodes of the tree that an upload carries under a policy that uploads every token (codec `coupled`); 0: no tree.

    Raises:
        InvalidRequestError: for a draft length outside 1 … 64, a draft_p_min outside 0 … 1 or without blocks, a window below
            1, a stream interval outside 1 … 64, or a tree of more than 64 nodes or beside a draft length.
    """

    sampling: Sampling
    max_tokens: int = 96
    estimator: Estimator = Estimator.EXPECTED
    gamma: float = 1.0
    readout: Readout = Readout.HEADS
    draft_length: int = 1
    draft_p_min: float = 0.0
    in_flight: int = 1
    run_on: bool = False
    stream_interval: int = 1
    audit: bool = False
    risk: float | None = None
    recalibrate: Recalibrate = Recalibrate.OFF
    decide: Decide = Decide.TOKEN
    tree: int = 0
    outage: Outage | None = None

    def __post_init__(self) -> None:
        if self.draft_length != AUTO and not 1 <= self.draft_length <= MAX_DRAFTS:
            raise InvalidRequestError(f"a draft length lies in 1 … {MAX_DRAFTS}, got {self.draft_length}")
        if not 0.0 <= self.draft_p_min <= 1.0:
            raise InvalidRequestError(f"a probability lies in 0 … 1, got draft_p_min {self.draft_p_min}")
        if self.draft_p_min and self.draft_length in (1, AUTO):
            raise InvalidRequestError(
                f"draft_p_min = {self.draft_p_min} ends blocks of drafts: set a draft length of 2 or more, which they are to "
                "have at the most"
            )
        if self.risk is not None and not 0.0 <= self.risk <= 1.0:
            raise InvalidRequestError(f"a risk budget lies in 0 … 1, got {self.risk}")
        if self.recalibrate is Recalibrate.ONLINE and self.risk is None:
            raise InvalidRequestError("θ_u is recalibrated to hold a risk budget, and none is set")
        if self.decide is Decide.DISTRIBUTION and self.estimator is not Estimator.EXPECTED:
            raise InvalidRequestError(
                "a decision before the draw takes the mean of u over all drafts, which samples cannot give: use the "
                "estimator expected, or decide by the token"
            )
        if self.in_flight < 1:
            raise InvalidRequestError(f"at least 1 upload must be allowed in flight, got {self.in_flight}")
        if self.run_on and (self.draft_length != 1 or self.tree):
            raise InvalidRequestError(
                "the LLM runs on behind single drafts only: with a block or a tree it would run twice; leave out one of them"
            )
        if not 1 <= self.stream_interval <= MAX_STREAM_INTERVAL:
            raise InvalidRequestError(
                f"a stream interval lies in 1 … {MAX_STREAM_INTERVAL} tokens, got {self.stream_interval}"
            )
        if not 0 <= self.tree <= MAX_DRAFTS:
            raise InvalidRequestError(f"a tree has 1 … {MAX_DRAFTS} nodes, or is 0 for none, got {self.tree}")
        if self.tree and self.draft_length != 1:
            raise InvalidRequestError(
                f"a tree of {self.tree} nodes takes the place of blocks: leave the draft length at 1, got {self.draft_length}"
            )

    @property
    def audits(self) -> bool:
        """Whether skipped tokens are audited."""
        return self.audit or self.risk is not None

    @property
    def drafting(self) -> DraftSettings:
        """What a single draft depends on."""
        return DraftSettings(self.sampling, self.estimator, self.gamma, self.readout, self.decide)
