"""What a message weighs, in three counts that are never mixed.

model bits     B = V · b_prob a draft (the paper); the payload for `lattice` and `coupled`
payload bits   codec bytes · 8  +  skipped ids · ⌈log2 V⌉  +  audit bytes · 8
wire bytes     the protobuf message + 5 (gRPC's length prefix) + 9 a begun 16 KiB (HTTP/2 DATA frame headers)

The tail of an earlier answer and a new chat turn (`context_ids`), a guessed token and a tree's parents count on the
wire alone. HTTP/2 headers and control frames, TLS, TCP and IP are not counted: they depend on the deployment, not on
the algorithm.
"""

from __future__ import annotations

from uihlm_proto.codecs import Codec, id_bit
from uihlm_proto.v1 import verification_pb2

GRPC_PREFIX_BYTES = 5
FRAME_HEADER_BYTES = 9
FRAME_BYTES = 16 * 1024


def wire_bytes(serialized_size: int) -> int:
    """Return the bytes that a protobuf message of `serialized_size` bytes takes on the wire."""
    framed = serialized_size + GRPC_PREFIX_BYTES
    frames = (framed + FRAME_BYTES - 1) // FRAME_BYTES
    return framed + FRAME_HEADER_BYTES * frames


def upload_payload_bit(upload: verification_pb2.Upload, vocabulary_size: int) -> int:
    """Return the payload bits of an upload: its drafts, skipped ids and audit bytes."""
    codec_bytes = sum(len(draft.payload) for draft in upload.drafts)
    return 8 * (codec_bytes + len(upload.audit)) + len(upload.skipped_ids) * id_bit(vocabulary_size)


def is_audit_alone(upload: verification_pb2.Upload) -> bool:
    """Return whether an upload asks for nothing but the audit of what was skipped: it is never billed."""
    return bool(upload.audit) and not upload.drafts and not upload.generate


def upload_bit(upload: verification_pb2.Upload, codec: Codec, b_prob: int | None = None) -> tuple[int, int]:
    """Return model and payload bits of an upload, the former as its codec bills them; b_prob None is what the codec sends."""
    payload_bit = upload_payload_bit(upload, codec.vocabulary_size)
    return codec.model_bit(len(upload.drafts), payload_bit, b_prob), payload_bit
