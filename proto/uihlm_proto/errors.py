"""Everything that can go wrong between two ends, as one small hierarchy.

Library code raises these; only the command line turns them into exit codes and only the server turns them into gRPC
statuses. A message says what was wrong, what was got and what to do.
"""

from __future__ import annotations


class UihlmError(Exception):
    """Root of every error that this project raises on purpose."""


class InvalidRequestError(UihlmError):
    """A value that no retry will make right (gRPC INVALID_ARGUMENT)."""


class MismatchError(UihlmError):
    """The two ends do not fit: tokenizer, vocabulary or protocol (gRPC FAILED_PRECONDITION)."""


class ExhaustedError(UihlmError):
    """The base station is full (gRPC RESOURCE_EXHAUSTED); later it may not be.

    Attributes:
        retry_after_s: when to ask again, seconds from now, where the base station has said; it travels as the trailing
            metadata RETRY_AFTER (metadata.py).
    """

    def __init__(self, message: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class UnavailableError(UihlmError):
    """The base station cannot be reached or is going away (gRPC UNAVAILABLE)."""


class AccessError(UihlmError):
    """Credentials are missing, unusable or refused (gRPC UNAUTHENTICATED)."""


class ProtocolError(UihlmError):
    """The other end broke the order of messages or sent what no correct peer sends."""
