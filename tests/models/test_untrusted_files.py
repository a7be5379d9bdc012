"""Weights, templates and saved arrays come from strangers: they are read as data, and nothing in them runs."""

import fnmatch
import io
import pickle

import numpy as np
import pytest

from uihlm_device.rules.predictor import Predictor, PredictorError
from uihlm_evaluation.calibration.trace import TraceError, load_trace
from uihlm_models import sources
from uihlm_models.chat_format import ChatFormat
from uihlm_models.errors import ModelError
from uihlm_models.presets import Role
from uihlm_models.pytorch import files as torch_files


class Exploit:
    """Makes a file when it is unpickled."""

    def __init__(self, marker):
        self._marker = str(marker)

    def __reduce__(self):
        return open, (self._marker, "w")


def test_the_exploit_works_on_whoever_unpickles_it(tmp_path):
    pickle.loads(pickle.dumps(Exploit(tmp_path / "ran"))).close()
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "model.pt", "consolidated.00.pth"]
)
def test_a_folder_of_pickled_weights_is_refused_with_a_sentence_and_never_unpickled(name, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / name).write_bytes(pickle.dumps(Exploit(tmp_path / "ran")))
    source = sources.resolve(str(tmp_path), Role.TARGET)
    with pytest.raises(
        ModelError, match=r"holds no safetensors weights \(pickled weights such as .* they can run code\)"
    ) as raised:
        torch_files.locate(str(source.path), None, None, local_files_only=True)
    assert name in str(raised.value) and "save_pretrained() on a machine that trusts the weights" in str(raised.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "name",
    ["modeling_evil.py", "pytorch_model.bin", "model.pt", "model.pth", "weights.pkl", "model.ckpt", "evil.so", "setup.py",
     "tokenizer.py", "model.msgpack", "tf_model.h5", "rust_model.ot", "run.sh"],
)  # fmt: skip
def test_nothing_that_can_run_is_fetched_from_the_hub(name):
    for patterns in (sources._TORCH_FILES, torch_files._HUB_FILES):
        assert not any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


class Templated:
    """A tokenizer whose template comes from a stranger."""

    vocabulary_size = 8
    bos_text = eos_text = ""
    stop_ids = frozenset()

    def __init__(self, chat_template):
        self.chat_template = chat_template

    def encode(self, text):
        return [0 for _ in text]

    def pieces(self):
        return []


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ raise_exception.__globals__['__builtins__']['open']('ran', 'w') }}",
        "{{ cycler.__init__.__globals__.os.system('touch ran') }}",
        "{{ strftime_now.__globals__.keys() }}",
        "{% for i in range(999999999) %}x{% endfor %}",
        "{{ 1 / 0 }}",
        "{{ messages.append(1) }}",
    ],
)
def test_a_template_can_reach_nothing_and_fails_with_a_sentence(template, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="the model's chat template refuses"):
        ChatFormat(Templated(template)).first_turn("hello")
    assert not (tmp_path / "ran").exists()


def test_saved_arrays_hold_no_pickles(tmp_path):
    file = io.BytesIO()
    payload = np.array([Exploit(tmp_path / "ran")], dtype=object)
    np.savez(file, header=payload, hidden=payload)
    path = tmp_path / "learned.npz"
    path.write_bytes(file.getvalue())
    with pytest.raises(PredictorError, match="holds no weights of a predictor"):
        Predictor.from_bytes(path.read_bytes(), path)
    with pytest.raises(TraceError, match="is not a trace"):
        load_trace(path)
    assert not (tmp_path / "ran").exists()
