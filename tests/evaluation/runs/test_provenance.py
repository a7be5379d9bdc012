"""Provenance: enough to repeat a run, nothing that names a host or a path."""

import json
import platform
import shutil
import subprocess

import numpy as np
import pytest

from uihlm_evaluation.runs import provenance

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")


def git(folder, *arguments):
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


def test_versions_are_those_installed():
    found = provenance.collect("encoder_L5").to_json()
    assert found["packages"]["numpy"] == np.__version__
    assert platform.python_version() in found["python"]
    assert found["metric_hash"] == "encoder_L5"
    assert found["cpu"]
    assert found["cpu_count"] >= 1


def test_neither_host_nor_path_is_named():
    text = json.dumps(provenance.collect().to_json()).lower()
    assert str(provenance.Path(provenance.__file__).parents[2]).lower() not in text
    assert f'"{platform.node().lower()}"' not in text


@needs_git
def test_commit_is_that_of_the_checkout_that_tracks_the_file(tmp_path):
    source = tmp_path / "module.py"
    source.write_text("a = 1\n")
    git(tmp_path, "init", "-q")
    # A file that a repository merely surrounds, as one that holds a virtual environment does, has no commit.
    assert provenance._checkout(source) == (None, None)
    git(tmp_path, "add", "module.py")
    git(tmp_path, "commit", "-qm", "one")
    commit, dirty = provenance._checkout(source)
    assert len(commit) == 40
    assert dirty is False
    source.write_text("a = 2\n")
    assert provenance._checkout(source) == (commit, True)


def test_machine_without_git_has_no_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance._checkout(tmp_path / "module.py") == (None, None)
