"""What a request is told that gets no answer: the one table from errors to HTTP statuses, in OpenAI's error object.

400 cannot be given   401 no token, or another   403 another name for this machine   404 no such model or page
408 half a request    413 too large              415 no JSON                         429 full, come again
500 a defect          502 the base station refuses this device                       503 no base station, or going away
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from uihlm_device.endpoint.completer import TooLongError
from uihlm_models.errors import ModelError
from uihlm_proto.errors import ExhaustedError, InvalidRequestError, UihlmError, UnavailableError

# When to try again where nobody has said.
_RETRY_S = 1.0


class Refusal(Exception):  # noqa: N818 - an answer like any other
    """A request that is answered with an error.

    Attributes:
        status: of HTTP.
        headers: that go with it.
        body: OpenAI's error object.
    """

    def __init__(
        self,
        status: int,
        message: str,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})
        self.body: dict[str, Any] = {"error": {"message": message, "type": kind, "param": param, "code": code}}

    @classmethod
    def bad(cls, param: str | None, message: str) -> Refusal:
        """Return the refusal of a field that cannot be given."""
        return cls(400, message, param=param)

    @classmethod
    def of(cls, error: Exception) -> Refusal:
        """Return what a request is told of an error; of a defect only that there is one."""
        message = str(error)
        match error:
            case Refusal():
                return error
            case TooLongError():
                return cls(400, message, param="messages", code="context_length_exceeded")
            case InvalidRequestError():
                return cls(400, message)
            case ModelError():
                return cls(500, message, "server_error", code="model")
            case ExhaustedError():
                return cls(
                    429, message, "rate_limit_error", code="rate_limit_exceeded", headers=_retry(error.retry_after_s)
                )
            case UnavailableError():
                return cls(503, message, "server_error", code="unavailable", headers=_retry(None))
            case UihlmError():
                # Another tokenizer, a refused token, a broken protocol: for whoever runs this endpoint to mend.
                return cls(502, message, "server_error", code="base_station")
            case _:
                return cls(500, "a defect in this endpoint: its log says more", "server_error", code="internal_error")


def _retry(seconds: float | None) -> dict[str, str]:
    return {"retry-after": str(math.ceil(seconds if seconds else _RETRY_S))}
