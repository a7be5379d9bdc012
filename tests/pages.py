"""The pages of the documentation: their code blocks, the commands in them, the packages they show."""

from __future__ import annotations

import re
import shlex
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
_SET = re.compile(r"([A-Z_][A-Z0-9_]*)=(.*)", re.DOTALL)
# In prose: a command in backticks, unless an ellipsis says that it is not whole.
_INLINE = re.compile(r"`((?:(?:uihlm-device|uihlm-bs|python -m)\s|python docs/)[^`]+)`")
_CUT_SHORT = re.compile(r"…|\.\.\.")
_SHELLS = ("sh", "bash", "console")


@dataclass(frozen=True)
class Block:
    """A fenced block; `line` is that of its first line of text, from 1."""

    language: str
    text: str
    line: int


@dataclass(frozen=True)
class Command:
    """One simple command of a page, its redirections left out."""

    page: str
    line: int
    words: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()
    fenced: bool = True

    def __str__(self) -> str:
        return f"{self.page}:{self.line} {shlex.join(self.words)}"

    @property
    def program(self) -> str:
        return self.words[0]


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [Block(m[1], m[2], text.count("\n", 0, m.start(2)) + 1) for m in _BLOCK.finditer(text)]


def prose(page: Path) -> str:
    """The page with every fenced block blanked, line by line."""
    return _BLOCK.sub(lambda m: "\n" * m[0].count("\n"), page.read_text(encoding="utf-8"))


def commands(page: Path) -> list[Command]:
    """Every command of the page's shell blocks, then those in its prose."""
    found = [
        command
        for block in blocks(page)
        if block.language in _SHELLS
        for line, text in _lines(block)
        for command in _simple(text, page.name, line, fenced=True)
    ]
    text = prose(page)
    for match in _INLINE.finditer(text):
        if not _CUT_SHORT.search(match[1]):
            line = text.count("\n", 0, match.start()) + 1
            found += _simple(" ".join(match[1].split()), page.name, line, fenced=False)
    return found


def _lines(block: Block) -> list[tuple[int, str]]:
    """The block's command lines with their numbers; of `console`, what follows a `$`."""
    found: list[tuple[int, str]] = []
    kept: list[str] = []
    first, until = 0, None
    for number, line in enumerate(block.text.splitlines(), block.line):
        if until is not None:
            until = None if line.strip() == until else until
            continue
        if block.language == "console" and not kept and not line.startswith("$ "):
            continue
        first = first if kept else number
        kept.append(line.removeprefix("$ ").removesuffix("\\"))
        if not line.endswith("\\"):
            whole = " ".join(kept)
            document = re.search(r"<<-?\s*['\"]?(\w+)", whole)
            until = document[1] if document else None
            found.append((first, whole))
            kept = []
    return found


def _simple(text: str, page: str, line: int, fenced: bool) -> list[Command]:
    lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    parts: list[list[str]] = [[]]
    dropped = False
    for word in lexer:
        if dropped:
            dropped = False
        elif word[0] in "<>" or word in ("&>", "&>>"):
            dropped = True
            if parts[-1] and parts[-1][-1] in ("1", "2"):
                parts[-1].pop()
        elif set(word) <= set(";&|()"):
            parts.append([])
        else:
            parts[-1].append(word)
    found = []
    for words in filter(None, parts):
        settings = []
        while words and (match := _SET.fullmatch(words[0])):
            settings.append((match[1], match[2]))
            del words[0]
        if words:
            found.append(Command(page, line, tuple(words), tuple(settings), fenced))
    return found


def write_named_modules(page: Path, folder: Path) -> None:
    """Write the Python files that commands of the page name, as in `score margin.py:margin`."""
    for command in commands(page):
        for word in command.words if command.fenced else ():
            if match := re.fullmatch(r"(\w+)\.py:(\w+)", word):
                write_module(page, folder, match[1], match[2])


def write_module(page: Path, folder: Path, module: str, attribute: str) -> None:
    """Write the first Python block of the page that defines something of that name."""
    defined = re.compile(rf"^(def|class) {attribute}\b", re.MULTILINE)
    (source, *_) = [block.text for block in blocks(page) if block.language == "python" and defined.search(block.text)]
    (folder / f"{module}.py").write_text(source, encoding="utf-8")


def install_package(page: Path, folder: Path) -> bool:
    """Write what the page shows as a package, module and entry points, into a folder for sys.path; False if it shows none."""
    announced = [block for block in blocks(page) if block.language == "toml" and "entry-points" in block.text]
    for block in announced:
        groups = tomllib.loads(block.text)["project"]["entry-points"]
        lines = []
        for group, points in groups.items():
            lines.append(f"[{group}]")
            for name, target in points.items():
                lines.append(f"{name} = {target}")
                module, _, attribute = target.partition(":")
                write_module(page, folder, module, attribute)
        about = folder / f"{page.stem.replace('-', '_')}-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {page.stem}\nVersion: 1.0\n", encoding="utf-8")
        (about / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return bool(announced)
