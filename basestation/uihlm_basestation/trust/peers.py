"""Who is calling, and what each peer has open: by credential where one was shown, else by address.

Processes of this machine share its loopback address, and so does everything behind a proxy on it: that address alone tells
nobody apart, and has no limits of its own.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass
from urllib.parse import unquote

from uihlm_basestation.trust.limits import Limits, Rates
from uihlm_proto.addresses import is_loopback
from uihlm_proto.errors import ExhaustedError

# Peers with nothing open whose rates are still remembered; a flood of addresses pushes the oldest out.
_REMEMBERED = 10_000
# An end customer's line has a whole /64 of IPv6 addresses.
_IPV6_PREFIX = 64


@dataclass(frozen=True, slots=True)
class Peer:
    """One peer.

    Attributes:
        name: for people and as a key; holds no secret.
        limited: whether it can be told from others at all.
    """

    name: str
    limited: bool = True


def peer_at(context_peer: str) -> Peer:
    """Return the peer at an address as gRPC writes it: `ipv4:192.0.2.7:5000`, `ipv6:%5B2001:db8::7%5D:5000`, `unix:…`."""
    kind, _, rest = unquote(context_peer).partition(":")
    host = rest.rpartition(":")[0].strip("[]")
    if kind not in ("ipv4", "ipv6"):
        return Peer(kind, limited=False)
    if is_loopback(host):
        return Peer("this machine", limited=False)
    if kind == "ipv6":
        try:
            network = ipaddress.ip_network((host.partition("%")[0], _IPV6_PREFIX), strict=False)
        except ValueError:
            return Peer(host)
        return Peer(str(network))
    return Peer(host)


class _Standing:
    """What one peer has open, and its rates."""

    __slots__ = ("open", "rates")

    def __init__(self, rates: Rates) -> None:
        self.open = 0
        self.rates = rates


class Peers:
    """Every peer that has something open or owes something."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._open: dict[str, _Standing] = {}
        # With nothing open, in the order in which they left.
        self._owing: OrderedDict[str, _Standing] = OrderedDict()

    def __len__(self) -> int:
        """Return how many are remembered."""
        return len(self._open) + len(self._owing)

    def enter(self, peer: Peer, now_s: float) -> Rates | None:
        """Count one more open call of a peer, to be ended by `leave`; return its rates, None where it has no limits.

        Raises:
            ExhaustedError: if it has as many open as it may; nothing was counted then.
        """
        if not peer.limited:
            return None
        standing = self._open.get(peer.name) or self._owing.pop(peer.name, None)
        if standing is None:
            limits = self._limits
            rates = Rates(f"peer {peer.name}", limits.peer_messages_s, limits.peer_bytes_s, now_s, "peer")
            standing = _Standing(rates)
        if standing.open >= self._limits.peer_sessions:
            raise ExhaustedError(
                f"peer {peer.name} has {standing.open} sessions open, as many as it may: end one, or serve with a larger "
                "--peer-sessions"
            )
        standing.open += 1
        self._open[peer.name] = standing
        return standing.rates

    def leave(self, peer: Peer, now_s: float) -> None:
        """Count one open call less; forget the peer once it has none and owes nothing."""
        if not peer.limited:
            return
        standing = self._open[peer.name]
        standing.open -= 1
        if standing.open:
            return
        del self._open[peer.name]
        if not standing.rates.are_full(now_s):
            self._owing[peer.name] = standing
            if len(self._owing) > _REMEMBERED:
                self._owing.popitem(last=False)
