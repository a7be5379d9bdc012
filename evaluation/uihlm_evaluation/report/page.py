"""One self-contained HTML page of a run: what was run, the table, what comes out, the figures, and a reader of samples.

Nothing is fetched: the page's own policy forbids it, and allows one script, by its hash. All text from the run is escaped.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from importlib.resources import files

from uihlm_evaluation.report.claims import Claim, claims
from uihlm_evaluation.report.comparisons import CAUGHT_DEFINITION, COUNTED_DEFINITION, MIN_PROMPTS
from uihlm_evaluation.report.facts import facts
from uihlm_evaluation.report.folder import RunFolder
from uihlm_evaluation.report.measures import measure
from uihlm_evaluation.report.reader import pack
from uihlm_evaluation.report.rows_table import table
from uihlm_evaluation.report.texts import Texts
from uihlm_evaluation.results.scores import SCORES, read_scores
from uihlm_proto.errors import InvalidRequestError


def page(folder: RunFolder, texts: Texts) -> str:
    """Return the HTML of a run.

    Raises:
        InvalidRequestError: if the package jinja2 is missing, or the run's scores cannot be read.
    """
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError as error:
        raise InvalidRequestError("the report needs the package jinja2: pip install 'uihlm[eval]'") from error
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    script = _template("reader.js")
    score_file = folder.path / SCORES
    study = measure(folder, read_scores(score_file) if score_file.is_file() else {})
    headings, lines = table(folder)
    drawn, left_out = _figures(folder)
    html: str = environment.from_string(_template("report.html")).render(
        style=_template("report.css"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        facts=facts(folder),
        headings=headings,
        lines=lines,
        questions=_by_question(claims(study)),
        compared=len(study.prompts),
        rows_left_out=study.left_out,
        definition=CAUGHT_DEFINITION if study.expected else COUNTED_DEFINITION,
        min_prompts=MIN_PROMPTS,
        figures=drawn,
        figures_left_out=left_out,
        notices=texts.notices,
        data=pack(folder, texts),
    )
    return html


def _by_question(found: Iterable[Claim]) -> dict[str, list[Claim]]:
    groups: dict[str, list[Claim]] = {}
    for claim in found:
        groups.setdefault(claim.question, []).append(claim)
    return groups


def _figures(folder: RunFolder) -> tuple[list[tuple[str, str]], Mapping[str, str]]:
    """Return (caption, SVG element) of each figure, and why each of the others is missing."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return [], {"any": "they need the package matplotlib: pip install 'uihlm[eval]'"}
    from uihlm_evaluation.drawing.style import svg
    from uihlm_evaluation.report.figures.gallery import draw_figures

    figures = draw_figures(folder)
    return [(entry.caption, svg(entry.figure, entry.name)) for entry in figures.drawn], figures.left_out


def _template(name: str) -> str:
    return (files("uihlm_evaluation.report") / "templates" / name).read_text(encoding="utf-8")
