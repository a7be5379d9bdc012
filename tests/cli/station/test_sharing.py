"""How one base station is shared, as the command line says it."""

import click
import pytest
from click.testing import CliRunner

from uihlm_basestation.serving import DEFAULTS, Serving
from uihlm_cli.station.sharing import Size, serving, sharing_options


@pytest.mark.parametrize(
    ("text", "size"),
    [("1048576", 2**20), ("512MiB", 512 * 2**20), ("2 GB", 2 * 10**9), ("1.5kib", 1536), ("7b", 7), ("0.5MB", 500_000)],
)
def test_sizes_have_units(text, size):
    assert Size().convert(text, None, None) == size


@pytest.mark.parametrize("text", ["", "much", "12 parsecs", "-1", "1..5MB", "MiB"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(click.BadParameter, match="512MiB"):
        Size().convert(text, None, None)


def invoked(*arguments):
    seen = {}

    @click.command()
    @sharing_options
    def command(**values):
        seen.update(values)

    return CliRunner().invoke(command, list(arguments)), seen


def read(*arguments):
    result, seen = invoked(*arguments)
    assert result.exit_code == 0, result.output
    return seen


def test_without_flags_nothing_changes():
    values = read()
    assert serving(values) == DEFAULTS
    assert (values["max_sessions"], values["max_context"], values["kv_memory"]) == (16, 2048, None)


def test_flags_reach_batcher_and_servicer():
    values = read("--prefill-chunk", "256", "--idle-timeout", "90", "--kv-memory", "1GiB")
    assert serving(values) == Serving(chunk=256, idle_s=90.0)
    assert values["kv_memory"] == 2**30


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_seconds_that_are_no_number_are_a_usage_error(value):
    result, seen = invoked("--idle-timeout", value)
    assert (result.exit_code, seen) == (2, {})
    assert "must be a finite number" in result.output
