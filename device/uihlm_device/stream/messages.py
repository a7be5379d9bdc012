"""Between the loop's own types and the messages of proto/uihlm/v1/verification.proto."""

from __future__ import annotations

import math
from typing import cast

from uihlm_device.stream.session import Cost, Upload, Verdict
from uihlm_proto.errors import ProtocolError
from uihlm_proto.v1 import verification_pb2 as pb


def upload_request(round_number: int, upload: Upload) -> pb.VerifyRequest:
    """Return the message that carries an upload."""
    request = pb.VerifyRequest()
    # Filled where it stands: a message given to another one's constructor is copied, whole distributions with it.
    message = request.upload
    message.round = round_number
    message.epoch = upload.epoch
    message.first_position = upload.first_position
    message.context_ids.extend(upload.context_ids)
    message.skipped_ids.extend(upload.skipped_ids)
    message.audit = upload.audit
    for payload in upload.payloads:
        message.drafts.add(payload=payload)
    message.parents.extend(upload.parents)
    message.continues = upload.continues
    message.generate = upload.generate
    if upload.generate and upload.stream_interval > 1:
        message.stream_interval = upload.stream_interval
    if upload.assumed_id is not None:
        message.assumed_id = upload.assumed_id
    message.run_on = cast("pb.RunOn", int(upload.run_on))
    return request


# Rounding may carry a sum of probabilities so far beyond 1.
_ROUNDING = 1e-6


def check_verdict(message: pb.Verdict, vocabulary_size: int) -> None:
    """Raise ProtocolError if a verdict holds what no base station can mean: it would reach models, clocks and results."""
    for token in (*message.written_ids, message.token_id):
        if token >= vocabulary_size:
            raise ProtocolError(f"the base station sent token {token}, the vocabulary has {vocabulary_size}")
    if message.written_ids and not message.HasField("token_id"):
        raise ProtocolError("the base station sent tokens before one that it did not send")
    shares = (message.y_d, message.reject_probability, message.total_variation, message.skipped_reject_probability)
    if not all(0.0 <= value <= 1.0 + _ROUNDING for values in shares for value in values):
        raise ProtocolError("the base station sent a probability outside 0 … 1")
    check_cost(message.cost)


def check_cost(message: pb.Cost) -> None:
    """Raise ProtocolError if a cost is no time, or no energy."""
    if not all(0.0 <= value < math.inf for value in (message.forward_s, message.queue_s)):
        raise ProtocolError(
            f"the base station says it took {message.forward_s} s, after {message.queue_s} s in its queue"
        )
    # Counters never fall; 0 where a forward was shorter than the step they count in.
    if message.HasField("energy_j") and not 0.0 <= message.energy_j < math.inf:
        raise ProtocolError(f"the base station says it spent {message.energy_j} J")


def verdict_of(message: pb.Verdict, generating: bool) -> Verdict:
    """Return what a verdict says.

    Args:
        message: as it came.
        generating: whether its round asked the LLM to go on alone: any other round has one verdict.
    """
    return Verdict(
        accepted=message.accepted,
        token=message.token_id if message.HasField("token_id") else None,
        y_d=tuple(message.y_d),
        reject_prob=tuple(message.reject_probability),
        tv=tuple(message.total_variation),
        stale=message.stale,
        last=message.last or message.stale or not generating,
        skipped_reject_prob=tuple(message.skipped_reject_probability),
        cost=cost_of(message.cost),
        path=tuple(message.path),
        written=tuple(message.written_ids),
    )


def cost_of(message: pb.Cost) -> Cost:
    """Return what a message cost."""
    energy_j = message.energy_j if message.HasField("energy_j") else None
    return Cost(message.forward_s, message.queue_s, message.forwards, message.positions, energy_j)
