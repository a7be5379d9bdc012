"""`uihlm-device report DIR`: where the page goes, and what is said when something is missing."""

import pytest
from click.testing import CliRunner

from saved_run import write_run
from uihlm_cli.device import main


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("runs") / "mine")


def report(*arguments):
    return CliRunner().invoke(main, ["report", *map(str, arguments)])


def test_page_is_written_into_the_run_and_named_on_stdout(run):
    result = report(run)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{run / 'report.html'}\n"
    assert (run / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_what_the_page_lacks_is_said_on_stderr_too(run, tmp_path):
    result = report(run, "--output", tmp_path / "new" / "page.html")
    assert (tmp_path / "new" / "page.html").is_file()
    # The made-up ids are another model's, and its prompts were never on this machine.
    assert "note: Tokens are shown by their ids" in result.stderr
    assert "note: Prompts are shown by their index only" in result.stderr


def test_folder_that_is_no_run_is_an_error(tmp_path):
    result = report(tmp_path)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "has no results.json" in result.stderr


def test_torn_page_never_stands_for_a_failed_report(run, tmp_path):
    broken = write_run(tmp_path / "broken")
    (broken / "scores.jsonl").write_text("{", encoding="utf-8")
    result = report(broken)
    assert result.exit_code == 1
    assert "scores.jsonl, line 1" in result.stderr
    assert not (broken / "report.html").exists()
