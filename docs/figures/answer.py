"""Makes answer.svg, the coloured answer in the README, from what the real command prints: `python docs/figures/answer.py`."""

from __future__ import annotations

import io
import re
import shlex
import subprocess
from pathlib import Path

from rich.console import Console
from rich.text import Text

PROMPT = "Why do leaves change colour in autumn?"
COMMAND = ["uihlm-device", "chat", "--policy", "u", "--max-tokens", "64", PROMPT]
WIDTH = 96


def main() -> None:
    """Run the command as on a terminal that shows colours, and keep what it showed."""
    shown = subprocess.run(
        [*COMMAND, "--color", "always"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True
    ).stdout
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Text(f"$ {shlex.join(COMMAND)}", style="bold"))
    console.print(Text.from_ansi(shown))
    picture = console.export_svg(title="every token in the look of who wrote it")
    # A picture that fetches nothing: the reader's own monospace does.
    picture = re.sub(r"@font-face \{.*?\}", "", picture, flags=re.DOTALL)
    Path(__file__).with_suffix(".svg").write_text(re.sub(r"[ \t]+\n", "\n", picture), encoding="utf-8")


if __name__ == "__main__":
    main()
