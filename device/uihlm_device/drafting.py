"""One draft token: logits z and what the policy asked for, then x̂, d and the evidence that the decision rests on.

    record = drafter(ids)                      logits z of the next token
    x̂, d  = codec.draft(x = shape(z))          quantise, then draw

The decision may come before the draw (`Decide.DISTRIBUTION`): u is then its mean over d ~ x̂, the attention row that of the last
id, and the draft stays hidden from the policy. An upload then says nothing of d, so that what the base station makes of it is
distributed as y exactly; a decision that looks at d lets the tokens it likes pass, and biases those it uploads.

Where the policy looks at attention, d is run through the drafter at once (its attention row exists only then); elsewhere
d is run when the next token is drafted, so that a rejected draft costs no forward. The drafter's cache is cut to what still
stands by the next forward's `keep_len`.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Sequence
from dataclasses import dataclass

from uihlm_device.drafters.drafter import Drafter
from uihlm_device.record import Record, Wants
from uihlm_device.rules.importance import Importance, Readout, importance
from uihlm_device.rules.importance import wants as attention_wants
from uihlm_device.rules.policies import Evidence, Needs, Policy
from uihlm_device.rules.uncertainty import Estimator, expected_before, uncertainty
from uihlm_proto.codecs import Codec, CodedDraft, Judge
from uihlm_proto.errors import InvalidRequestError
from uihlm_proto.randomness import Role, uniform, words
from uihlm_proto.sampling import Sampling, draw


class Decide(enum.Enum):
    """What a decision looks at."""

    TOKEN = "token"
    DISTRIBUTION = "distribution"


def check_decide(policy: Policy, decide: Decide) -> None:
    """Raise InvalidRequestError if the policy needs the draft and the decision comes before it."""
    if decide is Decide.DISTRIBUTION and Needs.DRAFT in policy.needs:
        raise InvalidRequestError(
            "this policy looks at the draft itself, and a decision before the draw has none: take hlm, u, i, ui, random or "
            "u-random, or decide by the token"
        )


@dataclass(frozen=True, slots=True)
class Draft:
    """A draft token and what the device knows of it.

    Attributes:
        position: absolute, counted from the first prompt token.
        coded: the token, x̂ and its payload.
        evidence: what the policy was told.
        attention: importance of the token; None unless the policy asked.
        draft_s: seconds it took.
    """

    position: int
    coded: CodedDraft
    evidence: Evidence
    attention: Importance | None
    draft_s: float

    @property
    def token(self) -> int:
        """The token d."""
        return self.coded.token

    @property
    def x_d(self) -> float:
        """Its probability under the distribution it was drawn from."""
        return float(self.coded.x_hat[self.coded.token])


@dataclass(frozen=True, slots=True)
class DraftSettings:
    """What a single draft depends on; fields as in `DecodeSettings`."""

    sampling: Sampling
    estimator: Estimator
    gamma: float
    readout: Readout
    decide: Decide = Decide.TOKEN


class Drafting:
    """Drafts at the end of a sequence of ids, with one drafter, codec and policy.

    Attributes:
        held: how many leading ids of the sequence the drafter's cache holds; whoever changes the sequence cuts it.
    """

    def __init__(
        self,
        drafter: Drafter,
        codec: Codec,
        policy: Policy,
        settings: DraftSettings,
        key: bytes,
        held: int,
    ) -> None:
        self.held = held
        self._drafter = drafter
        self._codec = codec
        # Asked once: a flag's own test runs Python, five times a draft.
        self._needs_u, self._needs_importance, self._needs_logits, self._needs_coin = (
            need in policy.needs for need in (Needs.UNCERTAINTY, Needs.IMPORTANCE, Needs.LOGITS, Needs.COIN)
        )
        self._settings = settings
        self._key = key
        # The record after the last id of the sequence, where it has been run already. Its arrays die with the next forward.
        self._after: Record | None = None
        base = attention_wants(settings.readout) if self._needs_importance else Wants()
        self._wants = Wants(base.attention, base.attention_matrix, hidden=Needs.HIDDEN in policy.needs)

    def cut(self, length: int) -> None:
        """Say that of the sequence only the first `length` ids still stand."""
        if length < self.held:
            self.held, self._after = length, None

    def draft(self, ids: Sequence[int], fixed_s: float | None) -> Draft:
        """Draft the token after `ids`, whose first `held` the cache holds.

        Args:
            ids: the whole sequence.
            fixed_s: seconds to charge; None charges what it took.
        """
        started_s = time.perf_counter()
        position = len(ids)
        record = self._record(ids)
        coded = self._codec.draft(self._settings.sampling.distribution(record.logits), self._key, position)
        d = coded.token
        before = self._settings.decide is Decide.DISTRIBUTION
        u = None
        if self._needs_u and before:
            u = expected_before(record.logits, coded.x_hat)
        elif self._needs_u:
            u = uncertainty(self._settings.estimator, record.logits, d, self._key, position)
        # Views die with the next forward.
        logits = record.logits.copy() if self._needs_logits else None
        hidden = record.hidden.copy() if record.hidden is not None else None
        attention: Importance | None = None
        if self._needs_importance:
            # Before the draw, the last id's row is at hand; d itself is run later, if it stands.
            attention = self._read(record) if before else self._importance(position, d)
        evidence = Evidence(
            draft=None if before else d,
            x_d=None if before else float(coded.x_hat[d]),
            thin=uniform(self._key, Role.THIN, position) if self._needs_coin else None,
            u=u,
            importance=None if attention is None else attention.count,
            logits=logits,
            hidden=hidden,
        )
        draft_s = time.perf_counter() - started_s if fixed_s is None else fixed_s
        return Draft(position, coded, evidence, attention, draft_s)

    def guess_bonus(self, ids: Sequence[int]) -> int:
        """Return what the base station's bonus token after `ids` will most likely be: the drafter's own draw by its noise."""
        sampling, logits = self._settings.sampling, self._record(ids).logits
        if self._codec.judge is Judge.COUPLED:
            return sampling.race(logits, words(self._key, Role.GUMBEL, len(ids), logits.size))
        return draw(sampling.distribution(logits), uniform(self._key, Role.BONUS, len(ids)))

    def _record(self, ids: Sequence[int]) -> Record:
        """Return the record after the last id, running what the cache does not hold."""
        if self._after is None or self.held != len(ids):
            # The last id is run again where its record is gone.
            keep_len = min(self.held, len(ids) - 1)
            self._after = self._drafter.forward(keep_len, ids[keep_len:], self._wants)
            self.held = len(ids)
        return self._after

    def _importance(self, position: int, d: int) -> Importance:
        after = self._after = self._drafter.forward(position, [d], self._wants)
        self.held = position + 1
        return self._read(after)

    def _read(self, record: Record) -> Importance:
        assert record.attention is not None, "the drafter was asked for attention"
        if record.attention.shape[-1] < 2:
            # The very first id has nothing to look back at.
            return Importance(0, 0.0, 0.0)
        return importance(record.attention, self._settings.gamma, self._settings.readout, record.attention_matrix)
