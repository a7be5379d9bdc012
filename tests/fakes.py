"""Fake models of known distributions, served through the real server, client and interceptor.

A fake obeys the Drafter or Engine protocol to the letter: it keeps ids like a key-value cache and refuses what a real one
would refuse, so that a loop that mismanages a cache fails here first.
"""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

import numpy as np

from uihlm_basestation.engines.engine import Work
from uihlm_basestation.local import local_basestation as serving
from uihlm_device.conversation import Conversation
from uihlm_device.decode_settings import DecodeSettings
from uihlm_device.decoder import Decoder
from uihlm_device.drafters.drafter import check_branches
from uihlm_device.record import Record, Wants
from uihlm_device.rules.policies import PolicySettings, policy
from uihlm_device.stream.client import Connection
from uihlm_device.stream.contract import Contract
from uihlm_device.tokens import TokenRecord
from uihlm_proto.addresses import Address
from uihlm_proto.codecs import codec
from uihlm_proto.errors import InvalidRequestError
from uihlm_proto.fingerprint import fingerprint
from uihlm_proto.randomness import session_key
from uihlm_proto.sampling import Sampling
from uihlm_wireless.clock import Clock, SimulatedClock
from uihlm_wireless.interceptor import LinkInterceptor
from uihlm_wireless.ledger import Ledger
from uihlm_wireless.link import Link
from uihlm_wireless.settings import LinkSettings, profile
from uihlm_wireless.timing import TimingProfile

Logits = Callable[[Sequence[int]], np.ndarray]


def fixed(p: Sequence[float]) -> Logits:
    """Logits of one distribution, whatever the context."""
    z = np.log(np.asarray(p, np.float64)).astype(np.float32)
    return lambda ids: z


def contextual(vocabulary_size: int, salt: int, spread: float = 2.0, window: int = 3) -> Logits:
    """Logits that depend on the last `window` ids: a wrong cache shows at once."""

    @functools.lru_cache(maxsize=4096)
    def after(last: tuple[int, ...]) -> np.ndarray:
        digest = hashlib.blake2b(repr((salt, last)).encode(), digest_size=8).digest()
        z = np.random.default_rng(int.from_bytes(digest, "little")).normal(size=vocabulary_size) * spread
        return z.astype(np.float32)

    return lambda ids: after(tuple(ids[-window:])).copy()


def mixed(a: Logits, b: Logits, weight: float) -> Logits:
    """A model near `a`, pulled towards `b`."""
    return lambda ids: ((1 - weight) * a(ids) + weight * b(ids)).astype(np.float32)


def vocabulary(size: int) -> bytes:
    return fingerprint(f"<{i}>" for i in range(size))


__all__ = ["Bench", "FakeDrafter", "FakeEngine", "contextual", "fixed", "mixed", "serving", "vocabulary"]


class FakeDrafter:
    """A drafter whose logits are a function of its ids."""

    max_context = 4096
    n_layer = 6

    def __init__(
        self, logits: Logits, vocabulary_size: int, stop_ids: Sequence[int] = (), name: int | None = None
    ) -> None:
        self._logits = logits
        self.vocabulary_size = vocabulary_size
        self.fingerprint = vocabulary(name or vocabulary_size)
        self.stop_ids = frozenset(stop_ids)
        self.ids: list[int] = []
        # The tree that hangs from their end: (id, parent) of every node.
        self.tree: list[tuple[int, int]] = []
        self.forwards = 0
        # Every forward as (keep_len, new ids).
        self.log: list[tuple[int, tuple[int, ...]]] = []

    def forward(self, keep_len: int, new_ids: Sequence[int], wants: Wants = Wants()) -> Record:
        if not new_ids or keep_len > len(self.ids):
            raise InvalidRequestError(f"bad forward: keep {keep_len} of {len(self.ids)}, new {new_ids}")
        if keep_len + len(new_ids) > self.max_context:
            raise InvalidRequestError(f"{keep_len + len(new_ids)} positions in a context of {self.max_context}")
        self.tree = []
        self.ids[keep_len:] = new_ids
        self.forwards += 1
        self.log.append((keep_len, tuple(new_ids)))
        n = len(self.ids)
        attention = layers = hidden = None
        if wants.attention or wants.attention_layers or wants.hidden:
            rng = np.random.default_rng(n * 7919 + self.ids[-1])
            attention = rng.dirichlet(np.ones(n), size=4).astype(np.float32) if wants.attention else None
            layers = rng.dirichlet(np.ones(n), size=(self.n_layer, 4)).astype(np.float32)
            hidden = rng.normal(size=5).astype(np.float32) if wants.hidden else None
        return Record(
            self._logits(self.ids).copy(),
            attention=attention,
            hidden=hidden,
            attention_layers=layers if wants.attention_layers else None,
        )

    def grow(self, ids: Sequence[int], parents: Sequence[int]) -> np.ndarray:
        check_branches(ids, parents, len(self.tree), self.vocabulary_size)
        rows = []
        for token, parent in zip(ids, parents, strict=True):
            self.tree.append((token, parent))
            branch, node = [token], parent
            while node >= 0:
                above, node = self.tree[node]
                branch.insert(0, above)
            rows.append(self._logits([*self.ids, *branch]))
        self.forwards += 1
        return np.stack(rows)

    def settle(self, path: Sequence[int], kept: Sequence[int] = ()) -> None:
        for node, above in zip(path, (-1, *path), strict=False):
            if self.tree[node][1] != above:
                raise InvalidRequestError(f"{path} is no path of {self.tree}")
        end = path[-1] if path else -1
        below = {end: -1}
        for node, (_, above) in enumerate(self.tree):
            if above in below and node not in path:
                below[node] = len(below) - 1
        if kept and list(kept) != [node for node in below if node != end]:
            raise InvalidRequestError(f"{kept} is not all that follows {path} in {self.tree}")
        self.ids += [self.tree[node][0] for node in path]
        self.tree = [(self.tree[node][0], below[self.tree[node][1]]) for node in kept]


