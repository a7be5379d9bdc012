"""The frontier that benchmarks.links draws: what no other row beats in both."""

import pytest

from benchmarks.links import Priced, frontier


def row(name, quality, tok_s, joule=1.0):
    return Priced(name, quality, tok_s, joule, 0.0)


def test_rows_that_nothing_beats_in_both_the_best_in_quality_first():
    rows = [row("slm", 0.6, 9.0), row("u", 0.65, 0.5), row("llm", 0.7, 6.0), row("hlm", 0.7, 0.1), row("i", 0.66, 2.0)]
    assert frontier(rows, lambda each: each.tok_s) == ["llm", "slm"]


def test_fewer_joules_are_a_gain_and_equals_stay_together():
    rows = [row("a", 0.6, 1.0, 2.0), row("b", 0.6, 9.0, 2.0), row("c", 0.5, 1.0, 3.0), row("d", 0.4, 1.0, 1.0)]
    assert frontier(rows, lambda each: -each.joule) == ["a", "b", "d"]


def test_a_run_without_metrics_is_refused_with_a_sentence():
    class Bare:
        row, bertscore_f1, throughput_tok_s, energy_j, tokens = "hlm", None, 1.0, 1.0, 10

    with pytest.raises(SystemExit, match="hlm has no BERTScore"):
        Priced.of(Bare(), 0.0)
