"""The tokenizer of a model that transformers loads."""

from __future__ import annotations

import pytest

from tiny_torch import TEMPLATE, VOCABULARY_SIZE, on_one_thread, write_tiny_llama
from uihlm_models.errors import ModelError
from uihlm_models.pytorch.runtime import AttentionKind, TorchSettings, WeightType, load_torch
from uihlm_models.pytorch.tokenizer import TorchTokenizer, byte_alphabet

EAGER = TorchSettings(WeightType.FLOAT32, AttentionKind.EAGER, device_map="cpu")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    yield from on_one_thread()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny_llama(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def tiny(folder):
    return load_torch(folder, EAGER)


def test_the_tokenizer_covers_the_models_vocabulary_byte_for_byte(tiny):
    tokenizer = tiny.tokenizer
    text = "naïve 日本 🎉\n\tx"
    ids = tokenizer.encode(text + "<|im_end|>")
    assert ids[-1] == 1 and b"".join(map(tokenizer.piece, ids)) == text.encode()
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode(ids[:3]) == "na\N{REPLACEMENT CHARACTER}"
    assert tokenizer.pieces()[258:] == [f"[PAD{i}]" for i in range(258, VOCABULARY_SIZE)]
    assert tokenizer.piece(260) == b"" and tokenizer.decode([260]) == ""
    assert tokenizer.chat_template == TEMPLATE
    assert (tokenizer.bos_text, tokenizer.eos_text) == ("<|endoftext|>", "<|im_end|>")
    # 1 and 7 by the model's configuration, 0 by its name.
    assert tokenizer.stop_ids == {0, 1, 7}
    with pytest.raises(ModelError, match="outside the vocabulary"):
        tokenizer.piece(VOCABULARY_SIZE)


def test_sentencepiece_pieces_become_spaces_and_bytes():
    from tokenizers import Tokenizer, decoders, models, normalizers
    from transformers import PreTrainedTokenizerFast

    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "h", "i", "▁h", "▁hi"]
    backend = Tokenizer(
        models.BPE(
            vocab={name: i for i, name in enumerate(names)},
            merges=[("▁", "h"), ("▁h", "i")],
            unk_token="<unk>",
            byte_fallback=True,
        )
    )
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    tokenizer = TorchTokenizer(fast, len(names))
    ids = tokenizer.encode("hi hi é")
    assert b"".join(map(tokenizer.piece, ids)) == " hi hi é".encode()
    assert tokenizer.decode(ids) == "hi hi é"
    assert tokenizer.pieces() == names
    assert tokenizer.stop_ids == {2} and tokenizer.piece(2) == b""


def test_the_byte_alphabet_is_the_one_of_the_tokenizers_library():
    from tokenizers import pre_tokenizers

    assert set(byte_alphabet()) == set(pre_tokenizers.ByteLevel.alphabet())
    assert sorted(byte_alphabet().values()) == list(range(256))
    assert byte_alphabet()["Ġ"] == ord(" ") and byte_alphabet()["Ċ"] == ord("\n")
