"""Text to ids and back, by the model's own vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Tokenizer(Protocol):
    """A vocabulary, the rule that cuts text into it, and what its model says about chats."""

    @property
    def vocabulary_size(self) -> int:
        """V."""

    @property
    def stop_ids(self) -> frozenset[int]:
        """Ids that end an answer (end of sequence, end of turn)."""

    @property
    def bos_text(self) -> str:
        """The begin-of-sequence piece as a chat template writes it; empty if there is none."""

    @property
    def eos_text(self) -> str:
        """The end-of-sequence piece as a chat template writes it; empty if there is none."""

    @property
    def chat_template(self) -> str | None:
        """The model's own chat template (Jinja); None if it carries none."""

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text; special pieces in it become their ids, and nothing is added in front or behind."""

    def piece(self, token: int) -> bytes:
        """Return the bytes a token adds to the text (perhaps half a character); empty for control tokens."""

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, control tokens left out, broken characters replaced by U+FFFD."""

    def pieces(self) -> list[str]:
        """Return the vocabulary's own strings in id order, `[V]`, ids without one as `[PAD<id>]`."""
