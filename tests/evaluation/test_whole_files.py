"""A file is written whole or left as it was."""

from pathlib import Path

import pytest

from uihlm_evaluation.whole_files import write_whole


def test_what_was_there_stays_until_the_new_one_is_whole(tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    write_whole(path, "one\n")
    honest = Path.write_text

    def full(self, text, *arguments, **named):
        honest(self, text[:2], *arguments, **named)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, "another\n")
    assert path.read_text() == "one\n"
    monkeypatch.undo()
    write_whole(path, "zwei\u00e4\n")
    assert path.read_bytes() == "zwei\u00e4\n".encode() and [p.name for p in tmp_path.iterdir()] == ["results.json"]
