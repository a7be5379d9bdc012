"""What a gRPC status means on the device: the base station's catalogue, read backwards."""

from __future__ import annotations

import grpc

from uihlm_proto.errors import (
    ExhaustedError,
    InvalidRequestError,
    MismatchError,
    UihlmError,
    UnavailableError,
)

ERROR: dict[grpc.StatusCode, type[UihlmError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequestError,
    grpc.StatusCode.FAILED_PRECONDITION: MismatchError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ExhaustedError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.CANCELLED: UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: UnavailableError,
}


def domain_error(error: grpc.aio.AioRpcError, target: str) -> UihlmError:
    """Return what a gRPC status means here, in the base station's own words where it had any."""
    kind = ERROR.get(error.code(), UihlmError)
    if error.code() is grpc.StatusCode.UNAVAILABLE and "shutting down" not in (error.details() or ""):
        return UnavailableError(
            f"no base station answers at {target}: start one with `uihlm-bs serve`, or check --server ({error.details()})"
        )
    return kind(error.details() or error.code().name)
