"""The `Tokenizer` of a model loaded by transformers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from uihlm_models.errors import ModelError

_BYTE_PIECE = re.compile(r"^<0x([0-9A-Fa-f]{2})>$")
_WORD_SPACE = "▁"
# Control tokens that end a turn or a text by name: configurations often list only one of those a model uses. The names
# are those llama.cpp goes by (with its fill-in-the-middle ones), so that both libraries stop at the same token.
_END_NAMES = frozenset(
    {
        "<|im_end|>",
        "<|eot_id|>",
        "<|eom_id|>",
        "<|end|>",
        "<end_of_turn>",
        "<|endoftext|>",
        "<|end_of_text|>",
        "<end_of_utterance>",
        "<EOT>",
        "_<EOT>",
        "[EOT]",
        "[EOS]",
        "<|fim_pad|>",
        "<fim-pad>",
        "<fim_pad>",
        "<|fim_repo|>",
        "<|repo_name|>",
        "<fim-repo>",
        "<reponame>",
        "<|file_sep|>",
    }
)


def byte_alphabet() -> dict[str, int]:
    """Return the byte that each letter of byte-level BPE stands for.

    Printable Latin-1 characters stand for themselves; the other 68 bytes, in order, for U+0100 onwards (GPT-2's table).
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = sorted(set(range(256)) - set(printable))
    return {chr(byte): byte for byte in printable} | {chr(256 + rank): byte for rank, byte in enumerate(others)}


class TorchTokenizer:
    """A Hugging Face tokenizer cut or padded to its model's vocabulary.

    Attributes:
        vocabulary_size: V, the width of the model's logits.
        stop_ids: the model's end-of-sequence ids, the tokenizer's, and control tokens that end a turn by name.
        bos_text: begin-of-sequence piece, or empty.
        eos_text: end-of-sequence piece, or empty.
        chat_template: the model's chat template, or None.
    """

    def __init__(self, tokenizer: Any, vocabulary_size: int, eos_ids: int | Iterable[int] | None = None) -> None:
        """Wrap a transformers tokenizer; `eos_ids` are those of the model's generation configuration.

        Raises:
            ModelError: if the vocabulary is neither byte-level nor of the sentencepiece kind.
        """
        self._tokenizer = tokenizer
        self.vocabulary_size = vocabulary_size
        names = tokenizer.convert_ids_to_tokens(list(range(min(vocabulary_size, len(tokenizer)))))
        names += [None] * (vocabulary_size - len(names))
        # Embeddings are often padded to a round number; llama.cpp's converter gives such ids the same names.
        self._pieces: list[str] = [f"[PAD{i}]" if name is None else name for i, name in enumerate(names)]
        self._byte_level = self._is_byte_level()
        self._letters = byte_alphabet() if self._byte_level else {}
        added = tokenizer.added_tokens_decoder
        self._literal: dict[int, str] = {i: token.content for i, token in added.items()}
        special = frozenset(i for i, token in added.items() if token.special) | frozenset(tokenizer.all_special_ids)
        self._control = special | frozenset(i for i, name in enumerate(names) if name is None)
        found = {eos_ids} if isinstance(eos_ids, int) else set(eos_ids or ())
        if tokenizer.eos_token_id is not None:
            found.add(tokenizer.eos_token_id)
        found |= {i for i in self._control if i < vocabulary_size and self._pieces[i] in _END_NAMES}
        self.stop_ids = frozenset(i for i in found if i < vocabulary_size)
        self.bos_text: str = tokenizer.bos_token or ""
        self.eos_text: str = tokenizer.eos_token or ""
        template = tokenizer.chat_template
        # Some models carry several templates by name.
        self.chat_template: str | None = template.get("default") if isinstance(template, dict) else template

    def _is_byte_level(self) -> bool:
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise ModelError(
                f"{type(self._tokenizer).__name__} is no fast tokenizer: put tokenizer.json beside the model's weights"
            )
        state = json.loads(backend.to_str())
        steps = json.dumps([state["decoder"], state["pre_tokenizer"]], ensure_ascii=False)
        if '"ByteLevel"' in steps:
            return True
        # Sentencepiece in its two forms: a Metaspace step, or a plain replacement of "▁", either with byte fallback.
        if '"Metaspace"' in steps or _WORD_SPACE in steps:
            return False
        raise ModelError(
            "the tokenizer is neither byte-level BPE nor of the sentencepiece kind, so the bytes of its pieces are"
            " unknown: use a model of one of these kinds"
        )

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text; see `Tokenizer.encode`."""
        ids: list[int] = self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return ids

    def piece(self, token: int) -> bytes:
        """Return the bytes a token adds to the text; see `Tokenizer.piece`."""
        self._check(token)
        if token in self._control:
            return b""
        if token in self._literal:
            return self._literal[token].encode("utf-8")
        piece = self._pieces[token]
        if self._byte_level:
            # A piece with a letter outside the alphabet was put in as it is.
            if all(letter in self._letters for letter in piece):
                return bytes(self._letters[letter] for letter in piece)
            return piece.encode("utf-8")
        if match := _BYTE_PIECE.match(piece):
            return bytes([int(match[1], 16)])
        return piece.replace(_WORD_SPACE, " ").encode("utf-8")

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids; see `Tokenizer.decode`."""
        for token in ids:
            self._check(token)
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    def pieces(self) -> list[str]:
        """Return the vocabulary's own strings in id order; see `Tokenizer.pieces`."""
        return list(self._pieces)

    def _check(self, token: int) -> None:
        if not 0 <= token < self.vocabulary_size:
            raise ModelError(f"token id {token} is outside the vocabulary of {self.vocabulary_size} tokens")
