"""`--dtype measured` and `--llm-dtype`: the choice is made once, said, and part of the run's settings."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from uihlm_basestation.engines import fastest as engines
from uihlm_basestation.engines.fastest import Choice
from uihlm_cli.device import main
from uihlm_cli.options import weights
from uihlm_cli.options.weights import llm_dtype
from uihlm_evaluation.runs.configuration import RunConfig
from uihlm_models import sources
from uihlm_models.sources import Kind, ModelSource

VALUES = {"backend": None, "threads": 3}


@pytest.fixture
def asked(monkeypatch):
    """Measurements that were asked for; each chooses float16."""
    found = []

    def fastest(source, settings, say):
        found.append((source.label, settings.threads))
        return Choice("float16", {"auto": {1: 0.002}, "float16": {1: 0.001}}, remembered=False)

    monkeypatch.setattr(engines, "fastest", fastest)
    monkeypatch.setattr(sources, "resolve", lambda name, role: ModelSource(Kind.GGUF, Path(name), name))
    return found


def test_nothing_is_measured_unless_asked(asked):
    assert llm_dtype(VALUES, "bundled") is None
    assert llm_dtype(VALUES | {"llm_dtype": "q8_0"}, "bundled") == "q8_0"
    assert asked == []


def test_a_measured_type_enters_the_settings_by_its_name(asked, capsys):
    assert llm_dtype(VALUES | {"llm_dtype": weights.MEASURED}, "some.gguf") == "float16"
    assert asked == [("some.gguf", 3)]
    assert "note: weights run as float16, measured now" in capsys.readouterr().err


def test_a_named_server_has_weights_of_its_own(asked):
    with pytest.raises(click.UsageError, match="--llm-dtype is of a local base station's LLM"):
        llm_dtype(VALUES | {"llm_dtype": "float16"}, None)
    result = CliRunner().invoke(main, ["eval", "--server", "h:1", "--llm-dtype", "float16", "--dry-run"])
    assert (result.exit_code, result.stdout) == (2, "")


def test_a_run_in_another_type_is_another_run():
    plain, other = RunConfig(), RunConfig(llm_dtype="float16")
    assert "llm_dtype" not in plain.to_dict() and other.to_dict()["llm_dtype"] == "float16"
    assert plain.digest() != other.digest()
    assert RunConfig.from_dict(other.to_dict()) == other and RunConfig.from_dict(plain.to_dict()) == plain
