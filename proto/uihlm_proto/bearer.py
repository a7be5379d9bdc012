"""Bearer tokens: the secret that a device shows a base station with every call, as RFC 6750 writes it.

    authorization: Bearer <token>

A token hides its secret from `repr`, so that no log, error or results file can hold it by accident.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from uihlm_proto.errors import AccessError

METADATA_KEY = "authorization"
TOKEN_VARIABLE = "UIHLM_TOKEN"

# Fewer characters can be guessed; more than this and the headers of a call no longer fit gRPC's own limit.
MIN_CHARACTERS, MAX_CHARACTERS = 16, 1024
_SCHEME = "Bearer "
_TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]+=*")
_HOW = "make one with `python -c 'import secrets; print(secrets.token_urlsafe(32))'`"


@dataclass(frozen=True, slots=True)
class Token:
    """One secret.

    Raises:
        AccessError: if it is too short, too long, or holds a character that a header may not; the secret is not told.
    """

    secret: str = field(repr=False)

    def __post_init__(self) -> None:
        """Check the form."""
        if not MIN_CHARACTERS <= len(self.secret) <= MAX_CHARACTERS:
            raise AccessError(
                f"a token has {MIN_CHARACTERS} … {MAX_CHARACTERS} characters, this one has {len(self.secret)}: {_HOW}"
            )
        if _TOKEN.fullmatch(self.secret) is None:
            raise AccessError(f"a token holds letters, digits and -._~+/ alone, = at its end: {_HOW}")

    @property
    def header(self) -> tuple[str, str]:
        """The metadata entry that shows it."""
        return METADATA_KEY, _SCHEME + self.secret

    @property
    def digest(self) -> bytes:
        """Its SHA-256, 32 bytes: what a base station keeps and compares."""
        return hashlib.sha256(self.secret.encode()).digest()


def shown_digest(metadata: Iterable[tuple[str, str | bytes]]) -> bytes | None:
    """Return the SHA-256 of the token that a call's metadata shows, whatever its form; None if it shows none, or two."""
    shown = [value for key, value in metadata if key == METADATA_KEY]
    if len(shown) != 1:
        return None
    value = shown[0].encode() if isinstance(shown[0], str) else shown[0]
    scheme = value[: len(_SCHEME)].decode("latin-1")
    if scheme.lower() != _SCHEME.lower():
        return None
    return hashlib.sha256(value[len(_SCHEME) :].strip()).digest()


def read_tokens(text: str, where: str) -> tuple[Token, ...]:
    """Return the tokens of a text, one a line; blank lines and those that start with # are left out.

    Raises:
        AccessError: if there is none, or a line is no token; the message names `where` and the line, not the secret.
    """
    tokens = []
    for number, line in enumerate(text.splitlines(), start=1):
        word = line.strip()
        if not word or word.startswith("#"):
            continue
        try:
            tokens.append(Token(word))
        except AccessError as error:
            raise AccessError(f"{where}, line {number}: {error}") from None
    if not tokens:
        raise AccessError(f"{where} holds no token: write one a line; {_HOW}")
    return tuple(tokens)


def find_tokens(file: Path | None, variable: str | None, name: str = TOKEN_VARIABLE) -> tuple[Token, ...]:
    """Return the tokens of a file, else of the value of the environment variable `name`, else none.

    Raises:
        AccessError: if a text is there and is no list of tokens.
        OSError: if the file cannot be read.
    """
    if file is not None:
        try:
            return read_tokens(file.read_text(encoding="utf-8"), str(file))
        except UnicodeDecodeError:
            raise AccessError(f"{file} is no text file: write tokens one a line") from None
    return read_tokens(variable, f"${name}") if variable else ()
