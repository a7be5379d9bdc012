"""The tokenizer inside a GGUF."""

import pytest

from uihlm_models import bundled
from uihlm_models.errors import ModelError
from uihlm_models.llama.tokenizer import LlamaTokenizer
from uihlm_proto.fingerprint import fingerprint

pytestmark = pytest.mark.slow

TEXT = "Grüße, 世界! 🦙 x"


@pytest.fixture(scope="module")
def tokenizer():
    return LlamaTokenizer.from_file(bundled.llm_path())


def test_text_survives_the_round_trip(tokenizer):
    ids = tokenizer.encode(TEXT)
    assert tokenizer.decode(ids) == TEXT
    assert b"".join(tokenizer.piece(i) for i in ids).decode() == TEXT
    assert tokenizer.encode("") == []


def test_special_pieces_become_ids_and_nothing_is_added(tokenizer):
    pieces = tokenizer.pieces()
    assert [pieces[i] for i in tokenizer.encode("<|im_start|>user\nHi<|im_end|>")] == [
        "<|im_start|>",
        "user",
        "Ċ",
        "Hi",
        "<|im_end|>",
    ]


def test_control_tokens_add_no_text(tokenizer):
    (stop,) = tokenizer.encode("<|im_end|>")
    assert stop in tokenizer.stop_ids
    assert tokenizer.piece(stop) == b""
    assert tokenizer.decode([stop]) == ""


def test_unknown_id_is_refused(tokenizer):
    with pytest.raises(ModelError, match="49152"):
        tokenizer.piece(49152)
    with pytest.raises(ModelError, match="49152"):
        tokenizer.decode([-1])


def test_fingerprint_equals_that_of_the_hugging_face_load(tokenizer):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("gguf")
    path = bundled.llm_path()
    other = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    ids = range(tokenizer.vocabulary_size)
    pieces = [
        piece if piece is not None else f"[PAD{i}]"
        for i, piece in zip(ids, other.convert_ids_to_tokens(ids), strict=True)
    ]
    assert fingerprint(pieces) == fingerprint(tokenizer.pieces())
    assert tokenizer.encode(TEXT) == other.encode(TEXT, add_special_tokens=False)
