"""PEM files, read and checked before gRPC sees them: it would only say that a handshake failed."""

from __future__ import annotations

import ssl
import stat
from pathlib import Path

from uihlm_proto.errors import AccessError


def read_chain(certificate: Path, key: Path) -> tuple[bytes, bytes]:
    """Return the (private key, certificate chain) of one end as PEM, in the order gRPC takes them.

    Raises:
        AccessError: if they are no PEM, do not belong together, or the key has a password.
        OSError: if a file cannot be read.
    """
    pair = key.read_bytes(), certificate.read_bytes()
    try:
        # A key with a password must fail here, not ask at the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=lambda: b"")
    except (ssl.SSLError, ValueError) as error:
        raise AccessError(
            f"{certificate} and {key} are no certificate and its private key in PEM, without a password: {_reason(error)}"
        ) from None
    return pair


def read_authorities(file: Path) -> bytes:
    """Return the certificates of the authorities that one end trusts, as PEM.

    Raises:
        AccessError: if the file holds none.
        OSError: if it cannot be read.
    """
    pem = file.read_bytes()
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=pem.decode("ascii"))
    except (ssl.SSLError, UnicodeDecodeError, ValueError) as error:
        raise AccessError(f"{file} holds no certificate in PEM: {_reason(error)}") from None
    return pem


def readable_by_others(file: Path) -> bool:
    """Return whether others than the owner and its group may read a file; a secret should not be."""
    return bool(file.stat().st_mode & stat.S_IROTH)


def _reason(error: Exception) -> str:
    return getattr(error, "reason", None) or type(error).__name__
