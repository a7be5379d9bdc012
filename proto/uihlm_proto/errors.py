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
    """The base station is full (gRPC RESOURCE_EXHAUSTED); later it may not be."""


class UnavailableError(UihlmError):
    """The base station cannot be reached or is going away (gRPC UNAVAILABLE)."""


class ProtocolError(UihlmError):
    """The other end broke the order of messages or sent what no correct peer sends."""
