"""`--codec` takes a name with parameters, writes it out in full, and refuses others with what is allowed."""

import click
import pytest

from uihlm_cli.options.settings import run_config
from uihlm_cli.runs.evaluate import command
from uihlm_evaluation.runs.configuration import DEFAULT_POLICIES, RunConfig


def config(*arguments):
    return run_config(command.make_context("eval", list(arguments)).params, DEFAULT_POLICIES)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("coupled", "coupled"),
        ("lattice", "lattice:k=16,l=128"),
        ("lattice:l=64", "lattice:k=16,l=64"),
        ("lattice:alpha=.1,tv=0.050", "lattice:tv=0.05,alpha=0.1"),
    ],
)
def test_the_settings_hold_the_name_written_out_in_full(given, kept):
    assert config("--codec", given).codec == kept


def test_two_ways_to_write_one_codec_are_one_run():
    assert config("--codec", "lattice").digest() == config("--codec", "lattice:l=128,k=16").digest()
    assert config("--codec", "lattice").digest() != config("--codec", "lattice:k=8").digest()


def test_a_settings_file_may_name_the_codec(tmp_path):
    (tmp_path / "run.toml").write_text('codec = "lattice:k=4"\n')
    assert config("--config", str(tmp_path / "run.toml")).codec == "lattice:k=4,l=128"
    assert config().codec == RunConfig().codec


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("morse", "unknown codec 'morse': this end knows coupled, dense16, dense32, lattice"),
        ("", "unknown codec ''"),
        ("dense32:k=4", "codec dense32 takes no parameters"),
        ("lattice:k=1000", "K = 1000, ℓ = 128 is no lattice codec: `lattice` takes k=1…128"),
        ("lattice:alpha=0.1", "no set of parameters"),
    ],
)
def test_what_is_no_codec_is_a_usage_error_that_names_the_flag(name, sentence):
    with pytest.raises(click.UsageError) as raised:
        config("--codec", name)
    assert raised.value.exit_code == 2
    assert "'--codec'" in raised.value.format_message() and sentence in raised.value.format_message()
