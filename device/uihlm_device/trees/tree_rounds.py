"""Answers written by trees of drafts under codec `coupled` (`--tree N`): one upload, one forward of the LLM, several tokens.

    grow      the N likeliest drafts (uihlm_device/trees/tree.py), in as many calls of the drafter as the tree is deep, about
    ask       their ids and parents, with what the base station has not seen
    commit    the path that the LLM's own draws walked, and the draw that left the tree
    settle    the drafter's cache to that path: no token of it is run twice

While a verdict is in flight the device may draft on (`in_flight` above 1): the next likeliest nodes run, those beside the tree
and those below it. Each N of them are sent as well, until `in_flight` uploads wait: they continue the tree, and where the draw
that left it is one of them, the LLM walks on from there without another trip. Where it is not, but has run, the next tree
starts from what hangs there. What was sent and is not on the LLM's way costs airtime alone.

Every token is the LLM's own draw, so the answer is that of policy `llm`, whatever the tree. The last token of an answer at
its limit has no room for a path and a draw: it is asked for by a single draft, as in a chain. While the link is lost the
device's own draws are committed one by one, marked; what continued a tree on a stream that was lost is given up, and a new
tree begun.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import replace

from uihlm_device.charges import NOTHING, Charge, Judged, Purse, token_record
from uihlm_device.conversation import Conversation
from uihlm_device.decode_settings import DecodeSettings
from uihlm_device.drafters.drafter import Drafter, TreeDrafter
from uihlm_device.outages.outage import LinkLostError
from uihlm_device.rules.policies import Evidence, Mode, Policy
from uihlm_device.stream.session import Session, Upload, Verdict
from uihlm_device.tokens import Origin, TokenRecord
from uihlm_device.trees.flight import TreeFlight, check_walk
from uihlm_device.trees.grower import Grower
from uihlm_device.trees.grown import Grown, TreeDraft
from uihlm_device.trees.pace import Pace
from uihlm_device.trees.sent import Sent
from uihlm_device.trees.tree import Place
from uihlm_proto.codecs import Codec, Judge
from uihlm_proto.codecs.ids import encode_id
from uihlm_proto.errors import InvalidRequestError, ProtocolError
from uihlm_proto.limits import MAX_DRAFTS, MAX_TREE
from uihlm_wireless.clock import Clock
from uihlm_wireless.ledger import Ledger
from uihlm_wireless.timing import TimingProfile


class TreeRounds:
    """Writes answers by trees with one drafter.

    Attributes:
        rounds: uploads made.
        grower: what ran for them.
    """

    def __init__(
        self,
        drafter: TreeDrafter,
        settings: DecodeSettings,
        clock: Clock,
        ledger: Ledger,
        timing: TimingProfile,
    ) -> None:
        self.rounds = 0
        self.grower = Grower(drafter, settings, clock, timing)
        self._drafter = drafter
        self._settings = settings
        self._clock = clock
        self._ledger = ledger
        self._paces = Pace(), Pace()
        # Uploads in this answer, and those of them that will be answered as stale.
        self._uploads = 0
        self._forsaken: list[TreeFlight] = []
        self._purse = Purse()

    def write(self, conversation: Conversation, limit: int) -> Generator[TokenRecord]:
        """Write one answer, one record a token; see `Decoder.answer`."""
        session = conversation.asked()
        written = 0
        self._uploads = 0
        # Ids that the drafter's cache holds, of which a dropped generator may not have committed all.
        held = conversation.drafted
        self._forsaken, self._purse = [], Purse()
        self.grower.drop()
        flights: deque[TreeFlight] = deque()
        sent: Sent | None = None
        finished = False
        try:
            while not finished:
                left = limit - written if conversation.room is None else min(limit - written, conversation.room)
                grown = self.grower.plant(conversation, held, left, sent)
                held = len(conversation.ids)
                try:
                    if not flights:
                        self.grower.grow(grown, left if session.reachable() else 1)
                        flights.append(self._begin(conversation, session, grown, chain=left == 1))
                    flight = flights[0]
                    charge, verdict = self._land(session, flights, grown, left)
                except LinkLostError:
                    self._begin_anew(flights)
                    sent = None
                    self._purse.owe(self._settle_forsaken(session, last=True))
                    record = self._alone(conversation, grown)
                    written += 1
                    finished = record.stop or written >= limit or conversation.room == 0
                    yield record
                    continue
                if verdict.stale and flight.nodes.start > 0 and self._settings.outage is not None:
                    # Its stream was lost, and the next one knows no tree.
                    self._begin_anew(flights)
                    sent = None
                    self._purse.owe(charge)
                    continue
                charge = charge.plus(self._purse.taken())
                sent = grown.sent
                path = list(verdict.path) if left > 1 else list(range(verdict.accepted))
                check_walk(verdict, path, sent, flight, left, self._drafter.stop_ids)
                end = path[-1] if path else sent.root
                corrected = end in sent.parents[: flight.nodes.stop]
                conversation.epoch += corrected
                conversation.told = len(conversation.ids) + len(path) + (verdict.token is not None)
                self.grower.learn(grown, path, verdict.token)
                steps: list[tuple[int, Origin, TreeDraft | None]] = [
                    (sent.tokens[node], Origin.ACCEPTED, grown.draft(node)) for node in path
                ]
                if verdict.token is not None:
                    fallen = grown.draft(sent.parents.index(end)) if corrected else None
                    steps.append((verdict.token, Origin.RESAMPLED if corrected else Origin.BONUS, fallen))
                held += self.grower.settle(grown, path, verdict.token)
                sent = self._follow(flights, sent, end, verdict.token)
                for index, (token, origin, draft) in enumerate(steps):
                    stop = token in self._drafter.stop_ids
                    finished = stop or written + 1 >= limit or conversation.room in (0, 1)
                    # First, since it may wait, and fail: a token in the history that was not handed over would be nobody's.
                    charge = charge.plus(self._settle_forsaken(session, last=finished))
                    written += 1
                    position = len(conversation.ids)
                    conversation.ids.append(token)
                    judged = Judged(flight.number, verdict, index)
                    yield token_record(position, token, origin, stop=stop, draft=draft, judged=judged, charge=charge)
                    charge = NOTHING
        finally:
            conversation.drafted = min(held, len(conversation.ids))

    def _begin_anew(self, flights: deque[TreeFlight]) -> None:
        """Give up what was drafted and sent after the committed ids."""
        self._drafter.settle([])
        self.grower.drop()
        self._forsaken += flights
        flights.clear()

    def _begin(self, conversation: Conversation, session: Session, grown: Grown, chain: bool) -> TreeFlight:
        """Send a new tree; a chain is one draft, and no tree."""
        context_ids, skipped_ids = conversation.unsent()
        upload = Upload(conversation.epoch, len(conversation.ids), context_ids, skipped_ids)
        return self._send(session, upload, grown, grown.tree.nodes()[0], chain)

    def _continue(self, session: Session, grown: Grown, places: Sequence[Place]) -> TreeFlight:
        """Send more of a tree."""
        sent = grown.sent
        upload = Upload(sent.epoch, sent.first_position, continues=len(sent.tokens))
        return self._send(session, upload, grown, places)

    def _send(
        self, session: Session, upload: Upload, grown: Grown, places: Sequence[Place], chain: bool = False
    ) -> TreeFlight:
        sent, before = grown.sent, len(grown.sent.tokens)
        sent.add(grown.tree, places)
        tokens = sent.tokens[before:]
        round_number = session.upload(
            replace(
                upload,
                payloads=[encode_id(token, self._drafter.vocabulary_size) for token in tokens],
                tokens=tokens,
                parents=() if chain else sent.parents[before:],
            )
        )
        self.rounds += 1
        self._uploads += 1
        flight = TreeFlight(round_number, self._uploads, range(before, len(sent.tokens)))
        if self._clock.simulated:
            # One computation at a time: the verdict is awaited now, and hidden until the virtual clock shows it.
            flight.verdict = self._verdict(session, flight)
        return flight

    def _verdict(self, session: Session, flight: TreeFlight) -> Verdict:
        if flight.verdict is not None:
            return flight.verdict
        try:
            return session.verdict(flight.round)
        except LinkLostError:
            if flight.nodes.start > 0:
                # What the LLM made of the tree before it is known, and stands.
                return Verdict(0, None, stale=True)
            self._purse.owe(Charge(self._ledger.pop(flight.round)))
            raise

    def _land(self, session: Session, flights: deque[TreeFlight], grown: Grown, left: int) -> tuple[Charge, Verdict]:
        """Wait for the oldest flight's verdict, and draft on meanwhile."""
        flight, since_s = flights[0], self._clock.now()
        # The verdict on what continues a tree comes sooner after the one before it.
        pace = self._paces[flight.nodes.start > 0]
        if self._settings.in_flight > 1 and left > 1:
            self._draft_ahead(session, flights, grown, pace)
        verdict = self._verdict(session, flights.popleft())
        if verdict.stale:
            return Charge(self._ledger.pop(flight.round), verdict.cost, grown.draft_s), verdict
        pace.waited_s = max(0.0, self._clock.verdict_at(flight.round) - since_s)
        self._clock.wait_until(self._clock.verdict_at(flight.round))
        return Charge(self._ledger.pop(flight.round), verdict.cost, grown.draft_s), verdict

    def _draft_ahead(self, session: Session, flights: deque[TreeFlight], grown: Grown, pace: Pace) -> None:
        """Run the likeliest nodes that the tree lacks while a verdict is awaited, and send them where the window allows."""
        tree, sent, size = grown.tree, grown.sent, self._settings.tree
        took_s = 0.0
        # As long as the last verdict took; a batch that would end after that would make this one wait.
        while not self._landed(session, flights[0]) and (most := pace.fits(took_s)):
            sends = len(flights) < self._settings.in_flight and len(sent.tokens) + size <= MAX_TREE
            nodes, spent_s = self.grower.run_batch(tree, grown.race, len(sent.places) if sends else MAX_DRAFTS, most)
            if nodes:
                pace.ran(nodes, spent_s)
                took_s += spent_s
            elif sends and (places := sent.further(tree, size)):
                flights.append(self._continue(session, grown, places))
            else:
                break
        grown.draft_s += took_s

    def _landed(self, session: Session, flight: TreeFlight) -> bool:
        clock = self._clock
        if flight.verdict is not None and flight.verdict.stale:
            return True
        return clock.now() >= clock.verdict_at(flight.round) if clock.simulated else session.arrived(flight.round)

    def _follow(self, flights: deque[TreeFlight], sent: Sent, end: int, token: int | None) -> Sent | None:
        """Go to where the LLM went on, if that was sent; give up the flights that are not on its way."""
        node = None if token in self._drafter.stop_ids else sent.after(end, token)
        while flights and (node is None or node not in flights[0].nodes):
            self._forsaken.append(flights.popleft())
        if node is None:
            return None
        sent.root = node
        return sent

    def _settle_forsaken(self, session: Session, last: bool) -> Charge:
        """Return what given-up uploads cost whose answers have come; before the last token of an answer wait for all."""
        charge, waiting = NOTHING, []
        for flight in self._forsaken:
            if last or flight.verdict is not None or session.arrived(flight.round):
                verdict = self._verdict(session, flight)
                if not verdict.stale:
                    raise ProtocolError(f"the base station judged branches that its LLM had left: {verdict}")
                charge = charge.plus(Charge(self._ledger.pop(flight.round), verdict.cost))
            else:
                waiting.append(flight)
        self._forsaken = waiting
        return charge

    def _alone(self, conversation: Conversation, grown: Grown) -> TokenRecord:
        """Commit the drafter's own draw, and charge it with what was sent in vain."""
        below = grown.tree.candidates[0]
        token, position = below.tokens[0], len(conversation.ids)
        conversation.ids.append(token)
        draft = TreeDraft(Evidence(token, below.x[0], None, None, None, None, None))
        charge = self._purse.taken().plus(Charge(draft_s=grown.draft_s))
        stop = token in self._drafter.stop_ids
        return token_record(position, token, Origin.OUTAGE, stop=stop, draft=draft, judged=None, charge=charge)


def tree_rounds(
    drafter: Drafter,
    codec: Codec,
    policy: Policy,
    settings: DecodeSettings,
    clock: Clock,
    ledger: Ledger,
    timing: TimingProfile,
) -> TreeRounds | None:
    """Return what writes answers by trees; None where the settings ask for no tree, or the policy does not upload all.

    Raises:
        InvalidRequestError: if the codec's judge, or the drafter, has no trees.
    """
    if not settings.tree or policy.mode is not Mode.EVERY_TOKEN:
        return None
    if codec.judge is not Judge.COUPLED:
        raise InvalidRequestError(f"a tree of drafts needs the codec coupled, not {codec.name}")
    if not isinstance(drafter, TreeDrafter):
        raise InvalidRequestError("this drafter looks at one branch alone: leave the tree out")
    return TreeRounds(drafter, settings, clock, ledger, timing)
