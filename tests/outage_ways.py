"""Ways to write an answer that an outage may hit, and what an undisturbed run says of each token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fakes import Bench, FakeDrafter, contextual, mixed
from uihlm_device.conversation import Conversation
from uihlm_device.outages.outage import OnOutage, Outage
from uihlm_device.rules.policies import PolicySettings
from uihlm_device.tokens import TokenRecord
from uihlm_proto.addresses import Address
from uihlm_proto.randomness import session_key

V, STOP = 48, 3
X = contextual(V, 1)
Y = mixed(X, contextual(V, 2), 0.35)
PROMPT = (5, 6, 7)
KNOBS = PolicySettings(theta_u=0.6, k=3, theta_c=0.5, rate=0.5)
WAIT = Outage(OnOutage.WAIT, 60.0)
LOCAL = Outage(OnOutage.LOCAL, 0.5)  # seconds that a busy machine does not stand still
# Costs apart; and how many uploads it took, which in flight depends on the clock.
SAID = (
    "position",
    "token",
    "origin",
    "stop",
    "uploaded",
    "x_d",
    "y_d",
    "tv",
    "reject_prob",
    "u",
    "importance",
)


@dataclass(frozen=True)
class Way:
    """A way to write an answer."""

    policy: str
    codec: str = "dense32"
    decode: tuple[tuple[str, int], ...] = ()


WAYS = {
    "hlm": Way("hlm"),
    "skipping, a codec that remembers": Way("u", "lattice:tv=0.1,alpha=0.3"),
    "blocks in flight": Way("hlm", "dense32", (("draft_length", 4), ("in_flight", 3))),
    "skipping in flight, audited": Way("ui", "dense32", (("in_flight", 3), ("audit", True))),
    "tree": Way("hlm", "coupled", (("tree", 8),)),
    "llm": Way("llm"),
    "llm, several tokens a message": Way("llm", "dense32", (("stream_interval", 3),)),
    "the LLM runs on": Way("hlm", "dense32", (("run_on", 1),)),
    "the LLM runs on, in flight": Way("hlm", "dense32", (("run_on", 1), ("in_flight", 3))),
}
# Where its tokens come from depends on what was lost, so it has tests of its own.
TREE_IN_FLIGHT = Way("hlm", "coupled", (("tree", 4), ("in_flight", 4)))


def bench(
    at: Address, codec: str = "dense32", timeout_s: float = 20.0, stops: Sequence[int] = (STOP,), **options: object
) -> Bench:
    return Bench(at, FakeDrafter(X, V, stops), codec, timeout_s=timeout_s, **options)


def start(index: int = 0) -> Conversation:
    conversation = Conversation(session_key(3, index))
    conversation.extend(list(PROMPT))
    return conversation


def write(
    device: Bench, way: Way, index: int, outage: Outage | None = None, limit: int = 24
) -> tuple[list[TokenRecord], Conversation]:
    """Two turns of a conversation, and the conversation."""
    conversation = start(index)
    decoder = device.decoder(way.policy, limit, KNOBS, outage=outage, **dict(way.decode))
    records: list[TokenRecord] = []
    for turn in ((), (9, 9)):
        if turn:
            conversation.extend(list(turn))
        records += decoder.answer(conversation)
        decoder.settle_open(conversation)
    conversation.end_session()
    return records, conversation


def said(records: list[TokenRecord]) -> list[tuple[object, ...]]:
    return [tuple(getattr(record, name) for name in SAID) for record in records]
