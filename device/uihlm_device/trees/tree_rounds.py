"""Answers written by trees of drafts under codec `coupled` (`--tree N`): one upload, one forward of the LLM, several tokens.

    grow      the N likeliest drafts (uihlm_device/trees/tree.py), in as many calls of the drafter as the tree is deep, about
    ask       their ids and parents, with what the base station has not seen
    commit    the path that the LLM's own draws walked, and the draw that left the tree
    settle    the drafter's cache to that path: no token of it is run twice

Every token is the LLM's own draw, so the answer is that of policy `llm`, whatever the tree. The last token of an answer at
its limit has no room for a path and a draw: it is asked for by a single draft, as in a chain.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np

from uihlm_device.charges import NOTHING, Charge, Judged, token_record
from uihlm_device.conversation import Conversation
from uihlm_device.decode_settings import DecodeSettings
from uihlm_device.drafters.drafter import Drafter, Float32Array, TreeDrafter
from uihlm_device.rules.policies import Evidence, Mode, Policy, known
from uihlm_device.stream.session import Session, Upload, Verdict
from uihlm_device.tokens import Origin, TokenRecord
from uihlm_device.trees.chances import CANDIDATES, Chances
from uihlm_device.trees.tree import ROOT, Candidates, FloatArray, Place, Tree, best_of
from uihlm_proto.codecs import Codec, Judge
from uihlm_proto.codecs.ids import encode_id
from uihlm_proto.errors import InvalidRequestError, ProtocolError
from uihlm_proto.randomness import Role, exponentials
from uihlm_proto.sampling import Sampling
from uihlm_wireless.clock import Clock
from uihlm_wireless.ledger import Ledger
from uihlm_wireless.timing import TimingProfile


@dataclass(frozen=True, slots=True)
class TreeDraft:
    """A draft of a tree, for its record; what growing took is charged to the round."""

    evidence: Evidence
    attention: None = None
    draft_s: float = 0.0

    @property
    def x_d(self) -> float:
        """The drafter's probability of it."""
        return known(self.evidence.x_d)


