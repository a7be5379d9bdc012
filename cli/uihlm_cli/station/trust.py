"""The flags that say whom a base station serves: TLS, tokens, limits; and what they add up to."""

from __future__ import annotations

import os
from collections.abc import Callable

import click

from uihlm_basestation.trust.limits import SERVED, Limits
from uihlm_basestation.trust.settings import TlsFiles, Trust
from uihlm_cli.options.flags import FILE, F, Values, group, option
from uihlm_proto.bearer import TOKEN_VARIABLE, find_tokens
from uihlm_proto.certificates import readable_by_others
from uihlm_proto.errors import AccessError
from uihlm_proto.token_set import TokenSet


def _rate(flag: str, default: float, help: str) -> Callable[[F], F]:
    return option(flag, type=click.IntRange(1), default=int(default), help=help)


trust_options: Callable[[F], F] = group(
    option("--tls-cert", type=FILE, help="Certificate chain of this base station, PEM; switches TLS on."),
    option("--tls-key", type=FILE, help="Private key of --tls-cert, PEM, without a password."),
    option(
        "--tls-client-ca", type=FILE, help="mTLS: only devices with a certificate of these authorities are served, PEM."
    ),
    option(
        "--token-file",
        type=FILE,
        help=f"Only devices that show one of these tokens are served; one a line.  [default: ${TOKEN_VARIABLE}]",
    ),
    option(
        "--insecure",
        is_flag=True,
        help="Listen on an address that other machines reach without TLS: all of it can be read and changed on the way.",
    ),
    _rate("--session-messages-s", SERVED.session_messages_s, "Most messages of one session, a second."),
    _rate("--session-bytes-s", SERVED.session_bytes_s, "Most bytes of one session's messages, a second."),
    _rate("--peer-messages-s", SERVED.peer_messages_s, "Most messages of one peer, a second."),
    _rate("--peer-bytes-s", SERVED.peer_bytes_s, "Most bytes of one peer's messages, a second."),
    _rate(
        "--peer-sessions",
        SERVED.peer_sessions,
        "Most sessions of one peer at once. A peer is a certificate, a token, or else an address; this machine is none.",
    ),
)


def trust_of(values: Values, warn: Callable[[str], None]) -> Trust:
    """Return what the flags and `UIHLM_TOKEN` say.

    Args:
        values: the command's.
        warn: says what is unwise.

    Raises:
        click.UsageError: flags that do not go together, or an address that needs TLS.
        AccessError: files that are no certificate, key or tokens.
    """
    certificate, key, client_ca = (values[name] for name in ("tls_cert", "tls_key", "tls_client_ca"))
    if (certificate is None) != (key is None):
        raise click.UsageError("--tls-cert and --tls-key go together: give both, or neither")
    if certificate is None and client_ca is not None:
        raise click.UsageError("--tls-client-ca asks for TLS: give --tls-cert and --tls-key with it")
    for secret in (key, values["token_file"]):
        if secret is not None and readable_by_others(secret):
            warn(f"warning: every user of this machine can read {secret}: chmod 600 {secret}")
    tls = None if certificate is None else TlsFiles(certificate, key, client_ca)
    tokens = find_tokens(values["token_file"], os.environ.get(TOKEN_VARIABLE))
    trust = Trust(
        tls,
        TokenSet(tokens) if tokens else None,
        Limits(
            values["session_messages_s"],
            values["session_bytes_s"],
            values["peer_messages_s"],
            values["peer_bytes_s"],
            values["peer_sessions"],
        ),
        values["insecure"],
    )
    try:
        trust.check_host(values["host"])
    except AccessError as error:
        raise click.UsageError(str(error)) from error
    if tls is not None:
        # Now, and not once the weights are loaded.
        tls.credentials()
    return trust
