"""What --model takes, and what is said when there is nothing of that name."""

import hashlib
import os

import pytest

from uihlm_models.errors import ModelError
from uihlm_models.presets import HUB_PRESETS, HubModel, Role
from uihlm_models.sources import Kind, ModelSource, file_sha256, resolve


def test_gguf_path_is_taken_as_it_is(tmp_path):
    path = tmp_path / "a.gguf"
    path.write_bytes(b"GGUF and more")
    source = resolve(str(path), Role.TARGET)
    assert (source.kind, source.path, source.label, source.commit) == (Kind.GGUF, path, "a.gguf", None)
    assert file_sha256(source) == hashlib.sha256(b"GGUF and more").hexdigest()


def test_file_of_another_format_is_refused(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"PK\x03\x04")
    with pytest.raises(ModelError, match="not a GGUF"):
        resolve(str(path), Role.TARGET)


def test_local_folder_needs_a_config(tmp_path):
    with pytest.raises(ModelError, match=r"config\.json"):
        resolve(str(tmp_path), Role.TARGET)
    (tmp_path / "config.json").write_text("{}")
    assert resolve(str(tmp_path), Role.TARGET).kind is Kind.TORCH


def test_weights_are_read_once_for_their_digest_and_again_once_they_changed(tmp_path, monkeypatch):
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF one")
    source = ModelSource(Kind.GGUF, path, "model")
    read, digest = [], hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda file, name: read.append(name) or digest(file, name))
    first = file_sha256(source)
    assert file_sha256(source) == first and len(read) == 1
    path.write_bytes(b"GGUF two")
    os.utime(path, ns=(1, 1))
    assert file_sha256(source) == hashlib.sha256(b"GGUF two").hexdigest() != first and len(read) == 2


def test_folder_digest_depends_on_every_weight_file(tmp_path):
    source = ModelSource(Kind.TORCH, tmp_path, "folder")
    (tmp_path / "model-1.safetensors").write_bytes(b"one")
    (tmp_path / "model-2.safetensors").write_bytes(b"two")
    before = file_sha256(source)
    (tmp_path / "model-2.safetensors").write_bytes(b"2")
    assert file_sha256(source) != before


@pytest.mark.parametrize("model", ["nope", "./missing.gguf", "folder/missing.gguf", "/no/such/folder", "a/b/c"])
def test_name_that_can_be_nothing_is_refused_without_asking_the_hub(model, monkeypatch):
    monkeypatch.setattr("uihlm_models.sources._from_hub", lambda model: pytest.fail(f"asked the hub for {model}"))
    with pytest.raises(ModelError, match="bundled, paper"):
        resolve(model, Role.TARGET)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("owner/name", HubModel("owner/name")),
        ("owner/name@abc123", HubModel("owner/name", None, "abc123")),
        ("owner/name/sub/x.Q4.gguf@v1", HubModel("owner/name", "sub/x.Q4.gguf", "v1")),
        ("paper", HUB_PRESETS["paper"][Role.TARGET]),
    ],
)
def test_hub_names_are_read_with_file_and_revision(model, expected, monkeypatch):
    asked = []
    monkeypatch.setattr("uihlm_models.sources._from_hub", asked.append)
    resolve(model, Role.TARGET)
    assert asked == [expected]


def test_commit_of_a_download_is_recorded(monkeypatch, tmp_path):
    path = tmp_path / "models--o--n" / "snapshots" / "0123abc" / "x.gguf"
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_, **__: str(path))
    source = resolve("o/n/x.gguf", Role.DRAFTER)
    assert (source.repository, source.revision, source.commit) == ("o/n", "main", "0123abc")


@pytest.mark.parametrize("model", ["owner/name", "paper"])
def test_without_a_connection_the_error_says_what_to_put_where(model, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError) as caught:
        resolve(model, Role.TARGET)
    message = str(caught.value)
    assert "https://huggingface.co/" in message
    assert "--model" in message


def test_repository_without_safetensors_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(tmp_path))
    with pytest.raises(ModelError, match=r"FILE\.gguf"):
        resolve("owner/name", Role.TARGET)
