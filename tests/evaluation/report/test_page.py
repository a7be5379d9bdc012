"""The page of a run: whole in one file, escaped, and alive in a real browser."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from saved_run import WORDS, write_run
from uihlm_evaluation.report.folder import RunFolder
from uihlm_evaluation.report.page import page
from uihlm_evaluation.report.texts import Texts
from uihlm_evaluation.runs.rows import Row

EVIL = "<script>window.hacked = 1</script><img src=x onerror=alert(1)> & \"quotes\" 'too' </textarea>"
PIECES = {100 + place: word.encode() for place, word in enumerate(WORDS)}
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# Set by CI: there a missing browser is a failure.
REQUIRED = "UIHLM_REQUIRE_CHROMIUM"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    rows = [Row.of("llm"), Row.of("slm"), Row.of("hlm"), Row.of("u"), Row("ui k=3 γ=1 <b>", "ui")]
    return RunFolder.read(write_run(tmp_path_factory.mktemp("run"), rows, text=EVIL, reference=EVIL))


@pytest.fixture(scope="module")
def html(folder):
    return page(folder, Texts(PIECES, {0: EVIL, 1: "Why?\nSay.", 2: ""}, ("Something is missing: <i>why</i>.",)))


def test_page_fetches_nothing(html):
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!#|data:)[^"']*""", html)
    assert "@import" not in html
    assert not re.findall(r"url\((?!#)", html)
    assert "default-src 'none'" in html


def test_text_of_the_run_is_escaped(html):
    assert "hacked" not in html, "prompts and answers are packed, never written into the page"
    assert "γ=1 <b>" not in html
    assert "γ=1 &lt;b&gt;" in html
    assert "small &lt;one&gt;" in html
    assert "&lt;i&gt;why&lt;/i&gt;" in html


def test_sections_say_what_was_run(html):
    for words in ("d" * 64, "a" * 64, "c" * 40, "encoder_L5", "numpy 2.0", "3 of mine.json", ">7 (of every token"):
        assert words in html, words


def test_paper_row_stands_under_ours_of_the_same_knobs(html):
    rows = re.findall(r'<tr( class="paper")?><th scope="row">([^<]*)</th>', html)
    labels = [(bool(kind), label) for kind, label in rows]
    assert labels[labels.index((False, "hlm")) + 1] == (True, "paper: hlm")
    assert labels[labels.index((False, "u")) + 1] == (True, "paper: u")
    assert (True, "paper: llm") not in labels
    paper_u = html.split("paper: u</th>")[1].split("</tr>")[0]
    assert {"0.858", "42.1", "54.6", "31.6", "0.36"} <= set(re.findall(r"<td>([^<]+)", paper_u))


def test_what_cannot_be_answered_says_what_to_add(html):
    assert "not answered" in html
    assert "--policy random" in html


def test_figures_without_data_say_why(html):
    assert html.count("<svg") >= 1
    assert "Not in this run" in html
    assert "attention" in html.split("Not in this run")[1].split("</ul>")[0]


def browser() -> str:
    """Return a Chromium; skip without one, fail where one is required."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        problem = f"no Chromium on this machine ({', '.join(BROWSERS)}): apt-get install chromium"
        if os.environ.get(REQUIRED):
            pytest.fail(problem)
        pytest.skip(problem)
    return found


def opened(html: str, tmp_path: Path) -> str:
    """Return the document as Chromium has it once the page's script has run."""
    file = tmp_path / "report.html"
    file.write_text(html, encoding="utf-8")
    command = [
        browser(), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
        f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", "--virtual-time-budget=10000",
        "--dump-dom", file.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return "\n".join([done.stdout, *console])


def shown(document: str) -> list[tuple[str, str]]:
    """Return (origin, text) of the tokens in the reader."""
    return re.findall(r'<span class="token (\w+)[^"]*" data-k="\d+"[^>]*>([^<]*)</span>', document)


def detail(document: str, name: str) -> str:
    return re.search(rf'<dd id="reader-{name}">([^<]*)</dd>', document)[1]


@pytest.mark.slow
def test_reader_shows_every_token_in_chromium(html, tmp_path):
    document = opened(html, tmp_path)
    assert "CONSOLE" not in document, "no error, and nothing that the page's policy had to stop"
    assert 'data-state="ready"' in document
    origins = ["local", "accepted", "local", "resampled", "local"]
    assert shown(document) == list(zip(origins, WORDS, strict=True))
    assert detail(document, "token") == "“The” (id 100)"
    assert detail(document, "origin").startswith("local")
    assert (detail(document, "x"), detail(document, "u"), detail(document, "y")) == ("0.8000", "0.0000", "–")
    assert detail(document, "seconds").startswith("0.1 device")
    asked = document.split('id="reader-asked"')[1].split("</p>")[0]
    assert "&lt;script&gt;window.hacked" in asked
    assert "5 tokens" in document


@pytest.mark.slow
def test_half_characters_wait_for_the_other_half(folder, tmp_path):
    pieces = {**PIECES, 101: "é".encode()[:1], 102: "é".encode()[1:], 104: b""}
    tokens = [text for _, text in shown(opened(page(folder, Texts(pieces, {}, ())), tmp_path))]
    assert tokens == ["The", "◌", "é", " blue", "⟨end⟩"]


@pytest.mark.slow
def test_without_a_tokenizer_ids_and_the_answer_are_shown(folder, tmp_path):
    document = opened(page(folder, Texts(None, {}, ("Tokens are shown by their ids: no tokenizer.",))), tmp_path)
    assert [text for _, text in shown(document)] == [" 100", " 101", " 102", " 103", " 104"]
    assert "Tokens are shown by their ids" in document
    assert "&lt;script&gt;window.hacked" in document.split('id="reader-answer"')[1].split("</p>")[0]


@pytest.mark.slow
def test_script_error_is_seen(html, tmp_path):
    start = html.index('id="reader-data">') + len('id="reader-data">')
    document = opened(html[:start] + "AAAA" + html[start + 4 :], tmp_path)
    assert 'data-state="failed"' in document
    assert "The reader failed" in document


@pytest.mark.slow
def test_other_script_than_the_pages_own_is_stopped(html, tmp_path):
    document = opened(html.replace("<main>", "<main><script>document.title = 'hacked'</script>"), tmp_path)
    assert "<title>hacked" not in document
    assert "CONSOLE" in document
