"""What a gRPC status means on the device: the base station's catalogue, read backwards."""

from __future__ import annotations

import contextlib

import grpc

from uihlm_proto.errors import (
    AccessError,
    ExhaustedError,
    InvalidRequestError,
    MismatchError,
    UihlmError,
    UnavailableError,
)
from uihlm_proto.metadata import RETRY_AFTER

ERROR: dict[grpc.StatusCode, type[UihlmError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequestError,
    grpc.StatusCode.FAILED_PRECONDITION: MismatchError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ExhaustedError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.CANCELLED: UnavailableError,
    # No base station says this: a proxy does whose replica died, and gRPC itself of a stream that was cut.
    grpc.StatusCode.INTERNAL: UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: UnavailableError,
    grpc.StatusCode.UNAUTHENTICATED: AccessError,
}


# As gRPC's core names a handshake that failed.
_TLS_SIGNS = ("SSL", "TLS", "handshake", "certificate", "CERTIFICATE", "Hostname Verification")

# Longer than any sentence of this project's; whoever answers may say anything.
_MAX_WORDS = 1000

# Where a base station itself is unavailable, and says why.
_OWN = ("shutting down", "nothing was heard")

# A hint beyond an hour is no hint.
_FOREVER_S = 3600.0


def domain_error(error: grpc.aio.AioRpcError, target: str) -> UihlmError:
    """Return what a gRPC status means here, in the base station's own words where it had any."""
    kind = ERROR.get(error.code(), UihlmError)
    words = _words(error)
    if error.code() is grpc.StatusCode.UNAVAILABLE and not any(own in words for own in _OWN):
        hint = "start one with `uihlm-bs serve`, or check --server"
        if any(sign in words for sign in _TLS_SIGNS):
            hint = "the two ends do not agree on TLS; check --tls, --tls-ca, --tls-cert, and the name in --server"
        return UnavailableError(f"no base station answers at {target}: {hint} ({words})")
    if kind is ExhaustedError:
        return ExhaustedError(words, _retry_after_s(error))
    return kind(words)


def _words(error: grpc.aio.AioRpcError) -> str:
    """Return what the base station said, cut to a sentence or two, with nothing in it that would act on a terminal."""
    details = error.details() or error.code().name
    return "".join(c if c.isprintable() else "\ufffd" for c in details[:_MAX_WORDS])


def _retry_after_s(error: grpc.aio.AioRpcError) -> float | None:
    """Return when to ask again, if the base station has said so in a number that can be believed."""
    for key, value in error.trailing_metadata() or ():
        if key == RETRY_AFTER:
            with contextlib.suppress(ValueError):
                return seconds if 0.0 <= (seconds := float(value)) < _FOREVER_S else None
    return None
