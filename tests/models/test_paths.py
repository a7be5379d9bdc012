"""Paths as people write them, and what a cache of several users holds."""

import os
import stat
from pathlib import Path

import pytest

from uihlm_models.errors import ModelError
from uihlm_models.paths import expanded, open_to_readers
from uihlm_models.presets import Role
from uihlm_models.sources import resolve


def test_a_home_that_nobody_has_is_no_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expanded("~/m.gguf") == tmp_path / "m.gguf"
    assert expanded("~nosuchuser/m.gguf") == Path("~nosuchuser/m.gguf")
    with pytest.raises(ModelError, match="no model '~nosuchuser"):
        resolve("~nosuchuser/m.gguf", Role.DRAFTER)


@pytest.mark.skipif(os.name != "posix", reason="rights of POSIX")
@pytest.mark.parametrize(("mask", "rights"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_file_has_the_rights_of_any_new_one(tmp_path, mask, rights):
    path = tmp_path / "weights.gguf"
    path.touch(0o600)
    before = os.umask(mask)
    try:
        open_to_readers(path)
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == rights
