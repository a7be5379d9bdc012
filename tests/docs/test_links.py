"""Every link of the documentation into this repository leads to a file that is there, and to a heading in it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from pages import PAGES, ROOT, prose

_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)|<(?:img|source|a)\b[^>]*?\b(?:src|srcset|href)=\"([^\"]+)\"")
_HEADING = re.compile(r"^#+ (.*?)\s*$", re.MULTILINE)


def links(text: str) -> list[str]:
    """Targets of links and pictures, those to other sites left out."""
    found = [markdown or html for markdown, html in _LINK.findall(text)]
    return [target for target in found if not re.match(r"[a-z]+:", target)]


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to the headings of a page."""
    names: set[str] = set()
    for heading in _HEADING.findall(prose(page)):
        plain = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        name = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        number = sum(re.fullmatch(rf"{re.escape(name)}(-\d+)?", other) is not None for other in names)
        names.add(f"{name}-{number}" if number else name)
    return names


def broken(page: Path, target: str) -> str | None:
    """What is wrong with a link of a page; None if nothing is."""
    file, _, anchor = target.partition("#")
    path = (page.parent / file).resolve() if file else page
    if not path.exists():
        return f"{target}: there is no {path}"
    if ROOT not in path.parents and path != ROOT and ROOT in page.parents:
        return f"{target} leads out of the repository"
    if anchor and path.suffix == ".md" and anchor not in anchors(path):
        return f"{target}: {path.name} has no heading of that name"
    return None


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda page: page.name)
def test_every_link_of_the_page_leads_somewhere(page):
    failures = [failure for target in links(prose(page)) if (failure := broken(page, target))]
    assert not failures, "\n".join(failures)


def test_every_page_and_figure_is_led_to():
    told = {
        (page.parent / target.partition("#")[0]).resolve() for page in PAGES for target in links(prose(page)) if target
    }
    listed = subprocess.run(["git", "ls-files", "docs"], cwd=ROOT, capture_output=True, text=True, check=False)
    for name in listed.stdout.splitlines():
        if name.endswith((".md", ".svg", ".png")):
            assert ROOT / name in told, f"no page leads to {name}"


def test_a_link_to_nothing_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A `b`, c\n## Twice\n## Twice\n[x](other.md) [y](#a-b-c) ![z](#twice-1) [w](#d) <a href='v'>\n")
    assert anchors(page) == {"a-b-c", "twice", "twice-1"}
    assert links(page.read_text()) == ["other.md", "#a-b-c", "#twice-1", "#d"]
    assert [broken(page, target) is None for target in links(page.read_text())] == [False, True, True, False]
