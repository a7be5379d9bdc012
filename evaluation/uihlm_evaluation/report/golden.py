"""Golden Table I: what the `paper` profiles make of the paper's own upload and reject rates, beside what it prints.

    λ = 1 / (μ_SLM + r_up · (μ + μ_LLM))                                                            Eq. (3)
    η = 1 - ē/ē_HLM,    ē = r_up · (B · 300 + r_rej · 350) + 100 a token                            Section IV

Each profile rests on two constants that the paper does not print.

λ: μ_SLM = 1.901 s, μ + μ_LLM = 2.119 s. Both are fitted to the λ column, which is printed to 0.01 and leaves little
room: every pair within 0.005 of all 23 rows has μ_SLM in 1.899 … 1.903 s and μ + μ_LLM in 2.096 … 2.128 s. Of this one the
largest error is 0.0048, of the best one (1.902, 2.118) 0.0047. Two numbers for 23 rows; the paper's channel constants
give other seconds (μ alone is 5.88 s at h = 1 and 32 bits).

η: B = 0.42, ē_HLM = 327.9. B is solved from one cell, η_SLM = 69.5 % (which leaves 0.418 … 0.422), with l_s read as all
generated tokens; ē_HLM follows from it and the reject rate of the `hlm` row, 0.42 · 300 + 0.2911 · 350 + 100. No
other energy cell was used: the errors of the other rows are not fitted away.
"""

from __future__ import annotations

from dataclasses import dataclass

from uihlm_evaluation.report.table_one import PaperRow, table_one
from uihlm_evaluation.results.policy_result import HLM
from uihlm_wireless.energy import DENSE32_LOAD, TokenCounts, energy_saving_ratio, paper_energy, paper_hlm_energy
from uihlm_wireless.timing import PAPER

# Rates with two places of a percent, one taken of the other, give whole tokens of so many.
_TOKENS = 10**8
_DENSE32_BIT = 32


@dataclass(frozen=True, slots=True)
class GoldenRow:
    """One row, the paper's value beside the model's; None where there is none.

    Attributes:
        policy, k, gamma: which row.
        throughput_paper: λ as printed, tokens a second.
        throughput_model: λ of the `paper` timing profile at the row's upload rate.
        energy_paper: η as printed, percent; None for `hlm`, which the table compares with.
        energy_model: η of the `paper` energy profile at the row's rates, percent.
    """

    policy: str
    k: int | None
    gamma: float | None
    throughput_paper: float
    throughput_model: float
    energy_paper: float | None
    energy_model: float

    @property
    def throughput_difference(self) -> float:
        """Model − paper, tokens a second."""
        return self.throughput_model - self.throughput_paper

    @property
    def energy_difference(self) -> float | None:
        """Model − paper, percentage points."""
        return None if self.energy_paper is None else self.energy_model - self.energy_paper


@dataclass(frozen=True, slots=True)
class Errors:
    """Absolute differences over some rows.

    Attributes:
        rows: how many have both values.
        largest: the largest of them.
        mean: their mean.
    """

    rows: int
    largest: float
    mean: float


@dataclass(frozen=True, slots=True)
class Constant:
    """A number that a profile uses and the paper does not print.

    Attributes:
        symbol: as in the equations above.
        value: its value.
        unit: empty for the paper's own unit of energy, which is none.
        origin: how it was found, as a sentence.
    """

    symbol: str
    value: float
    unit: str
    origin: str


def golden_rows() -> tuple[GoldenRow, ...]:
    """Return the 23 rows of Table I, in its order."""
    table = table_one()
    hlm_energy = _hlm_energy(table)
    return tuple(
        GoldenRow(
            policy=row.policy,
            k=row.k,
            gamma=row.gamma,
            throughput_paper=row.throughput_tok_s,
            throughput_model=PAPER.throughput_tok_s(row.upload_rate),
            energy_paper=row.energy_saving_pct,
            energy_model=100.0 * energy_saving_ratio(_energy(row), hlm_energy),
        )
        for row in table
    )


def throughput_errors(rows: tuple[GoldenRow, ...]) -> Errors:
    """Return the errors of λ over all rows, tokens a second."""
    return _errors([abs(row.throughput_difference) for row in rows])


def energy_errors(rows: tuple[GoldenRow, ...]) -> Errors:
    """Return the errors of η, percentage points, over the rows that B was not solved from: all but `slm` and `hlm`."""
    differences = [row.energy_difference for row in rows if row.policy != "slm"]
    return _errors([abs(difference) for difference in differences if difference is not None])


def constants() -> tuple[Constant, ...]:
    """Return the two constants of the timing profile, then the two of the energy profile."""
    fitted = (
        "fitted, together with the other, to the 23 λ of the table; every pair within 0.005 of all rows has it in {} s."
    )
    return (
        Constant("μ_SLM", PAPER.draft_s, "s", fitted.format("1.899 … 1.903")),
        Constant("μ + μ_LLM", PAPER.round_s, "s", fitted.format("2.096 … 2.128")),
        Constant(
            "B",
            DENSE32_LOAD,
            "",
            "solved from one cell, η of slm = 69.5 %, with l_s = all generated tokens; no other cell of η was used.",
        ),
        Constant(
            "ē_HLM",
            _hlm_energy(table_one()),
            "",
            "follows from B and the reject rate of the hlm row: B · 300 + 0.2911 · 350 + 100.",
        ),
    )


def _counts(row: PaperRow) -> TokenCounts:
    uploaded = round(_TOKENS * row.upload_rate)
    return TokenCounts(_TOKENS, uploaded, round(uploaded * row.reject_rate))


def _energy(row: PaperRow) -> float:
    counts = _counts(row)
    # A full distribution of one entry: B counts shares of V · 32 bits, so that V drops out.
    return paper_energy(counts, counts.uploaded * _DENSE32_BIT, vocabulary_size=1)


def _hlm_energy(table: tuple[PaperRow, ...]) -> float:
    return paper_hlm_energy(_counts(next(row for row in table if row.policy == HLM)))


def _errors(differences: list[float]) -> Errors:
    return Errors(len(differences), max(differences), sum(differences) / len(differences))
