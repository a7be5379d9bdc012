"""Message size limits, derived from the vocabulary and set explicitly on both ends (gRPC's default is 4 MiB)."""

from __future__ import annotations

from uihlm_proto.codecs import codec, names

PROTOCOL_VERSION = 1

# A chain or tree of drafts longer than this pays nowhere and only costs memory.
MAX_DRAFTS = 64

# Of a tree that is sent in several uploads.
MAX_TREE = 1024

# Tokens of `generate` that one verdict tells of: more save nothing, and a reader waits for them.
MAX_STREAM_INTERVAL = 64

# Ids that end an answer; tokenizers have one to a dozen.
MAX_STOP_IDS = 256

# A varint id has at most 5 bytes; fixed fields, tags and lengths fit in the envelope.
_ID_BYTES = 5
_ENVELOPE_BYTES = 4096
_PER_DRAFT_BYTES = 32


def max_request_bytes(vocabulary_size: int, max_context: int) -> int:
    """Return the largest request a correct device can send: a full prefix, or MAX_DRAFTS of the widest codec."""
    # Of the default parameters; no others may make a payload wider than these or the dense ones.
    widest = max(codec(name, vocabulary_size).max_payload_bytes for name in names())
    return _ENVELOPE_BYTES + _ID_BYTES * max_context + MAX_DRAFTS * (widest + _PER_DRAFT_BYTES)


def max_response_bytes(max_context: int) -> int:
    """Return the largest response a correct base station can send: one float for each position, and the envelope."""
    return _ENVELOPE_BYTES + MAX_DRAFTS * _PER_DRAFT_BYTES + _ID_BYTES * max_context
