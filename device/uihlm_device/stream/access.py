"""What a device asks to see of a base station, and what it shows: TLS, its own certificate, a bearer token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc

from uihlm_proto.addresses import target_is_loopback
from uihlm_proto.bearer import Token
from uihlm_proto.certificates import read_authorities, read_chain
from uihlm_proto.errors import AccessError

Options = Sequence[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class Access:
    """How a device gets to a base station. The defaults are those of one on this machine.

    Attributes:
        tls: encrypt, and check the base station's certificate against its name.
        authorities: whose certificates are believed, PEM; None takes those that gRPC brings.
        certificate: the device's own chain, PEM, for a base station that asks for one.
        key: its private key, PEM, without a password.
        token: shown with every call.
        insecure: whether the token may be shown without TLS to another machine.
        application: the one meant of several behind one address, as Ray Serve names them.
    """

    tls: bool = False
    authorities: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    token: Token | None = None
    insecure: bool = False
    application: str | None = None

    def check(self, target: str) -> None:
        """Raise AccessError if the token could be read on the way to a base station."""
        if self.token is not None and not self.tls and not self.insecure and not target_is_loopback(target):
            raise AccessError(
                f"the token would go to {target} unencrypted, for everyone on the way to read and use: give --tls (or "
                "--tls-ca with its authority), or say --insecure if the network itself is trusted"
            )

    def channel(
        self, target: str, options: Options, interceptors: Sequence[grpc.aio.ClientInterceptor]
    ) -> grpc.aio.Channel:
        """Return a channel to a base station; needs a running event loop.

        Raises:
            AccessError: if the token could be read on the way, or the files are no certificates.
            OSError: if a file cannot be read.
        """
        self.check(target)
        credentials = self.credentials()
        if credentials is None:
            return grpc.aio.insecure_channel(target, options=options, interceptors=list(interceptors))
        return grpc.aio.secure_channel(target, credentials, options=options, interceptors=list(interceptors))

    def credentials(self) -> grpc.ChannelCredentials | None:
        """Return what a channel is made with, None without TLS; raises as `channel` does for its files."""
        if not self.tls:
            return None
        authorities = None if self.authorities is None else read_authorities(self.authorities)
        chain: tuple[bytes | None, bytes | None] = (None, None)
        if self.certificate is not None and self.key is not None:
            chain = read_chain(self.certificate, self.key)
        return grpc.ssl_channel_credentials(authorities, *chain)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What every call shows."""
        named = () if self.application is None else (("application", self.application),)
        return named if self.token is None else (*named, self.token.header)


# To a base station of this machine that asks for nothing.
PLAIN = Access()
