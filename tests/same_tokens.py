"""What of a record must repeat where seeds are equal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

from fakes import Bench, FakeDrafter, contextual, mixed
from loop_reference import V, X, Y
from uihlm_device.tokens import TokenRecord
from uihlm_proto.addresses import Address
from uihlm_proto.codecs import CODECS
from uihlm_wireless.timing import TimingProfile

OTHER_X = mixed(contextual(V, salt=7), Y, 0.4)
# What the machine's speed decides; all else must repeat.
MEASURED = {"draft_s", "forward_s", "queue_s"}
INSTANT = TimingProfile(draft_s=0.0, forward_s=0.0)


def line(record: TokenRecord) -> tuple[object, ...]:
    """All of a record that must repeat to the last bit."""
    return tuple(getattr(record, f.name) for f in fields(record) if f.name not in MEASURED)


def lines(records: Sequence[TokenRecord]) -> list[tuple[object, ...]]:
    return [line(record) for record in records]


def tokens(records: Sequence[TokenRecord]) -> list[int]:
    return [record.token for record in records]


# The last one remembers: its x̂ depends on what was drafted before.
UPLINKS = [*CODECS, "lattice:tv=0.1,alpha=0.3"]


def bench(address: Address, codec: str = "dense32", x: object = X, **options: object) -> Bench:
    return Bench(address, FakeDrafter(x, V), codec, **options)
