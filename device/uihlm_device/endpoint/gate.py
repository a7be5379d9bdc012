"""What a request must show before it is read: where it thinks it is, who it is, how long it is, what it is.

On loopback without keys, the name in `Host` must be this machine's own: a web page whose name was turned to 127.0.0.1 would
otherwise read answers with its visitor's browser (DNS rebinding). For the same reason a body must say that it is JSON: a
browser asks before it sends that to another origin, and is not answered.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from starlette.requests import Request

from uihlm_device.endpoint.refusals import Refusal
from uihlm_proto.addresses import is_loopback
from uihlm_proto.errors import AccessError
from uihlm_proto.token_set import TokenSet

# A prompt that fills a context of 131,072 tokens with long words takes less.
MAX_BODY_BYTES = 4 * 2**20
BODY_S = 30.0


@dataclass(frozen=True, slots=True)
class Gate:
    """Whom an endpoint serves.

    Attributes:
        keys: one of them opens it; None asks for none.
        loopback: whether only this machine reaches it.
        body_s: how long a body may take to come.
    """

    keys: TokenSet | None = None
    loopback: bool = True
    body_s: float = BODY_S

    def check(self, request: Request) -> None:
        """Raise Refusal, 401 or 403, for a request that is not served."""
        if self.keys is not None:
            shown = [(name.lower(), value) for name, value in request.headers.items()]
            try:
                self.keys.name_of(shown)
            except AccessError as error:
                headers = {"www-authenticate": "Bearer"}
                raise Refusal(401, str(error), code="invalid_api_key", headers=headers) from error
        elif self.loopback and not is_loopback(_host(request)):
            raise Refusal(
                403,
                f"this endpoint is not {_host(request)!r}: ask it by a name of this machine, or serve it with --api-key-file",
                code="host_not_allowed",
            )

    async def body(self, request: Request) -> Mapping[str, Any]:
        """Return the JSON object that a request holds.

        Raises:
            Refusal: 400, 408, 413, 415.
        """
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise Refusal(415, f"the body must be application/json, got {kind or 'no content type'}")
        announced = request.headers.get("content-length", "")
        if announced.isdigit() and int(announced) > MAX_BODY_BYTES:
            raise _too_large()
        raw = bytearray()
        try:
            async with asyncio.timeout(self.body_s):
                async for part in request.stream():
                    raw += part
                    if len(raw) > MAX_BODY_BYTES:
                        raise _too_large()
        except TimeoutError:
            raise Refusal(408, f"the rest of the request has not come for {self.body_s:g} s") from None
        return _object(bytes(raw))


def _host(request: Request) -> str:
    host = request.headers.get("host", "")
    return host[: host.rfind("]") + 1] if host.startswith("[") else host.partition(":")[0]


def _object(raw: bytes) -> Mapping[str, Any]:
    try:
        text = raw.decode("utf-8")
        value = json.loads(text, parse_constant=_no_number)
        # Half a surrogate pair is JSON and no text.
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        raise Refusal.bad(None, "the body is nested too deeply") from None
    except ValueError as error:
        raise Refusal.bad(None, f"the body is no JSON in UTF-8: {error}") from error
    if not isinstance(value, dict):
        raise Refusal.bad(None, f"the body is a JSON object, got {type(value).__name__}")
    return value


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _too_large() -> Refusal:
    return Refusal(413, f"the body has more than {MAX_BODY_BYTES} bytes: shorten it", code="request_too_large")
