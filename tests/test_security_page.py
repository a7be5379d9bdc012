"""SECURITY.md names a test for every bound; each of them is there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
NAMED = re.compile(r"`((?:tests/)?[\w/]*test_\w+\.py)(?:::(test_\w+))?`")


def test_every_test_that_the_page_names_is_there():
    page = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    named = NAMED.findall(page)
    assert len(named) > 20
    files = {path.name: path for path in (ROOT / "tests").rglob("test_*.py")}
    for file, test in named:
        path = ROOT / file if file.startswith("tests/") else files[file]
        assert path.is_file(), file
        assert f"def {test}(" in path.read_text(encoding="utf-8") if test else True, f"{file}::{test}"


def test_the_limits_on_the_page_are_those_of_the_command():
    from uihlm_basestation.trust.guard import FIRST_MESSAGE_S
    from uihlm_basestation.trust.limits import SERVED

    page = " ".join((ROOT / "SECURITY.md").read_text(encoding="utf-8").split())
    session = f"{SERVED.session_messages_s:,} messages/s and {SERVED.session_bytes_s // 2**20} MiB/s a session"
    peer = f"{SERVED.peer_messages_s:,} messages/s, {SERVED.peer_bytes_s // 2**20} MiB/s"
    assert f"{session}; {peer} and {SERVED.peer_sessions} open sessions a peer" in page
    assert f"{FIRST_MESSAGE_S:g} s for the first message" in page
