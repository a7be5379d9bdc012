"""Loading a Torch model: what is missing, damaged or not to be trusted is refused with a sentence."""

from __future__ import annotations

import pytest

from tiny_torch import VOCABULARY_SIZE, on_one_thread, write_tiny_llama
from uihlm_models.errors import ModelError
from uihlm_models.pytorch.runtime import AttentionKind, TorchSettings, WeightType, load_torch

EAGER = TorchSettings(WeightType.FLOAT32, AttentionKind.EAGER, device_map="cpu")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    yield from on_one_thread()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny_llama(tmp_path_factory.mktemp("tiny"))


def test_missing_files_are_named(tmp_path, folder):
    with pytest.raises(ModelError, match=r"no model at .*absent"):
        load_torch(tmp_path / "absent", EAGER)
    with pytest.raises(ModelError, match=r"no model at .*absent\.gguf"):
        load_torch("absent.gguf", EAGER)
    with pytest.raises(ModelError, match=r"no config\.json: put config\.json"):
        load_torch(tmp_path, EAGER)
    with pytest.raises(ModelError, match=r"holds no weights\.gguf"):
        load_torch(folder, TorchSettings(gguf_file="weights.gguf"))
    (tmp_path / "broken.gguf").write_bytes(b"not a model")
    with pytest.raises(ModelError, match=r"cannot load broken\.gguf"):
        load_torch(tmp_path / "broken.gguf", EAGER)


def test_pickled_weights_are_refused(tmp_path):
    write_tiny_llama(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"no safetensors weights \(pickled weights such as pytorch_model\.bin"):
        load_torch(tmp_path, EAGER)


def test_damaged_weights_end_in_one_sentence(tmp_path):
    write_tiny_llama(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(ModelError, match=r"transformers cannot load .* or name another model"):
        load_torch(tmp_path, EAGER)


def test_code_of_a_repository_is_never_run(tmp_path):
    write_tiny_llama(tmp_path)
    marker = tmp_path / "was_run"
    (tmp_path / "modeling_evil.py").write_text(f"open({str(marker)!r}, 'w').close()\n")
    (tmp_path / "config.json").write_text('{"model_type": "evil", "auto_map": {"AutoConfig": "modeling_evil.Evil"}}')
    with pytest.raises(ModelError, match="transformers cannot load"):
        load_torch(tmp_path, EAGER)
    assert not marker.exists()


def test_offline_a_hub_id_says_what_to_download_and_where_to_put_it():
    with pytest.raises(ModelError, match=r"download its config\.json.*huggingface\.co/nobody/nothing.*give its path"):
        load_torch("nobody/nothing", TorchSettings(local_files_only=True))


def test_four_bits_are_refused_without_bitsandbytes(folder, monkeypatch):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "bitsandbytes" else find(name))
    with pytest.raises(ModelError, match="pip install bitsandbytes"):
        load_torch(folder, TorchSettings(load_in_4bit=True))


def test_a_recurrent_model_is_refused(tmp_path):
    from transformers import Lfm2Config, Lfm2ForCausalLM

    write_tiny_llama(tmp_path)
    config = Lfm2Config(
        vocab_size=VOCABULARY_SIZE, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, layer_types=["conv", "full_attention"],
    )  # fmt: skip
    Lfm2ForCausalLM(config).save_pretrained(str(tmp_path))
    with pytest.raises(ModelError, match="layers of type conv"):
        load_torch(tmp_path, EAGER)