@dataclass(frozen=True, slots=True)
class _Grown:
    """A tree as it is sent: its drafts, the index of each one's parent, and the device seconds it took."""

    tree: Tree
    places: list[Place]
    parents: list[int]
    draft_s: float

    def draft(self, node: int) -> TreeDraft:
        place = self.places[node]
        below = self.tree.candidates[place.below + 1]
        return TreeDraft(Evidence(below.tokens[place.rank], below.x[place.rank], None, None, None, None, None))


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

    def write(self, conversation: Conversation, limit: int) -> Generator[TokenRecord]:
        """Write one answer, one record a token; see `Decoder.answer`."""
        session = conversation.session
        if session is None:
            raise ProtocolError("a tree is judged by a base station: open a session first")
        written = number = 0
        # Ids that the drafter's cache holds, of which a dropped generator may not have committed all.
        held = conversation.drafted
        try:
            finished = False
            while not finished:
                number += 1
                left = limit - written
                grown = self._grow(conversation, held, left)
                held = len(conversation.ids)
                charge, verdict = self._ask(conversation, session, grown, chain=left == 1)
                path = list(verdict.path) if left > 1 else list(range(verdict.accepted))
                _check(verdict, path, grown, left, self._drafter.stop_ids)
                ran = [grown.tree.ran(grown.places[node]) for node in path]
                stands = [node for node in ran if node is not None]
                self._drafter.settle(stands)
                held += len(stands)
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
                    finished = stop or written >= limit
                    position = len(conversation.ids)
                    conversation.ids.append(token)
                    judged = Judged(number, verdict, index)
                    yield token_record(position, token, origin, stop=stop, draft=draft, judged=judged, charge=charge)
                    charge = NOTHING
        finally:
            conversation.drafted = min(held, len(conversation.ids))

    def _grow(self, conversation: Conversation, held: int, left: int) -> _Grown:
        """Grow the tree after the committed ids, of which the cache holds `held`, for an answer of `left` more tokens."""
        started_s = time.perf_counter()
        ids, first = conversation.ids, len(conversation.ids)
        race = _Race(self._settings.sampling, conversation.key, first, self._chances)
        size, deepest = (self._settings.tree, left - 1) if left > 1 else (1, 1)
        tree = Tree(size, deepest, self._chances.usual(), self._drafter.stop_ids)
        # The last id is run again where its record is gone.
        keep_len = min(held, first - 1)
        tree.plant(race.candidates(self._drafter.forward(keep_len, ids[keep_len:]).logits, 0))
        calls = 1
        while batch := tree.next_batch():
            rows = self._drafter.grow([tree.token(place) for place in batch], [place.below for place in batch])
            for place, logits in zip(batch, rows, strict=True):
                tree.add(place, race.candidates(logits, tree.depth(place)))
            calls += 1
        places, parents, expected = tree.nodes()
        nodes = len(tree.run) + 1
        self.rounds += 1
        self.drafter_calls += calls
        self.drafter_nodes += nodes
        self.expected += expected
        # A fixed time a draft is charged for every position run, though a batch takes less than its parts.
        fixed_s = self._timing.draft_s
        draft_s = time.perf_counter() - started_s if fixed_s is None else fixed_s * nodes
        self._clock.advance(draft_s)
        return _Grown(tree, places, parents, draft_s)

    def _ask(self, conversation: Conversation, session: Session, grown: _Grown, chain: bool) -> tuple[Charge, Verdict]:
        context_ids, skipped_ids = conversation.unsent()
        tokens = [grown.tree.token(place) for place in grown.places]
        round_number = session.upload(
            Upload(
                conversation.epoch,
                len(conversation.ids),
                context_ids,
                skipped_ids,
                payloads=[encode_id(token, self._drafter.vocabulary_size) for token in tokens],
                parents=() if chain else grown.parents,
            )
        )
        verdict = session.verdict(round_number)
        self._clock.wait_until(self._clock.verdict_at(round_number))
        return Charge(self._ledger.pop(round_number), verdict.cost, grown.draft_s), verdict

    def _learn(self, grown: _Grown, path: Sequence[int], token: int | None) -> None:
        """Note at which ranks the LLM's draws were, where the candidates are known."""
        tree = grown.tree
        places = [grown.places[node] for node in path]
        for place in places:
            self._chances.note(tree.candidates[place.below + 1].scores, place.rank)
        last = tree.ran(places[-1]) if places else ROOT
        if token is not None and last is not None:
            below = tree.candidates[last + 1]
            self._chances.note(below.scores, below.tokens.index(token) if token in below.tokens else None)


class _Race:
    """The candidates of one round's tree: the noise of each depth is made once."""

    def __init__(self, sampling: Sampling, key: bytes, first: int, chances: Chances) -> None:
        self._sampling = sampling
        self._key = key
        self._first = first
        self._chances = chances
        self._noise: list[FloatArray] = []

    def candidates(self, logits: Float32Array, depth: int) -> Candidates:
        """Return what may follow a position that the tree reaches at `depth` nodes from its root."""
        x = self._sampling.distribution(logits)
        if self._sampling.temperature == 0.0:
            # Greedy draws have no noise: those next in line are the next likeliest.
            best, scores = best_of(Sampling(1.0).distribution(logits), np.ones(x.size), CANDIDATES)
        else:
            while len(self._noise) <= depth:
                self._noise.append(exponentials(self._key, Role.GUMBEL, self._first + len(self._noise), x.size))
            best, scores = best_of(x, self._noise[depth], CANDIDATES)
        tokens = tuple(best.tolist())
        return Candidates(tokens, tuple(x[best].tolist()), self._chances.of(scores), tuple(scores.tolist()))


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


def _check(verdict: Verdict, path: Sequence[int], grown: _Grown, left: int, stop_ids: frozenset[int]) -> None:
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
