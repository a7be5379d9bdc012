"""Where a server listens, and whether that is this machine's own: what never leaves it can be read by nobody on the way."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from uihlm_proto.errors import AccessError

# The schemes of gRPC's targets; what follows dns:// up to the next slash is a name server.
_SCHEME = re.compile(r"^(?:dns:(?://[^/]*/)?|ipv4:|ipv6:)")
_UNIX = ("unix:", "unix-abstract:")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def is_loopback(host: str) -> bool:
    """Return whether a host, a name or an address, is this machine; a name that only resolves to it is not."""
    plain = host.strip("[]")
    if plain.lower().rstrip(".") == "localhost":
        return True
    try:
        address = ipaddress.ip_address(plain)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def target_is_loopback(target: str) -> bool:
    """Return whether a gRPC target (`host:port`, `dns:///host:port`, `ipv6:[::1]:port`, `unix:path`) is this machine."""
    if target.startswith(_UNIX):
        return True
    rest = _SCHEME.sub("", target)
    # Several addresses in one target: every one of them counts.
    return all(is_loopback(_host(part)) for part in rest.split(","))


def check_listening(host: str, encrypted: bool, insecure: bool, flag: str = "--") -> None:
    """Raise AccessError if a server on `host` could be read on the way; `flag` is what its flags for this begin with."""
    if not encrypted and not insecure and not is_loopback(host):
        raise AccessError(
            f"listening on {host} without TLS lets everyone on the way read and change prompts, answers and tokens: give "
            f"{flag}tls-cert and {flag}tls-key, listen on 127.0.0.1, or say {flag}insecure if the network itself is trusted"
        )


def _host(address: str) -> str:
    if address.startswith("["):
        return address[1:].partition("]")[0]
    # More than one colon is an IPv6 address without a port.
    return address.partition(":")[0] if address.count(":") == 1 else address
