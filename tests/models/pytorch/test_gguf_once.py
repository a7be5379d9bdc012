"""A GGUF file is parsed once a load, and the library is itself again afterwards."""

import gguf
import pytest

from uihlm_models import bundled
from uihlm_models.pytorch.gguf_once import gguf_read_once

READER, NAMES = gguf.GGUFReader, gguf.get_tensor_name_map


def test_what_was_read_is_read_once_and_not_kept():
    path = str(bundled.slm_path())
    with gguf_read_once():
        first = gguf.GGUFReader(path)
        assert gguf.GGUFReader(path) is first
        assert gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 3) is gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 3)
        assert gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 2).get_name("blk.2.attn_q") is None
    assert gguf.GGUFReader is READER and gguf.get_tensor_name_map is NAMES
    with gguf_read_once():
        assert gguf.GGUFReader(path) is not first


def test_after_an_error_the_library_is_itself_again():
    with pytest.raises(ValueError, match="broken"), gguf_read_once():
        raise ValueError("broken")
    assert gguf.GGUFReader is READER and gguf.get_tensor_name_map is NAMES
