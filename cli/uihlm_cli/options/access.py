"""The flags that say how a device gets to a named base station, and what they add up to."""

from __future__ import annotations

import os
from collections.abc import Callable

import click

from uihlm_cli.options.flags import FILE, F, Values, group, option
from uihlm_device.stream.access import PLAIN, Access
from uihlm_proto.addresses import target_is_loopback
from uihlm_proto.bearer import TOKEN_VARIABLE, find_tokens
from uihlm_proto.certificates import readable_by_others
from uihlm_proto.errors import AccessError

access_options: Callable[[F], F] = group(
    option("--tls", is_flag=True, help="Encrypt the way to --server, and check its certificate; the next three imply it."),
    option("--tls-ca", type=FILE, help="Believe certificates of these authorities, PEM.  [default: well-known ones]"),
    option("--tls-cert", type=FILE, help="This device's certificate chain, PEM, where --server asks for one (mTLS)."),
    option("--tls-key", type=FILE, help="Private key of --tls-cert, PEM, without a password."),
    option("--token-file", type=FILE, help=f"Bearer token to show --server.  [default: ${TOKEN_VARIABLE}]"),
    option("--insecure", is_flag=True, help="Show the token even without TLS to another machine: it can be read on the way."),
    option("--server-application", metavar="NAME", help="Which of the applications of a Ray Serve ingress is meant."),
)  # fmt: skip


def access_of(values: Values) -> Access:
    """Return what the flags and `UIHLM_TOKEN` say; what is unwise goes to stderr.

    Raises:
        click.UsageError: flags that do not go together, or a token that could be read on the way.
        AccessError: files that are no certificate, key or token.
    """
    server: str | None = values["server"]
    authorities, certificate, key, token_file = (values[n] for n in ("tls_ca", "tls_cert", "tls_key", "token_file"))
    tls = values["tls"] or any(file is not None for file in (authorities, certificate, key))
    if server is None:
        if tls or token_file is not None or values["server_application"] is not None:
            raise click.UsageError(
                "--tls…, --token-file and --server-application are for a base station that --server names: the local one "
                "asks for none"
            )
        return PLAIN
    if (certificate is None) != (key is None):
        raise click.UsageError("--tls-cert and --tls-key go together: give both, or neither")
    for secret in (key, token_file):
        if secret is not None and readable_by_others(secret):
            click.echo(f"warning: every user of this machine can read {secret}: chmod 600 {secret}", err=True)
    tokens = find_tokens(token_file, os.environ.get(TOKEN_VARIABLE))
    if len(tokens) > 1:
        raise AccessError(f"{len(tokens)} tokens are given, a device shows one: leave the others out")
    access = Access(
        tls,
        authorities,
        certificate,
        key,
        tokens[0] if tokens else None,
        values["insecure"],
        values["server_application"],
    )
    try:
        access.check(server)
    except AccessError as error:
        raise click.UsageError(str(error)) from error
    if not tls and not target_is_loopback(server):
        click.echo(
            f"note: the way to {server} is not encrypted: prompts and answers can be read on it (--tls)", err=True
        )
    return access
