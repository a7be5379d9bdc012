"""What would the LLM have said of tokens the device kept without asking?

    r_i = 1 − min(1, y_i / x̂_i)        y_i the LLM's probability of skipped token i, x̂_i as its audit byte says

The ids are prefilled anyway; an audit costs the output rows of their positions, and no token changes by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from uihlm_basestation.verification import FloatArray
from uihlm_proto.audit import decode, reject_probability
from uihlm_proto.errors import InvalidRequestError
from uihlm_proto.v1 import verification_pb2 as pb

# Rows of logits that one forward makes for an audit, or for scores: 64 rows of V = 49,152 floats are 12.6 MB.
AUDIT_ROWS = 64


def check_kind(request: pb.Upload) -> None:
    """Raise InvalidRequestError unless the upload is one of the three kinds: drafts, `generate`, or an audit alone."""
    if bool(request.drafts) == bool(request.generate) and (request.drafts or not request.audit):
        raise InvalidRequestError("an Upload holds either drafts or generate > 0, and not both; or an audit alone")
    if not request.audit:
        return
    if request.generate or request.parents:
        raise InvalidRequestError("audit goes with a chain of drafts or alone: not with generate, nor with a tree")
    if len(request.audit) != len(request.skipped_ids):
        raise InvalidRequestError(
            f"audit holds {len(request.audit)} bytes for {len(request.skipped_ids)} skipped ids: send one byte each"
        )


def skipped_risk(audit: bytes, skipped_ids: Sequence[int], y: Iterable[FloatArray]) -> list[float]:
    """Return the rejection probability of each skipped token, given its audit byte and the LLM's y `[V]` for it."""
    return [
        reject_probability(decode(byte), float(y_i[token]))
        for byte, token, y_i in zip(audit, skipped_ids, y, strict=True)
    ]
