"""Answers written by trees of drafts under codec `coupled` (`--tree N`): one upload, one forward of the LLM, several tokens.

    grow      the N likeliest drafts (uihlm_device/trees/tree.py), in as many calls of the drafter as the tree is deep, about
    ask       their ids and parents, with what the base station has not seen
    commit    the path that the LLM's own draws walked, and the draw that left the tree
    settle    the drafter's cache to that path: no token of it is run twice

While a verdict is in flight the device may draft on (`in_flight` above 1): the next likeliest nodes run, those beside the tree
and those below it. If the draw that left the tree is one of them, the next tree starts from what hangs there.

Every token is the LLM's own draw, so the answer is that of policy `llm`, whatever the tree. The last token of an answer at
its limit has no room for a path and a draw: it is asked for by a single draft, as in a chain. While the link is lost the
device's own draws are committed one by one, marked.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence

from uihlm_device.charges import NOTHING, Charge, Judged, token_record
from uihlm_device.conversation import Conversation
from uihlm_device.decode_settings import DecodeSettings
from uihlm_device.drafters.drafter import Drafter, TreeDrafter
from uihlm_device.outages.outage import LinkLostError
from uihlm_device.rules.policies import Evidence, Mode, Policy
from uihlm_device.stream.session import Session, Upload, Verdict
from uihlm_device.tokens import Origin, TokenRecord
from uihlm_device.trees.chances import Chances
from uihlm_device.trees.grown import Grown, TreeDraft
from uihlm_device.trees.pace import Pace
from uihlm_device.trees.race import Race
from uihlm_device.trees.tree import ROOT, Tree
from uihlm_proto.codecs import Codec, Judge
from uihlm_proto.codecs.ids import encode_id
from uihlm_proto.errors import InvalidRequestError, ProtocolError
from uihlm_proto.limits import MAX_DRAFTS
from uihlm_wireless.clock import Clock
from uihlm_wireless.ledger import Ledger
from uihlm_wireless.timing import TimingProfile


class TreeRounds:
    """Writes answers by trees with one drafter.

    Attributes:
        rounds: uploads made.
        drafter_calls: batches that the drafter ran, that after the last committed id included.
        drafter_nodes: positions it ran in them.
        expected: Σ E of the trees sent (uihlm_device/trees/tree.py), to be held against the tokens that came.
    """

    def __init__(
        self,
        drafter: TreeDrafter,
        settings: DecodeSettings,
        clock: Clock,
        ledger: Ledger,
        timing: TimingProfile,
    ) -> None:
        self.rounds = self.drafter_calls = self.drafter_nodes = 0
        self.expected = 0.0
        self._drafter = drafter
        self._settings = settings
        self._clock = clock
        self._ledger = ledger
        self._timing = timing
        self._chances = Chances()
        # What was drafted ahead and hangs from the last committed token: the drafter's cache holds it as a tree.
        self._rest: Tree | None = None
        self._pace = Pace()
        # What a round cost whose verdict never came.
        self._lost = NOTHING

    def write(self, conversation: Conversation, limit: int) -> Generator[TokenRecord]:
        """Write one answer, one record a token; see `Decoder.answer`."""
        session = conversation.session
        if session is None:
            raise ProtocolError("a tree is judged by a base station: open a session first")
        written = number = 0
        # Ids that the drafter's cache holds, of which a dropped generator may not have committed all.
        held = conversation.drafted
        self._rest = None
        try:
            finished = False
            while not finished:
                left = limit - written if conversation.room is None else min(limit - written, conversation.room)
                asks = session.reachable()
                grown = self._grow(conversation, held, left if asks else 1)
                held = len(conversation.ids)
                try:
                    charge, verdict = self._ask(conversation, session, grown, chain=left == 1)
                except LinkLostError:
                    self._drafter.settle([])
                    self._rest = None
                    record = self._alone(conversation, grown)
                    written += 1
                    finished = record.stop or written >= limit or conversation.room == 0
                    yield record
                    continue
                number += 1
                path = list(verdict.path) if left > 1 else list(range(verdict.accepted))
                _check(verdict, path, grown, left, self._drafter.stop_ids)
                held += self._settle(grown, path, verdict.token)
                end = path[-1] if path else ROOT
                corrected = end in grown.parents
                conversation.epoch += corrected
                conversation.told = len(conversation.ids) + len(path) + (verdict.token is not None)
                self._learn(grown, path, verdict.token)
                steps: list[tuple[int, Origin, TreeDraft | None]] = [
                    (grown.tree.token(grown.places[node]), Origin.ACCEPTED, grown.draft(node)) for node in path
                ]
                if verdict.token is not None:
                    fallen = grown.draft(grown.parents.index(end)) if corrected else None
                    steps.append((verdict.token, Origin.RESAMPLED if corrected else Origin.BONUS, fallen))
                for index, (token, origin, draft) in enumerate(steps):
                    stop = token in self._drafter.stop_ids
                    written += 1
                    position = len(conversation.ids)
                    conversation.ids.append(token)
                    finished = stop or written >= limit or conversation.room == 0
                    judged = Judged(number, verdict, index)
                    yield token_record(position, token, origin, stop=stop, draft=draft, judged=judged, charge=charge)
                    charge = NOTHING
        finally:
            conversation.drafted = min(held, len(conversation.ids))

    def _grow(self, conversation: Conversation, held: int, left: int) -> Grown:
        """Grow the tree after the committed ids, of which the cache holds `held`, for an answer of `left` more tokens."""
        ids, first = conversation.ids, len(conversation.ids)
        race = Race(self._settings.sampling, conversation.key, first, self._chances)
        size, deepest = (self._settings.tree, left - 1) if left > 1 else (1, 1)
        tree, self._rest = self._rest, None
        draft_s = 0.0
        if tree is None:
            started_s = time.perf_counter()
            tree = Tree(size, deepest, self._chances.usual(), self._drafter.stop_ids)
            # The last id is run again where its record is gone.
            keep_len = min(held, first - 1)
            tree.plant(race.candidates(self._drafter.forward(keep_len, ids[keep_len:]).logits, 0))
            draft_s += self._drafted(started_s, 1)
        tree.size, tree.deepest = size, deepest
        nodes = 1
        while nodes:
            nodes, took_s = self._run_batch(tree, race)
            draft_s += took_s
        places, parents, expected = tree.nodes()
        self.rounds += 1
        self.expected += expected
        return Grown(tree, race, places, parents, draft_s)

    def _run_batch(self, tree: Tree, race: Race, further: int = 0, most: int = MAX_DRAFTS) -> tuple[int, float]:
        """Run what a tree of `further` more nodes wants next, `most` of it; return the nodes run and the seconds it took."""
        started_s = time.perf_counter()
        batch = tree.next_batch(further)[:most]
        if not batch:
            return 0, 0.0
        rows = self._drafter.grow([tree.token(place) for place in batch], [place.below for place in batch])
        for place, logits in zip(batch, rows, strict=True):
            tree.add(place, race.candidates(logits, tree.depth(place)))
        return len(batch), self._drafted(started_s, len(batch))

    def _drafted(self, started_s: float, nodes: int) -> float:
        """Count a batch of `nodes` begun at `started_s`, charge the clock with it, and return the seconds."""
        draft_s = self._timing.drafted_s(time.perf_counter() - started_s, nodes)
        self._clock.advance(draft_s)
        self.drafter_calls += 1
        self.drafter_nodes += nodes
        return draft_s

    def _ask(self, conversation: Conversation, session: Session, grown: Grown, chain: bool) -> tuple[Charge, Verdict]:
        context_ids, skipped_ids = conversation.unsent()
        tokens = [grown.tree.token(place) for place in grown.places]
        round_number = session.upload(
            Upload(
                conversation.epoch,
                len(conversation.ids),
                context_ids,
                skipped_ids,
                payloads=[encode_id(token, self._drafter.vocabulary_size) for token in tokens],
                tokens=tokens,
                parents=() if chain else grown.parents,
            )
        )
        draft_s, launched_s = grown.draft_s, self._clock.now()
        try:
            if self._clock.simulated:
                # One computation at a time: the verdict is awaited now, and hidden until the virtual clock shows it.
                verdict = session.verdict(round_number)
            if self._settings.in_flight > 1 and not chain:
                draft_s += self._draft_ahead(session, round_number, grown)
            if not self._clock.simulated:
                verdict = session.verdict(round_number)
        except LinkLostError:
            self._lost = Charge(self._ledger.pop(round_number))
            raise
        self._pace.waited_s = max(0.0, self._clock.verdict_at(round_number) - launched_s)
        self._clock.wait_until(self._clock.verdict_at(round_number))
        return Charge(self._ledger.pop(round_number), verdict.cost, draft_s), verdict

    def _draft_ahead(self, session: Session, round_number: int, grown: Grown) -> float:
        """Run the likeliest nodes that the tree lacks while its verdict is awaited; return the seconds that took."""
        took_s = 0.0
        # As long as the last verdict took; a batch that would end after that would make this one wait.
        while not self._landed(session, round_number) and (most := self._pace.fits(took_s)):
            nodes, spent_s = self._run_batch(grown.tree, grown.race, MAX_DRAFTS, most)
            if not nodes:
                break
            self._pace.ran(nodes, spent_s)
            took_s += spent_s
        return took_s

    def _landed(self, session: Session, round_number: int) -> bool:
        clock = self._clock
        return clock.now() >= clock.verdict_at(round_number) if clock.simulated else session.arrived(round_number)

    def _settle(self, grown: Grown, path: Sequence[int], token: int | None) -> int:
        """Cut the drafter's cache to what stands, with what was drafted ahead of it; return the ids it gained."""
        tree = grown.tree
        stands = [node for place in path if (node := tree.ran(grown.places[place])) is not None]
        after = None if token is None else tree.below(grown.places[path[-1]] if path else None, token)
        if after is None:
            self._drafter.settle(stands)
            return len(stands)
        self._rest, (own, *kept) = after
        self._drafter.settle([*stands, own], kept)
        return len(stands) + 1

    def _alone(self, conversation: Conversation, grown: Grown) -> TokenRecord:
        """Commit the drafter's own draw, and charge it with what was sent in vain."""
        below = grown.tree.candidates[0]
        token, position = below.tokens[0], len(conversation.ids)
        conversation.ids.append(token)
        draft = TreeDraft(Evidence(token, below.x[0], None, None, None, None, None))
        charge, self._lost = self._lost.plus(Charge(draft_s=grown.draft_s)), NOTHING
        stop = token in self._drafter.stop_ids
        return token_record(position, token, Origin.OUTAGE, stop=stop, draft=draft, judged=None, charge=charge)

    def _learn(self, grown: Grown, path: Sequence[int], token: int | None) -> None:
        """Note at which ranks the LLM's draws were, where the candidates are known."""
        tree = grown.tree
        places = [grown.places[node] for node in path]
        for place in places:
            self._chances.note(tree.candidates[place.below + 1].scores, place.rank)
        last = tree.ran(places[-1]) if places else ROOT
        if token is not None and last is not None:
            below = tree.candidates[last + 1]
            self._chances.note(below.scores, below.tokens.index(token) if token in below.tokens else None)


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


def _check(verdict: Verdict, path: Sequence[int], grown: Grown, left: int, stop_ids: frozenset[int]) -> None:
    """Raise ProtocolError if the verdict is no answer to this tree."""
    above = [ROOT, *path[:-1]]
    known = all(0 <= node < len(grown.parents) for node in path)
    if known and not verdict.stale and [grown.parents[node] for node in path] == above[: len(path)]:
        ends = [grown.tree.token(grown.places[node]) in stop_ids for node in path]
        stopped = bool(ends) and ends[-1]
        alone = left == 1 and bool(path)
        if not any(ends[:-1]) and (verdict.token is None) == (stopped or alone):
            return
    raise ProtocolError(
        f"the base station's verdict on a tree of {len(grown.parents)} drafts makes no sense: {verdict}"
    )
