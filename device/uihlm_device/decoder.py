"""The decode loop: draft, decide, ask or commit. A generator of one typed record a token.

    d, evidence = draft(ids)                   uihlm_device/drafting.py
    δ           = policy(evidence)
    δ = 0  commit d; no message
    δ = 1  upload d with the ids skipped since the last upload; commit what the verdict says

An upload may carry a block of drafts (`draft_length`), and drafting may go on while verdicts are in flight (`in_flight`), as if
they were good: what a verdict corrects is dropped with all that was drafted after it, so the tokens are those of a loop that
waits. The drafter's cache is cut to what still stands, also when the generator is dropped half-way.

A session may outlive its streams (outages/lasting_session.py). Where it says that the link is lost, what is tentative
falls, and tokens that the policy would ask about are committed unasked, as `Origin.OUTAGE`, until it is reachable again.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace

from uihlm_device import llm_alone
from uihlm_device.answer import Answer
from uihlm_device.audit import AuditLedger
from uihlm_device.charges import NOTHING, Charge, Judged, token_record
from uihlm_device.conversation import Conversation
from uihlm_device.decode_settings import DecodeSettings
from uihlm_device.draft_length import LengthChooser
from uihlm_device.drafters.drafter import Drafter
from uihlm_device.drafting import Draft, Drafting, check_decide
from uihlm_device.flights import Flight
from uihlm_device.outages.opening import open_session
from uihlm_device.outages.outage import LinkLostError
from uihlm_device.rules.policies import Mode, Policy
from uihlm_device.stream.session import RunOn, Stream, Upload
from uihlm_device.tokens import Origin, TokenRecord
from uihlm_device.trees.tree_rounds import tree_rounds
from uihlm_proto.codecs import Codec
from uihlm_proto.errors import InvalidRequestError, UihlmError
from uihlm_wireless.clock import Clock
from uihlm_wireless.ledger import Ledger
from uihlm_wireless.timing import TimingProfile


class Decoder:
    """Writes answers with one drafter under one policy.

    The clock knows the time, the ledger what each round cost on the air; the loop knows nothing else of the link.
    `policy` is the rule it goes by, `trees` what writes by trees and counts them, if the settings ask for any.
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
        connect: Callable[[], Stream],
    ) -> None:
        check_decide(policy, settings.decide)
        self._drafter = drafter
        self._codec = codec
        self.policy = policy
        self._settings = settings
        self._clock = clock
        self._ledger = ledger
        self._timing = timing
        self._connect = connect
        self._lengths = LengthChooser()
        self.trees = tree_rounds(drafter, codec, policy, settings, clock, ledger, timing)

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
        conversation.audit = AuditLedger()
        finished = False
        try:
            self._open(conversation)
            alone = self.policy.mode is Mode.LLM_ALONE
            write = self._remote if alone else self.trees.write if self.trees else self._draft
            yield from write(conversation, limit)
            if self._settings.audits and conversation.session is not None:
                # What nobody is there to audit counts as not audited.
                with contextlib.suppress(LinkLostError):
                    conversation.audit_tail(conversation.session)
            finished = True
        except (GeneratorExit, KeyboardInterrupt, UihlmError):
            raise
        except BaseException:
            # Of a forward that failed nobody knows how much the cache took.
            conversation.drafted = 0
            raise
        finally:
            # A verdict may be on its way that the device never applied: the two ends no longer agree on the ids.
            if not finished:
                conversation.end_session()

    def _open(self, conversation: Conversation) -> None:
        # A device that never asks must run where there is no base station at all.
        if self.policy.mode is Mode.DEVICE_ALONE:
            return
        outage = self._settings.outage and self._settings.outage.under(self.policy.mode)
        opened = open_session(conversation, self._connect, self._ledger, self._clock, outage)
        # Several drafts may need more room than one token does, and how much there is only the base station knows.
        several = self._settings.draft_length != 1 or self._settings.tree
        # On a virtual clock one computation at a time: both prefills share this machine, and only that clock overlaps them.
        if opened and (self._clock.simulated or (several and conversation.room is None)):
            self.settle_open(conversation)

    def settle_open(self, conversation: Conversation) -> None:
        """Wait until the open session's prefill is done and note what it cost; nothing where the device went on alone."""
        if conversation.session is not None and conversation.open_cost is None:
            with contextlib.suppress(LinkLostError):
                conversation.open_cost = conversation.session.ready()

    def _draft(self, conversation: Conversation, limit: int) -> Generator[TokenRecord]:
        """Draft token by token, ask where the policy says so, and go on drafting while the window allows."""
        drafting = Drafting(
            self._drafter, self._codec, self.policy, self._settings.drafting, conversation.key, conversation.drafted
        )
        length = (self._settings.draft_length or self._lengths.best()) if self.policy.mode is Mode.EVERY_TOKEN else 1
        doubt = self._settings.draft_p_min
        answer = Answer(conversation, drafting, limit, length, doubt, self._drafter.stop_ids)
        try:
            while not answer.finished:
                try:
                    if answer.must_land(self._settings.in_flight) or self._arrived(answer):
                        yield from self._land(answer)
                    else:
                        yield from self._advance(answer)
                except LinkLostError:
                    drafting.cut(len(conversation.ids))
                    self._forsake(answer, [])
        finally:
            # What is tentative lies beyond: of the committed ids the cache holds these.
            conversation.drafted = min(drafting.held, len(conversation.ids))

    def _advance(self, answer: Answer) -> Generator[TokenRecord]:
        """Draft one token on all that is committed and assumed; it is committed at once if nothing is in flight."""
        ahead, session = answer.ahead, answer.conversation.session
        asks = session is None or session.reachable()
        guess_s = self._guess(answer)
        if ahead.flights and ahead.flights[-1].guess in answer.stop_ids:
            # The answer would end with it: nothing follows before the verdict says otherwise.
            answer.purse.owe(Charge(draft_s=guess_s))
            return
        draft = answer.drafting.draft(answer.ids(), self._timing.draft_s)
        self._clock.advance(draft.draft_s)
        self._lengths.drafted(draft.draft_s)
        answer.conversation.audit.note(draft.position, draft.x_d)
        if guess_s:
            draft = replace(draft, draft_s=draft.draft_s + guess_s)
        uploads = self.policy.uploads(draft.evidence)
        if uploads and asks:
            ahead.block.append(draft)
            if answer.block_is_over():
                self._launch(answer)
        elif ahead.flights:
            ahead.skip(draft)
        else:
            yield self._commit(answer, draft.token, Origin.OUTAGE if uploads else Origin.LOCAL, draft)

    def _guess(self, answer: Answer) -> float:
        """Assume the bonus of the youngest flight, so that drafts can follow it; return the seconds that took."""
        flights = answer.ahead.flights
        if not flights or not flights[-1].earns_bonus(answer.stop_ids) or flights[-1].guess is not None:
            return 0.0
        started_s = time.perf_counter()
        flights[-1].guess = answer.drafting.guess_bonus(answer.ids())
        took_s = time.perf_counter() - started_s if self._timing.draft_s is None else 0.0
        self._clock.advance(took_s)
        return took_s

    def _launch(self, answer: Answer) -> None:
        """Upload the block with the ids skipped before it."""
        conversation, ahead = answer.conversation, answer.ahead
        session = conversation.asked()
        context_ids, skipped_ids, position = answer.unsent()
        block = ahead.block
        audited = range(position - len(skipped_ids), position) if self._settings.audits else range(0)
        round_number = session.upload(
            Upload(
                conversation.epoch,
                position,
                context_ids,
                skipped_ids,
                payloads=[draft.coded.encode() for draft in block],
                tokens=[draft.token for draft in block],
                assumed_id=ahead.flights[-1].guess if ahead.flights else None,
                audit=conversation.audit.billed(audited),
                run_on=self._run_on(answer),
            )
        )
        answer.rounds += 1
        flight = Flight(round_number, answer.rounds, block, audited)
        ahead.launch(flight)
        conversation.told = position + len(block) + flight.earns_bonus(answer.stop_ids)
        if self._clock.simulated:
            # One computation at a time: the verdict is awaited now, and hidden until the virtual clock shows it.
            flight.verdict = session.verdict(round_number)

    def _run_on(self, answer: Answer) -> RunOn:
        """Return whether the LLM may run on with the verdict to come: if the very next draft will be uploaded."""
        if not self._settings.run_on or self.policy.mode is not Mode.EVERY_TOKEN or answer.is_last():
            return RunOn.NO
        # One computation at a time, where they are timed.
        return RunOn.COUNTED if self._clock.simulated else RunOn.NOW

    def _arrived(self, answer: Answer) -> bool:
        """Return whether the oldest flight's verdict is there to be seen."""
        if not answer.ahead.flights:
            return False
        flight = answer.ahead.flights[0]
        if self._clock.simulated:
            return self._clock.now() >= self._clock.verdict_at(flight.round)
        return answer.conversation.asked().arrived(flight.round)

    def _land(self, answer: Answer) -> Generator[TokenRecord]:
        """Wait for the oldest flight's verdict and commit what it lets stand."""
        conversation, ahead = answer.conversation, answer.ahead
        session = conversation.asked()
        verdict = ahead.flights[0].verdict or session.verdict(ahead.flights[0].round)
        flight = ahead.land()
        self._clock.wait_until(self._clock.verdict_at(flight.round))
        flight.check(verdict, answer.stop_ids)
        conversation.audit.take(flight.audited, verdict.skipped_reject_prob)
        bill = self._ledger.pop(flight.round)
        charge = Charge(bill, verdict.cost)
        self._lengths.judged_round(len(flight.drafts), verdict.accepted, bill.link_s, bill.airtime_s)
        if verdict.cost.forwards:
            self._lengths.forward(verdict.cost.positions, bill.forward_s)
        stands = verdict.accepted == len(flight.drafts)
        for index, draft in enumerate(flight.drafts[: verdict.accepted]):
            judged = Judged(flight.number, verdict, index)
            yield self._commit(answer, draft.token, Origin.ACCEPTED, draft, judged, charge)
            charge = NOTHING
        if not stands or (flight.guess is not None and flight.guess != verdict.token):
            # What was drafted after it falls, and what of that was sent is answered as stale.
            conversation.epoch += not stands or flight.guess_sent
            conversation.told = len(conversation.ids) + 1
            answer.drafting.cut(len(conversation.ids))
            self._forsake(answer, flight.drafts[verdict.accepted + 1 :])
        if verdict.token is not None:
            origin = Origin.BONUS if stands else Origin.RESAMPLED
            fallen = None if stands else flight.drafts[verdict.accepted]
            judged = Judged(flight.number, verdict, verdict.accepted)
            yield self._commit(answer, verdict.token, origin, fallen, judged, charge)
        # Tokens skipped behind it waited for this verdict alone.
        waiting = ahead.behind_landed()
        while waiting and not answer.finished:
            draft = waiting.popleft()
            yield self._commit(answer, draft.token, Origin.LOCAL, draft)

    def _forsake(self, answer: Answer, fallen: Sequence[Draft]) -> None:
        """Give up what is tentative; its costs go to the next token."""
        drafts = [*fallen, *answer.ahead.drafts()]
        answer.purse.owe(Charge(draft_s=math.fsum(draft.draft_s for draft in drafts)))
        answer.forsaken += answer.ahead.drop()

    def _commit(
        self,
        answer: Answer,
        token: int,
        origin: Origin,
        draft: Draft | None,
        judged: Judged | None = None,
        charge: Charge = NOTHING,
    ) -> TokenRecord:
        """Append a token to the conversation and return its record."""
        if answer.forsaken:
            # First, since it may wait, and fail: a token that was not handed over would be nobody's.
            answer.settle_forsaken(self._ledger, last=answer.ends_with(token))
        position, stop = answer.commit(token)
        charge = charge.plus(answer.purse.taken())
        return token_record(position, token, origin, stop=stop, draft=draft, judged=judged, charge=charge)

    def _remote(self, conversation: Conversation, limit: int) -> Generator[TokenRecord]:
        session, stop_ids = conversation.asked(), self._drafter.stop_ids
        every = self._settings.stream_interval
        return llm_alone.write(conversation, session, limit, every, stop_ids, self._clock, self._ledger)
