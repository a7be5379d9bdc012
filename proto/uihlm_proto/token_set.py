"""The tokens that a server takes: kept as digests, compared in constant time, every one each time."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Sequence

from uihlm_proto.bearer import Token, shown_digest
from uihlm_proto.errors import AccessError

# Of the digest's hexadecimal: enough to tell a few thousand tokens apart, and the secret cannot be had from it.
_NAME_DIGITS = 8


class TokenSet:
    """Any one of these opens a call."""

    def __init__(
        self,
        tokens: Sequence[Token],
        server: str = "this base station",
        how: str = "give it with --token-file, or in the variable UIHLM_TOKEN",
    ) -> None:
        """Keep the digests alone; `server` and `how` stand in what a caller without a token is told."""
        self._digests = tuple({token.digest for token in tokens})
        self._server = server
        self._how = how

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._digests)

    def name_of(self, metadata: Iterable[tuple[str, str | bytes]]) -> str:
        """Return a name, no secret, of the token that a call's metadata shows.

        Raises:
            AccessError: if it shows none, or another one.
        """
        shown = shown_digest(metadata)
        if shown is None:
            raise AccessError(f"{self._server} asks for a bearer token: {self._how}")
        found = 0
        for digest in self._digests:
            # No early end: how long this takes says nothing of which token, or how much of one, was right.
            found |= hmac.compare_digest(digest, shown)
        if not found:
            raise AccessError(f"{self._server} does not know the bearer token: ask whoever runs it for one")
        return f"token {shown.hex()[:_NAME_DIGITS]}"
