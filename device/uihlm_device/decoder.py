"""The decode loop: draft, decide, ask or commit. A generator of one typed record a token.

    record = drafter(ids)                      logits z and what the policy asked for
    x̂, d  = codec.draft(x = shape(z))          quantise, then draw
    δ      = policy(evidence of d)
    δ = 0  commit d; no message
    δ = 1  upload d with the ids skipped since the last upload; commit what the verdict says

Where the policy looks at attention, d is run through the drafter before the decision (its attention row exists only then);
elsewhere d is run when the next token is drafted, so that a rejected draft costs no forward. Either way the drafter's
cache is cut to what is committed by the next forward's `keep_len`, also when the generator is dropped half-way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass

from uihlm_device.conversation import Conversation
from uihlm_device.drafter import Drafter, Record, Wants
from uihlm_device.importance import Importance, Readout, importance
from uihlm_device.importance import wants as attention_wants
from uihlm_device.policies import Evidence, Mode, Needs, Policy
from uihlm_device.session import Session, Upload, Verdict
from uihlm_device.tokens import Origin, TokenRecord
from uihlm_device.uncertainty import Estimator, uncertainty
from uihlm_proto.codecs import Codec, CodedDraft
from uihlm_proto.errors import InvalidRequestError, ProtocolError
from uihlm_proto.randomness import Role, uniform
from uihlm_proto.sampling import Sampling
from uihlm_wireless.clock import Clock
from uihlm_wireless.ledger import Ledger
from uihlm_wireless.timing import TimingProfile


@dataclass(frozen=True, slots=True)
class DecodeSettings:
    """How tokens are drawn and measured; which are uploaded is the policy's.

    Attributes:
        sampling: the contract that shapes x and y.
        max_tokens: length limit of an answer; the stop token counts as one.
        estimator: of the uncertainty u.
        gamma: γ of the importance threshold.
        readout: reading of the attention.
    """

    sampling: Sampling
    max_tokens: int = 96
    estimator: Estimator = Estimator.EXPECTED
    gamma: float = 1.0
    readout: Readout = Readout.HEADS


@dataclass(frozen=True, slots=True)
class _Draft:
    """A draft and what the device knows of it."""

    coded: CodedDraft
    evidence: Evidence
    attention: Importance | None
    after: Record | None
    draft_s: float


class Decoder:
    """Writes answers with one drafter under one policy.

    The clock knows the time, the ledger what each round cost on the air; the loop knows nothing else of the link.
    """

    def __init__(
        self,
        drafter: Drafter,
        codec: Codec,
        policy: Policy,
        settings: DecodeSettings,
        clock: Clock,
        ledger: Ledger,
        timing: TimingProfile,
        connect: Callable[[], Session],
    ) -> None:
        self._drafter = drafter
        self._codec = codec
        self._policy = policy
        self._settings = settings
        self._clock = clock
        self._ledger = ledger
        self._timing = timing
        self._connect = connect
        base = attention_wants(settings.readout) if Needs.IMPORTANCE in policy.needs else Wants()
        self._wants = Wants(base.attention, base.attention_matrix, hidden=Needs.HIDDEN in policy.needs)

    def answer(self, conversation: Conversation) -> Generator[TokenRecord]:
        """Write one answer to the conversation, one record a token, until a stop token or the length limit.

        A dropped generator leaves the conversation right: what was yielded is committed, nothing else is, and a stream
        with an open round is closed.

        Raises:
            InvalidRequestError: if the conversation is empty or has outgrown the drafter's context.
            UihlmError: what the base station refused, or that it cannot be reached.
        """
        room = self._drafter.max_context - len(conversation.ids)
        if not conversation.ids or room < 1:
            raise InvalidRequestError(
                f"the conversation has {len(conversation.ids)} tokens, the drafter's context holds "
                f"{self._drafter.max_context}: start a new one or shorten it"
            )
        limit = min(self._settings.max_tokens, room)
        conversation.use(self._drafter)
        finished = False
        try:
            self._open(conversation)
            write = self._remote if self._policy.mode is Mode.LLM_ALONE else self._draft
            yield from write(conversation, limit)
            finished = True
        finally:
            # A verdict may be on its way that the device never applied: the two ends no longer agree on the ids.
            if not finished:
                conversation.end_session()

    def _open(self, conversation: Conversation) -> None:
        # A device that never asks must run where there is no base station at all.
        if self._policy.mode is Mode.DEVICE_ALONE or conversation.session is not None:
            return
        session = self._connect()
        conversation.opened(session, session.open(conversation.ids, conversation.key))
        if self._clock.simulated:
            # One computation at a time: both prefills share this machine, and only the virtual clock lets them overlap.
            self.settle_open(conversation)

    def settle_open(self, conversation: Conversation) -> None:
        """Wait until the open session's prefill is done and note what it cost."""
        if conversation.session is not None and conversation.open_cost is None:
            conversation.open_cost = conversation.session.ready()

    def _draft(self, conversation: Conversation, limit: int) -> Generator[TokenRecord]:
        """Draft token by token; ask where the policy says so."""
        after: Record | None = None
        rounds = 0
        for _ in range(limit):
            draft = self._make(conversation, after)
            if self._policy.uploads(draft.evidence):
                rounds += 1
                record = self._ask(conversation, draft, rounds)
            else:
                record = self._record(draft, len(conversation.ids), draft.coded.token, Origin.LOCAL)
            # The drafter has run d already where attention was asked for; that holds only if d itself was committed.
            after = draft.after if record.token == draft.coded.token else None
            conversation.drafted = len(conversation.ids) + (after is not None)
            conversation.ids.append(record.token)
            if record.uploaded:
                conversation.told = len(conversation.ids)
            yield record
            if record.stop:
                return

    def _make(self, conversation: Conversation, record: Record | None) -> _Draft:
        """Draft the next token and gather the evidence the policy needs."""
        started_s = time.perf_counter()
        ids, key, position = conversation.ids, conversation.key, len(conversation.ids)
        needs = self._policy.needs
        if record is None:
            # The last id is run again where a dropped answer left it in the cache: its record went with that answer.
            keep_len = min(conversation.drafted, position - 1)
            record = self._drafter.forward(keep_len, ids[keep_len:], self._wants)
            conversation.drafted = position
        coded = self._codec.draft(self._settings.sampling.distribution(record.logits), key, position)
        d = coded.token
        u = (
            uncertainty(self._settings.estimator, record.logits, d, key, position)
            if Needs.UNCERTAINTY in needs
            else None
        )
        # Views die with the next forward.
        logits = record.logits.copy() if Needs.LOGITS in needs else None
        hidden = record.hidden.copy() if record.hidden is not None else None
        attention: Importance | None = None
        after: Record | None = None
        if Needs.IMPORTANCE in needs:
            after = self._drafter.forward(position, [d], self._wants)
            assert after.attention is not None, "the drafter was asked for attention"
            attention = importance(
                after.attention, self._settings.gamma, self._settings.readout, after.attention_matrix
            )
        evidence = Evidence(
            draft=d,
            x_d=float(coded.x_hat[d]),
            thin=uniform(key, Role.THIN, position) if Needs.COIN in needs else None,
            u=u,
            importance=None if attention is None else attention.count,
            logits=logits,
            hidden=hidden,
        )
        draft_s = time.perf_counter() - started_s if self._timing.draft_s is None else self._timing.draft_s
        self._clock.advance(draft_s)
        return _Draft(coded, evidence, attention, after, draft_s)

    def _ask(self, conversation: Conversation, draft: _Draft, round_in_answer: int) -> TokenRecord:
        """Upload one draft, wait for the verdict, return the record of the token it leaves."""
        session = self._session(conversation)
        context_ids, skipped_ids = conversation.unsent()
        position = len(conversation.ids)
        round_number = session.upload(
            Upload(conversation.epoch, position, context_ids, skipped_ids, payloads=(draft.coded.encode(),))
        )
        verdict = self._verdict(session, round_number)
        if verdict.stale or (verdict.token is None) != (verdict.accepted == 1) or verdict.accepted > 1:
            raise ProtocolError(f"the base station's verdict on one draft makes no sense: {verdict}")
        conversation.epoch += verdict.token is not None
        token = draft.coded.token if verdict.token is None else verdict.token
        origin = Origin.ACCEPTED if verdict.token is None else Origin.RESAMPLED
        return self._record(draft, position, token, origin, verdict, round_number, round_in_answer)

    def _remote(self, conversation: Conversation, limit: int) -> Generator[TokenRecord]:
        """Let the LLM write alone (policy `llm`): one request, one verdict a token."""
        session = self._session(conversation)
        context_ids, skipped_ids = conversation.unsent()
        round_number = session.upload(
            Upload(conversation.epoch, len(conversation.ids), [*context_ids, *skipped_ids], generate=limit)
        )
        while True:
            verdict = self._verdict(session, round_number)
            if verdict.token is None:
                raise ProtocolError("the base station was asked to write and sent a verdict without a token")
            position = len(conversation.ids)
            conversation.ids.append(verdict.token)
            conversation.told = len(conversation.ids)
            record = self._record(None, position, verdict.token, Origin.LLM, verdict, round_number, 1)
            yield record
            if verdict.last:
                return
            if record.stop:
                # It stops a chat here and not there: the base station writes on, so this stream is of no more use.
                conversation.end_session()
                return

    def _session(self, conversation: Conversation) -> Session:
        if conversation.session is None:
            raise ProtocolError("a policy that writes on the device alone asked for an upload")
        return conversation.session

    def _verdict(self, session: Session, round_number: int) -> Verdict:
        verdict = session.verdict(round_number)
        self._clock.wait_until(self._clock.verdict_at(round_number))
        return verdict

    def _record(
        self,
        draft: _Draft | None,
        position: int,
        token: int,
        origin: Origin,
        verdict: Verdict | None = None,
        round_number: int | None = None,
        round_in_answer: int | None = None,
    ) -> TokenRecord:
        evidence = None if draft is None else draft.evidence
        attention = None if draft is None else draft.attention
        bill = None if round_number is None else self._ledger.pop(round_number)
        cost = None if verdict is None else verdict.cost
        return TokenRecord(
            position=position,
            token=token,
            round=round_in_answer,
            origin=origin,
            stop=token in self._drafter.stop_ids,
            uploaded=draft is not None and verdict is not None,
            x_d=None if evidence is None else evidence.x_d,
            y_d=verdict.y_d[0] if verdict is not None and verdict.y_d else None,
            tv=verdict.tv[0] if verdict is not None and verdict.tv else None,
            reject_prob=verdict.reject_prob[0] if verdict is not None and verdict.reject_prob else None,
            u=None if evidence is None else evidence.u,
            importance=None if attention is None else attention.count,
            attention_entropy=None if attention is None else attention.entropy_nat,
            attention_max=None if attention is None else attention.max_weight,
            draft_s=0.0 if draft is None else draft.draft_s,
            forward_s=0.0 if bill is None else bill.forward_s,
            queue_s=0.0 if cost is None else cost.queue_s,
            link_s=0.0 if bill is None else bill.link_s,
            airtime_s=0.0 if bill is None else bill.airtime_s,
            model_bits=0 if bill is None else bill.model_bit,
            payload_bits=0 if bill is None else bill.payload_bit,
            wire_bytes=0 if bill is None else bill.wire_bytes,
            uplink_wire_bytes=0 if bill is None else bill.uplink_wire_bytes,
            llm_forwards=0 if cost is None else cost.forwards,
            llm_positions=0 if cost is None else cost.positions,
        )
