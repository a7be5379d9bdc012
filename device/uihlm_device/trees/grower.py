"""What the drafter does for trees: it runs the nodes that a tree wants, and is cut to what the LLM let stand."""

from __future__ import annotations

import time
from collections.abc import Sequence

from uihlm_device.conversation import Conversation
from uihlm_device.decode_settings import DecodeSettings
from uihlm_device.drafters.drafter import TreeDrafter
from uihlm_device.trees.chances import Chances
from uihlm_device.trees.grown import Grown
from uihlm_device.trees.noise import Noise
from uihlm_device.trees.race import Race
from uihlm_device.trees.sent import Sent
from uihlm_device.trees.tree import ROOT, Tree
from uihlm_proto.limits import MAX_DRAFTS
from uihlm_wireless.clock import Clock
from uihlm_wireless.timing import TimingProfile


class Grower:
    """Grows trees with one drafter.

    Attributes:
        calls: batches that the drafter ran, that after the last committed id included.
        nodes: positions it ran in them.
        expected: Σ E of the new trees sent (uihlm_device/trees/tree.py), to be held against the tokens that came.
    """

    def __init__(self, drafter: TreeDrafter, settings: DecodeSettings, clock: Clock, timing: TimingProfile) -> None:
        self.calls = self.nodes = 0
        self.expected = 0.0
        self._drafter = drafter
        self._settings = settings
        self._clock = clock
        self._timing = timing
        self._chances = Chances()
        self._noise = Noise()
        # What was drafted ahead and hangs from the last committed token: the drafter's cache holds it as a tree.
        self._rest: Tree | None = None

    def drop(self) -> None:
        """Forget what was drafted ahead."""
        self._rest = None

    def plant(self, conversation: Conversation, held: int, left: int, sent: Sent | None) -> Grown:
        """Return the tree after the committed ids, of which the cache holds `held`, as far as it has run."""
        ids, first = conversation.ids, len(conversation.ids)
        self._noise.begin(conversation.key, first)
        race = Race(self._settings.sampling, self._noise, first, self._chances)
        tree, self._rest = self._rest, None
        draft_s = 0.0
        if tree is None:
            started_s = time.perf_counter()
            tree = Tree(self._settings.tree, left - 1, self._chances.usual(), self._drafter.stop_ids)
            # The last id is run again where its record is gone.
            keep_len = min(held, first - 1)
            tree.plant(race.candidates(self._drafter.forward(keep_len, ids[keep_len:]).logits, 0))
            draft_s = self._drafted(started_s, 1)
        tree.size, tree.deepest = self._settings.tree, left - 1
        if sent is None:
            return Grown(tree, race, Sent(conversation.epoch, first), draft_s)
        sent.hang(sent.root, tree)
        return Grown(tree, race, sent, draft_s)

    def grow(self, grown: Grown, left: int) -> None:
        """Run what a new tree wants, for an answer of `left` more tokens."""
        tree = grown.tree
        if left == 1:
            tree.size = tree.deepest = 1
        nodes = 1
        while nodes:
            nodes, took_s = self.run_batch(tree, grown.race)
            grown.draft_s += took_s
        self.expected += tree.nodes()[2]

    def run_batch(self, tree: Tree, race: Race, further: int = 0, most: int = MAX_DRAFTS) -> tuple[int, float]:
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
        self.calls += 1
        self.nodes += nodes
        return draft_s

    def settle(self, grown: Grown, path: Sequence[int], token: int | None) -> int:
        """Cut the drafter's cache to what stands, with what was drafted ahead of it; return the ids it gained."""
        tree = grown.tree
        places = [grown.sent.places[node] for node in path]
        stands = [node for place in places if (node := tree.ran(place)) is not None]
        after = None if token is None else tree.below(places[-1] if places else None, token)
        if after is None:
            self._drafter.settle(stands)
            return len(stands)
        self._rest, (own, *kept) = after
        self._drafter.settle([*stands, own], kept)
        return len(stands) + 1

    def learn(self, grown: Grown, path: Sequence[int], token: int | None) -> None:
        """Note at which ranks the LLM's draws were, where the candidates are known."""
        tree = grown.tree
        places = [grown.sent.places[node] for node in path]
        for place in places:
            self._chances.note(tree.candidates[place.below + 1].scores, place.rank)
        last = tree.ran(places[-1]) if places else ROOT
        if token is not None and last is not None:
            below = tree.candidates[last + 1]
            self._chances.note(below.scores, below.tokens.index(token) if token in below.tokens else None)
