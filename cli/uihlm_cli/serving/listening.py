"""The flags that say where an endpoint listens and to whom, and what they add up to."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from uihlm_cli.options.flags import FILE, F, Values, group, option
from uihlm_proto.addresses import check_listening
from uihlm_proto.bearer import find_tokens
from uihlm_proto.certificates import read_authorities, read_chain, readable_by_others
from uihlm_proto.errors import AccessError
from uihlm_proto.token_set import TokenSet

if TYPE_CHECKING:
    from uihlm_device.endpoint.server import Listening

KEY_VARIABLE = "UIHLM_API_KEY"
_HOW = "clients show it as their API key"

listening_options: Callable[[F], F] = group(
    option("--host", default="127.0.0.1", help="Address to listen on."),
    option("--port", type=click.IntRange(0, 65535), default=8080, help="Port; 0 takes a free one."),
    option("--api-key-file", type=FILE, help=f"Only clients that show one of these are served.  [default: ${KEY_VARIABLE}]"),
    option("--api-tls-cert", type=FILE, help="Certificate chain of this endpoint, PEM; switches TLS on."),
    option("--api-tls-key", type=FILE, help="Private key of --api-tls-cert, PEM, without a password."),
    option("--api-tls-client-ca", type=FILE, help="mTLS: only clients with a certificate of these authorities, PEM."),
    option("--api-insecure", is_flag=True, help="Let other machines reach it without TLS: all can be read on the way."),
    option("--grace-s", type=click.FloatRange(0), default=30.0, help="On SIGTERM, answers may go on so long, seconds."),
)  # fmt: skip


def listening_of(values: Values) -> Listening:
    """Return what the flags and `UIHLM_API_KEY` say; what is unwise goes to stderr.

    Raises:
        click.UsageError: flags that do not go together, or an address that needs TLS.
        AccessError: files that are no certificate, key or keys.
    """
    from uihlm_device.endpoint.server import Listening

    certificate, key, client_ca, key_file = (
        values[name] for name in ("api_tls_cert", "api_tls_key", "api_tls_client_ca", "api_key_file")
    )
    if (certificate is None) != (key is None):
        raise click.UsageError("--api-tls-cert and --api-tls-key go together: give both, or neither")
    if certificate is None and client_ca is not None:
        raise click.UsageError("--api-tls-client-ca asks for TLS: give --api-tls-cert and --api-tls-key with it")
    try:
        check_listening(values["host"], certificate is not None, values["api_insecure"], "--api-")
    except AccessError as error:
        raise click.UsageError(str(error)) from error
    for secret in (key, key_file):
        if secret is not None and readable_by_others(secret):
            click.echo(f"warning: every user of this machine can read {secret}: chmod 600 {secret}", err=True)
    keys = find_tokens(key_file, os.environ.get(KEY_VARIABLE), KEY_VARIABLE)
    if certificate is not None:
        # Now, and not once the weights are loaded.
        read_chain(certificate, key)
    if client_ca is not None:
        read_authorities(client_ca)
    return Listening(
        values["host"],
        values["port"],
        certificate,
        key,
        client_ca,
        TokenSet(keys, "this endpoint", _HOW) if keys else None,
        values["grace_s"],
    )
