"""The bundled pair: one vocabulary, four blocks apart, written once and checked ever after."""

import hashlib
import logging

import pytest

from uihlm_models import bundled
from uihlm_models.errors import ModelError
from uihlm_models.llama.runtime import LlamaRuntime, RuntimeSettings
from uihlm_models.llama.tokenizer import LlamaTokenizer
from uihlm_proto.fingerprint import fingerprint


def test_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setattr(bundled, "PACKAGE", "no_such_package_here")
    with pytest.raises(ModelError, match=r"uihlm\[demo\]"):
        bundled.llm_path()


def test_cache_dir_prefers_its_own_variable_then_xdg_then_home(monkeypatch, tmp_path):
    monkeypatch.setenv("UIHLM_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert bundled.cache_dir() == tmp_path / "own"
    monkeypatch.delenv("UIHLM_CACHE")
    assert bundled.cache_dir() == tmp_path / "xdg" / "uihlm"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert bundled.cache_dir() == tmp_path / ".cache" / "uihlm"


@pytest.mark.slow
def test_slm_has_26_blocks_and_the_llms_vocabulary():
    slm, llm = bundled.slm_path(), bundled.llm_path()
    with LlamaRuntime(slm, RuntimeSettings(n_ctx=256)) as runtime:
        assert runtime.n_layer == 26
    small, large = LlamaTokenizer.from_file(slm), LlamaTokenizer.from_file(llm)
    assert fingerprint(small.pieces()) == fingerprint(large.pieces())
    assert small.chat_template == large.chat_template is not None
    assert small.stop_ids == large.stop_ids


@pytest.mark.slow
def test_only_the_middle_blocks_are_left_out():
    gguf = pytest.importorskip("gguf")
    small = {t.name: t for t in gguf.GGUFReader(bundled.slm_path()).tensors}
    large = {t.name: t for t in gguf.GGUFReader(bundled.llm_path()).tensors}
    for block, original in ((0, 0), (13, 13), (14, 18), (25, 29)):
        name = "blk.{}.attn_q.weight"
        assert (small[name.format(block)].data == large[name.format(original)].data).all()
        assert small[name.format(block)].tensor_type == large[name.format(original)].tensor_type
    assert "blk.26.attn_q.weight" not in small
    assert (small["token_embd.weight"].data == large["token_embd.weight"].data).all()
    assert len(large) - len(small) == 4 * 9


@pytest.mark.slow
def test_corrupt_cache_file_is_written_again_with_a_warning(monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("UIHLM_CACHE", str(tmp_path))
    path = bundled.slm_path()
    intact = hashlib.sha256(path.read_bytes()).hexdigest()
    with path.open("r+b") as file:
        file.seek(1_000_000)
        file.write(b"\x00damage\x00")
    with caplog.at_level(logging.WARNING):
        assert bundled.slm_path() == path
    assert "checksum" in caplog.text
    assert hashlib.sha256(path.read_bytes()).hexdigest() == intact
    caplog.clear()
    assert bundled.slm_path() == path
    assert not caplog.records
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".gguf", ".sha256"]


@pytest.mark.slow
def test_a_failed_write_leaves_nothing_behind(monkeypatch, tmp_path):
    monkeypatch.setenv("UIHLM_CACHE", str(tmp_path))

    def fail(*_):
        raise OSError("no space left")

    monkeypatch.setattr(bundled, "write_without_blocks", fail)
    with pytest.raises(ModelError, match="no space left"):
        bundled.slm_path()
    assert list(tmp_path.iterdir()) == []
