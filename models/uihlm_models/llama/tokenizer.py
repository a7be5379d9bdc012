"""The tokenizer inside a GGUF."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from uihlm_models.errors import ModelError
from uihlm_models.llama.binding import library, load_model


class LlamaTokenizer:
    """The tokenizer inside a GGUF.

    Attributes:
        vocabulary_size: V.
        stop_ids: every id that llama.cpp takes for an end of generation.
        bos_text: begin-of-sequence piece.
        eos_text: end-of-sequence piece.
        chat_template: the model's chat template, or None.
    """

    def __init__(self, model: Any) -> None:
        """Read the vocabulary of a native model, which must outlive this object."""
        lib = library()
        self._lib = lib
        self._vocab = lib.llama_model_get_vocab(model)
        self.vocabulary_size = int(lib.llama_vocab_n_tokens(self._vocab))
        self.stop_ids = frozenset(i for i in range(self.vocabulary_size) if lib.llama_vocab_is_eog(self._vocab, i))
        self.bos_text = self._text_or_empty(int(lib.llama_vocab_bos(self._vocab)))
        self.eos_text = self._text_or_empty(int(lib.llama_vocab_eos(self._vocab)))
        template = lib.llama_model_chat_template(model, None)
        self.chat_template = template.decode("utf-8") if template else None

    @classmethod
    def from_file(cls, path: Path) -> LlamaTokenizer:
        """Load a GGUF's vocabulary without its weights.

        Raises:
            ModelError: if the file is missing or cannot be read.
        """
        model = load_model(path, vocabulary_only=True)
        tokenizer = cls(model)
        weakref.finalize(tokenizer, library().llama_model_free, model)
        return tokenizer

    def _text(self, token: int) -> str:
        text: bytes = self._lib.llama_vocab_get_text(self._vocab, token)
        return text.decode("utf-8", "surrogatepass")

    def _text_or_empty(self, token: int) -> str:
        return self._text(token) if token >= 0 else ""

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text; see `Tokenizer.encode`."""
        if not text:
            return []
        raw = text.encode("utf-8")
        # A token covers at least one byte, save for a space some vocabularies put in front of every fragment.
        capacity = 2 * len(raw) + 8
        ids = (ctypes.c_int32 * capacity)()
        count = self._lib.llama_tokenize(self._vocab, raw, len(raw), ids, capacity, False, True)
        if count < 0:
            raise ModelError(f"llama.cpp could not tokenise a text of {len(raw)} bytes (it asks for {-count} tokens)")
        return list(ids[:count])

    def piece(self, token: int) -> bytes:
        """Return the bytes a token adds to the text; see `Tokenizer.piece`."""
        self._check(token)
        size = 64
        while True:
            buffer = ctypes.create_string_buffer(size)
            count = self._lib.llama_token_to_piece(self._vocab, token, buffer, size, 0, False)
            if count >= 0:
                return buffer.raw[:count]
            size = -count

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids; see `Tokenizer.decode`."""
        for token in ids:
            self._check(token)
        array = (ctypes.c_int32 * len(ids))(*ids)
        size = 8 * len(ids) + 64
        while True:
            buffer = ctypes.create_string_buffer(size)
            count = self._lib.llama_detokenize(self._vocab, array, len(ids), buffer, size, False, False)
            if count >= 0:
                return buffer.raw[:count].decode("utf-8", "replace")
            size = -count

    def pieces(self) -> list[str]:
        """Return the vocabulary's own strings in id order; see `Tokenizer.pieces`."""
        return [self._text(token) for token in range(self.vocabulary_size)]

    def _check(self, token: int) -> None:
        # llama.cpp ends the process on an id it does not know.
        if not 0 <= token < self.vocabulary_size:
            raise ModelError(f"token id {token} is outside the vocabulary of {self.vocabulary_size} tokens")
