"""What a base station demands of those who call it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import grpc

from uihlm_basestation.trust.limits import UNLIMITED, Limits
from uihlm_proto.addresses import check_listening
from uihlm_proto.certificates import read_authorities, read_chain
from uihlm_proto.token_set import TokenSet


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The base station's certificate.

    Attributes:
        certificate: its chain, PEM.
        key: its private key, PEM, without a password.
        client_ca: authorities of the devices' certificates, PEM; None asks devices for none.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None

    def credentials(self) -> grpc.ServerCredentials:
        """Return what gRPC listens with; AccessError says what is wrong with the files."""
        chain = [read_chain(self.certificate, self.key)]
        if self.client_ca is None:
            return grpc.ssl_server_credentials(chain)
        return grpc.ssl_server_credentials(chain, read_authorities(self.client_ca), require_client_auth=True)


@dataclass(frozen=True, slots=True)
class Trust:
    """Transport, credentials and limits. The defaults are those of a server for this process alone.

    Attributes:
        tls: None listens without encryption.
        tokens: one of them opens a call; None asks for none.
        limits: of sessions and peers.
        insecure: whether other machines may be served without encryption.
    """

    tls: TlsFiles | None = None
    tokens: TokenSet | None = None
    limits: Limits = UNLIMITED
    insecure: bool = False

    def check_host(self, host: str) -> None:
        """Raise AccessError if listening there would let the way to this base station be read."""
        check_listening(host, self.tls is not None, self.insecure)

    def listen(self, server: grpc.aio.Server, host: str, address: str) -> int:
        """Add the port to a server and return its number; RuntimeError if it cannot be bound, as gRPC raises it."""
        self.check_host(host)
        if self.tls is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, self.tls.credentials())


# Of a server that this process starts for itself.
PRIVATE = Trust()
