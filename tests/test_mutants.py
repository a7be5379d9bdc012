"""The measure of losslessness fails on what is wrong: each defect of mutants.py, through the whole wire."""

from __future__ import annotations

import pytest

import mutants
from chi_square import CAUGHT, LOSSLESS, X, Y, acceptance_p_value, ids, p_value, served, total_variation
from fakes import fixed


def defects(table: dict[str, mutants.Defect]) -> list[object]:
    """Defects that take many tokens to show are slow."""
    return [
        pytest.param(defect, id=name, marks=[pytest.mark.slow] if defect.tokens > 1500 else [])
        for name, defect in table.items()
    ]


@pytest.mark.parametrize("defect", defects(mutants.RESIDUAL))
def test_mutants_of_the_residual_judge_are_caught(defect: mutants.Defect, monkeypatch: pytest.MonkeyPatch) -> None:
    defect.mutant(monkeypatch)
    assert p_value(ids(served(fixed(X), fixed(Y), "dense32", defect.tokens)), Y) < CAUGHT


@pytest.mark.parametrize("defect", defects(mutants.LATTICE))
def test_mutants_of_the_lattice_are_caught(defect: mutants.Defect, monkeypatch: pytest.MonkeyPatch) -> None:
    defect.mutant(monkeypatch)
    assert p_value(ids(served(fixed(X), fixed(Y), "lattice:k=4,l=16", defect.tokens)), Y) < CAUGHT


@pytest.mark.parametrize("defect", defects(mutants.COUPLED))
def test_mutants_of_the_coupled_judge_are_caught(defect: mutants.Defect, monkeypatch: pytest.MonkeyPatch) -> None:
    defect.mutant(monkeypatch)
    assert p_value(ids(served(fixed(X), fixed(Y), "coupled", defect.tokens)), Y) < CAUGHT


@pytest.mark.parametrize(("codec", "defect"), mutants.WASTEFUL.values(), ids=mutants.WASTEFUL.keys())
def test_rules_that_are_right_but_wasteful_are_caught_by_acceptance(
    codec: str, defect: mutants.Defect, monkeypatch: pytest.MonkeyPatch
) -> None:
    defect.mutant(monkeypatch)
    written = served(fixed(X), fixed(Y), codec, defect.tokens)
    assert p_value(ids(written), Y) > LOSSLESS
    tv = total_variation(X, Y)
    least = (1.0 - tv) / (1.0 + tv) if codec == "coupled" else 1.0 - tv
    assert acceptance_p_value(written, least) < CAUGHT