class FakeEngine:
    """An engine whose logits are a function of each session's ids."""

    max_context = 4096
    description = "fake"
    # Positions beyond which it fails, though its context would hold more.
    breaks_at = 1 << 20
    caches = 1 << 20

    def __init__(
        self, logits: Logits, vocabulary_size: int, stop_ids: Sequence[int] = (), name: int | None = None
    ) -> None:
        self._logits = logits
        self.vocabulary_size = vocabulary_size
        self.fingerprint = vocabulary(name or vocabulary_size)
        self.stop_ids = frozenset(stop_ids)
        self.sessions: dict[int, list[int]] = {}
        # The nodes and parents of a tree that awaits its verdict.
        self.trees: dict[int, tuple[tuple[int, ...], tuple[int, ...]]] = {}
        self.batches: list[int] = []
        # Every part of every forward.
        self.log: list[Work] = []
        self.threads: set[int] = set()

    def forward(self, work: Sequence[Work]) -> list[np.ndarray]:
        assert len({w.session for w in work}) == len(work)
        if any(part.keep_len + len(part.new_ids) > self.breaks_at for part in work):
            raise RuntimeError("out of memory")
        self.threads.add(threading.get_ident())
        self.batches.append(len(work))
        out = []
        for part in work:
            nodes, parents = self.trees.get(part.session, ((), ()))
            steps = list(zip((-1, *part.path), part.path, strict=False))
            if any(not 0 <= node < len(nodes) or parents[node] != above for above, node in steps):
                raise InvalidRequestError(f"path {part.path} is not in the tree {parents}")
            ids = [*self.sessions.get(part.session, ()), *(nodes[node] for node in part.path)]
            if not part.new_ids or part.keep_len > len(ids) or not 0 <= part.rows <= len(part.new_ids):
                raise InvalidRequestError(f"bad work {part} on {len(ids)} ids")
            self.log.append(replace(part, new_ids=tuple(part.new_ids)))
            kept = ids[: part.keep_len]
            if part.parents is None:
                whole = self.sessions[part.session] = [*kept, *part.new_ids]
                self.trees.pop(part.session, None)
                contexts = [whole[: len(whole) - part.rows + 1 + r] for r in range(part.rows)]
            else:
                # What each node and its ancestors make of the context.
                seen: list[list[int]] = []
                for token, parent in zip(part.new_ids, part.parents, strict=True):
                    if not -1 <= parent < len(seen):
                        raise InvalidRequestError(f"parent {parent} of node {len(seen)}")
                    seen.append([*(kept if parent < 0 else seen[parent]), token])
                self.sessions[part.session] = kept
                self.trees[part.session] = (tuple(part.new_ids), tuple(part.parents))
                contexts = seen[len(seen) - part.rows :]
            rows = [self._logits(context) for context in contexts]
            out.append(np.stack(rows) if rows else np.zeros((0, self.vocabulary_size), np.float32))
        return out

    def beside(self, session: int, others: Sequence[int]) -> Collection[int]:
        return others

    def missing(self, part: Work) -> Work | None:
        return None

    def close_session(self, session: int) -> None:
        self.sessions.pop(session, None)
        self.trees.pop(session, None)


class Bench:
    """A device under test: fake drafter, real loop, real client, real interceptor."""

    def __init__(
        self,
        address: Address,
        drafter: FakeDrafter,
        codec_name: str = "dense32",
        sampling: Sampling | None = None,
        link: LinkSettings | None = None,
        clock: Clock | None = None,
        timing: TimingProfile | None = None,
        timeout_s: float = 20.0,
        keepalive_s: float | None = None,
    ) -> None:
        self.drafter = drafter
        self.clock = clock or SimulatedClock()
        self.timing = timing or TimingProfile(draft_s=0.01, forward_s=0.02)
        self.ledger = Ledger()
        self.sampling = sampling or Sampling()
        self.codec = codec(codec_name, drafter.vocabulary_size)
        radio = Link(link or profile("none"), self.clock, self.timing)
        self.connection = Connection(
            str(address),
            drafter.vocabulary_size,
            [LinkInterceptor(radio, self.ledger)],
            timeout_s=timeout_s,
            keepalive_s=keepalive_s,
        )
        self.contract = Contract(drafter.fingerprint, self.sampling, self.codec, drafter.stop_ids)

    def decoder(
        self, name: str, max_tokens: int = 32, settings: PolicySettings | None = None, **decode: int
    ) -> Decoder:
        rule = policy(name, settings or PolicySettings())
        return Decoder(
            self.drafter,
            self.codec,
            rule,
            DecodeSettings(self.sampling, max_tokens, **decode),
            self.clock,
            self.ledger,
            self.timing,
            lambda: self.connection.session(self.contract),
        )

    def run(
        self,
        name: str,
        prompt: Sequence[int] = (1, 2, 3),
        seed: int = 0,
        index: int = 0,
        max_tokens: int = 32,
        settings: PolicySettings | None = None,
        **decode: int,
    ) -> list[TokenRecord]:
        conversation = Conversation(session_key(seed, index))
        conversation.extend(list(prompt))
        records = list(self.decoder(name, max_tokens, settings, **decode).answer(conversation))
        conversation.end_session()
        return records

    def close(self) -> None:
        self.connection.close()

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
