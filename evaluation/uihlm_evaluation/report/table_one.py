"""Table I of arXiv:2508.12590 as data: TinyLlama drafting for LLaMA-2-7B, 100 Alpaca prompts, 23 rows.

Its upload and reject rates are measured by the paper; what the two profiles make of them stands in `golden.py`.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class PaperRow:
    """A row of the paper's Table I; None where the table has no value.

    Attributes:
        policy: slm, hlm, u, i or ui.
        k: attention weights that must exceed θ_imp.
        gamma: γ of θ_imp; the `i` rows were run at 1.
        bertscore_pct: BERTScore F1, percent.
        cosine_pct: cosine similarity, percent.
        upload_rate_pct: uploaded of all tokens, percent.
        reject_rate_pct: rejected of the uploaded, percent.
        energy_saving_pct: η, percent.
        throughput_tok_s: λ, tokens a second.
    """

    policy: str
    k: int | None
    gamma: float | None
    bertscore_pct: float
    cosine_pct: float
    upload_rate_pct: float | None
    reject_rate_pct: float | None
    energy_saving_pct: float | None
    throughput_tok_s: float

    @property
    def upload_rate(self) -> float:
        """Uploaded ÷ tokens; `slm`, which has none in the table, uploads nothing."""
        return (self.upload_rate_pct or 0.0) / 100.0

    @property
    def reject_rate(self) -> float:
        """Rejected ÷ uploaded; 0 without uploads."""
        return (self.reject_rate_pct or 0.0) / 100.0


def table_one() -> tuple[PaperRow, ...]:
    """Return the 23 rows in the order of the paper."""
    text = (files("uihlm_evaluation") / "data" / "table1.csv").read_text(encoding="utf-8")
    return tuple(_row(cells) for cells in csv.DictReader(text.splitlines()))


def _row(cells: dict[str, str]) -> PaperRow:
    number = {name: float(cell) if cell else None for name, cell in cells.items() if name not in ("method", "k")}
    return PaperRow(
        policy=cells["method"],
        k=int(cells["k"]) if cells["k"] else None,
        gamma=number["gamma"],
        bertscore_pct=float(cells["bertscore_pct"]),
        cosine_pct=float(cells["cosine_pct"]),
        upload_rate_pct=number["upload_rate_pct"],
        reject_rate_pct=number["reject_rate_pct"],
        energy_saving_pct=number["energy_saving_pct"],
        throughput_tok_s=float(cells["throughput_tok_s"]),
    )
