"""Which prompts a rule may be fitted to, and which it is judged on.

    held out  ⇔  BLAKE2b(text of the user's turn) / 2⁶⁴ < share

The side is a property of the prompt's text alone: it stays the same in every pack, whatever other prompts are in it and
wherever the prompt stands in its data set, so a rule that was fitted to one pack can be judged on another.
"""

from __future__ import annotations

import hashlib

from uihlm_proto.errors import InvalidRequestError

DEFAULT_SHARE = 0.5

_BYTES = 8


def held_out(user_turn: str, share: float = DEFAULT_SHARE) -> bool:
    """Return whether rules are judged on a prompt, and so never fitted to it.

    Args:
        user_turn: what the user says.
        share: of all prompts that is held out, 0…1.

    Raises:
        InvalidRequestError: for a share outside 0…1.
    """
    if not 0.0 <= share <= 1.0:
        raise InvalidRequestError(f"the share of held-out prompts must be within 0 and 1, got {share}")
    digest = hashlib.blake2b(user_turn.encode("utf-8"), digest_size=_BYTES, person=b"uihlm.split").digest()
    return int.from_bytes(digest, "little") < share * 2.0 ** (8 * _BYTES)
