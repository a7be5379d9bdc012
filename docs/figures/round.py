"""Draws round.svg, the picture of one round in docs/how-it-works.md: `python docs/figures/round.py`."""

from __future__ import annotations

import html
from pathlib import Path

WIDTH, HEIGHT = 940, 560
LEFT, RIGHT, BOX = 40, 595, 315
LINE = 19

# Panel, text, faint text, line, and one colour each for what stays, what is asked and what the LLM says.
STYLE = """
  .panel { fill: #ffffff } .box { fill: #f3f5f8; stroke: #8793a3 } text { fill: #1d2430; font: 14px system-ui, sans-serif }
  .head { font-weight: 700; font-size: 15px } .faint { fill: #566173 } .line { stroke: #566173; fill: none }
  .tip { fill: #566173 } .skip { stroke: #566173; stroke-dasharray: 5 4 } .ask { stroke: #a85d00 } .say { stroke: #00703c }
  .asktip { fill: #a85d00 } .saytip { fill: #00703c }
  @media (prefers-color-scheme: dark) {
    .panel { fill: #12161d } .box { fill: #1c222c; stroke: #6f7c8e } text { fill: #e6eaf0 } .faint { fill: #a5b0c0 }
    .line { stroke: #a5b0c0 } .tip { fill: #a5b0c0 } .skip { stroke: #a5b0c0 }
    .ask { stroke: #f0a340 } .asktip { fill: #f0a340 } .say { stroke: #4cc38a } .saytip { fill: #4cc38a }
  }
"""


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    """One line of text; its baseline is at y."""
    return f'<text x="{x}" y="{y}" class="{kind}" text-anchor="{anchor}">{html.escape(words)}</text>'


def box(x: float, y: float, lines: list[str]) -> str:
    """A box whose first line is its head."""
    height = LINE * len(lines) + 14
    parts = [f'<rect x="{x}" y="{y}" width="{BOX}" height="{height}" rx="7" class="box"/>']
    parts += [text(x + 12, y + 22 + LINE * i, line, "" if i else "head") for i, line in enumerate(lines)]
    return "".join(parts)


def arrow(points: list[tuple[float, float]], kind: str = "line") -> str:
    """A line with a tip at its end."""
    path = " ".join(f"{'L' if i else 'M'}{x},{y}" for i, (x, y) in enumerate(points))
    tip = {"ask": "asktip", "say": "saytip"}.get(kind, "tip")
    return f'<path d="{path}" class="line {kind}" stroke-width="2" marker-end="url(#{tip})"/>'


def marker(name: str) -> str:
    """The tip of an arrow."""
    return (
        f'<marker id="{name}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0,0 L10,5 L0,10 z" class="{name}"/></marker>'
    )


def drawing() -> str:
    """The whole picture."""
    middle = LEFT + BOX / 2
    parts = [
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="10" class="panel"/>',
        text(LEFT, 34, "Device: the small model drafts", "head"),
        text(RIGHT, 34, "Base station: the large model judges", "head"),
        text(475, 34, "the air", "faint", "middle"),
        box(LEFT, 52, ["1  Draft", "logits z → x (T_s, top-k, top-p)", "quantise x → x̂, then draw d ~ x̂"]),
        arrow([(middle, 123), (middle, 143)]),
        box(
            LEFT,
            145,
            ["2  Look at it", "u: would another draw differ from d?", "run d; its attention row: what weighs?"],
        ),
        arrow([(middle, 216), (middle, 236)]),
        box(LEFT, 238, ["3  Decide δ (policy ui)", "u > θ_u, and at least k weights", "above θ_imp = max A − γ·std A"]),
        # No: to the next draft, without a word.
        arrow([(LEFT, 273), (25, 273), (25, 98), (LEFT, 98)], "skip"),
        text(LEFT, 326, "no: commit d, no message (dashed)", "faint"),
        # Yes.
        arrow([(LEFT + BOX, 263), (475, 263), (475, 88), (RIGHT - 4, 88)], "ask"),
        text(368, 284, "yes: Upload", "head"),
        text(368, 303, "ids skipped so far ‖ d, x̂ as bytes", "faint"),
        text(368, 322, "μ = B ÷ W·log₂(1 + ρ) on the air", "faint"),
        box(RIGHT, 52, ["4  Forward", "run the skipped ids and the context", "once: the LLM's y, shaped as x was"]),
        arrow([(RIGHT + BOX / 2, 123), (RIGHT + BOX / 2, 143)]),
        box(RIGHT, 145, ["5  Judge", "accept d with chance min(1, y_d ÷ x̂_d)", "else draw d* ~ norm(max(y − x̂, 0))"]),
        arrow([(RIGHT + BOX / 2, 216), (RIGHT + BOX / 2, 386), (LEFT + BOX + 4, 386)], "say"),
        text(560, 376, "Verdict: d stands, or d*", "head", "middle"),
        box(LEFT, 350, ["6  Commit", "d stands: go on", "d* instead: cut the cache back, run d*"]),
        arrow([(LEFT, 385), (12, 385), (12, 78), (LEFT, 78)]),
        f'<path d="M{LEFT},440 H{WIDTH - LEFT}" class="line" stroke-width="1"/>',
        text(LEFT, 464, "The bill of a round", "head"),
        text(LEFT, 486, "bits: model (the paper's V·b_prob), payload (codec bytes and skipped ids), wire (every byte)"),
        text(LEFT, 506, "seconds: draft + grant + airtime + RTT + queue + LLM forward + downlink"),
        text(LEFT, 526, "joules: device, transmitter, base station · LLM forwards and positions"),
        text(LEFT, 546, "A skipped token costs no message: its id rides on the next upload.", "faint"),
    ]
    tips = "".join(marker(name) for name in ("tip", "asktip", "saytip"))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="One round: draft, look, decide; upload; forward, judge; verdict; commit">'
        f"<style>{STYLE}</style><defs>{tips}</defs>{''.join(parts)}</svg>\n"
    )


if __name__ == "__main__":
    Path(__file__).with_suffix(".svg").write_text(drawing(), encoding="utf-8")
