"""The capacity of a cell as one figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from uihlm_evaluation.drawing.style import footnote, new_figure, style, styled, svg


def draw(content: dict[str, Any], path: Path) -> None:
    """Write an SVG of what `capacity.measure` found."""
    policies, blocks = content["policies"], content["blocks"]
    with styled():
        figure = new_figure(7.2, 3.1)
        left, right = figure.subplots(1, 2, width_ratios=[1.6, 1.0])
        base = policies[0]["devices"]
        places = range(len(policies))
        left.bar(places, [one["devices"] for one in policies], 0.5, color=style(1).color, label="measured")
        for index, (label, bound) in enumerate(
            (
                ("cost by forwards: llm ÷ forwards per token", "forwards_a_token"),
                ("cost by positions: llm ÷ positions per token", "positions_a_token"),
            )
        ):
            look = style(2 * index)
            left.plot(
                places, [base / one[bound] for one in policies], look.marker, color=look.color, ls="none", label=label
            )
        left.set_xticks(list(places), [one["policy"].replace(", ", "\n") for one in policies])
        left.set_ylabel(f"devices at {content['rate']:g} tokens/s")
        left.set_title("what skipping buys")
        left.set_ylim(0, 1.45 * max(base / one["forwards_a_token"] for one in policies))
        left.legend(loc="upper left")
        lengths = [one["drafts"] for one in blocks]
        for index, (label, key) in enumerate((("measured", "measured"), ("1 + L·t_draft ÷ t_verify", "closed_form"))):
            look = style(index)
            right.plot(
                lengths, [one[key] for one in blocks], color=look.color, marker=look.marker, ls=look.line, label=label
            )
        right.set_xticks(lengths)
        right.set_xlabel("drafts an upload, L")
        right.set_ylabel("devices that keep it busy")
        right.set_ylim(0, 1.3 * max(max(one["measured"], one["closed_form"]) for one in blocks))
        right.set_title("one forward at a time")
        right.legend(loc="lower right")
        footnote(
            figure,
            f"The bundled LLM ({content['engine']}) on two cores; a draft takes {1e3 * content['draft_s']:.1f} ms on the "
            "device. python -m benchmarks.cell capacity",
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(svg(figure, path.stem) + "\n", encoding="utf-8")
