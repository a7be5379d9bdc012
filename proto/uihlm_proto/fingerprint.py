"""The tokenizer's fingerprint: equal on both ends or the session is refused.

    fingerprint = SHA-256( for each id in order:  len(piece) as 4 bytes, little-endian  ‖  piece in UTF-8 )

Pieces are the vocabulary's own strings (`tokenizer.ggml.tokens` of a GGUF, `convert_ids_to_tokens` of a Hugging Face
tokenizer), so that both loads of one model give the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

FINGERPRINT_BYTES = 32


def fingerprint(pieces: Iterable[str]) -> bytes:
    """Return the 32-byte fingerprint of a vocabulary given its pieces in id order."""
    digest = hashlib.sha256()
    for piece in pieces:
        encoded = piece.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(4, "little"))
        digest.update(encoded)
    return digest.digest()
