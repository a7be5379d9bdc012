"""What `benchmarks.plan` says of the plan's choices."""

from benchmarks.plan import Held, choices
from uihlm_evaluation.planning.ways import LLM, Way

U = Way("u", theta_u=0.5)


def held(way: Way, forwards: float, planned: float) -> Held:
    figures = {"tok_s": 10.0, "joules": 1.0}
    return Held(way, 0.0, 1e6, 1, figures | {"forwards": forwards}, figures | {"forwards": planned})


def line(forwards_of_u: float, planned_of_u: float) -> str:
    said = choices([held(LLM, 1.0, 1.0), held(U, forwards_of_u, planned_of_u)])
    return next(line for line in said.splitlines() if line.startswith("* forwards, u as well"))


def test_a_wrong_choice_costs_its_share():
    assert "measured best at 0 of 1 places" in line(0.5, 2.0) and line(0.5, 2.0).endswith("at most 100.0 %")
    assert line(0.5, 0.5).endswith("at most 0.0 %")


def test_beside_a_best_that_costs_nothing_it_costs_without_end():
    """`u` that uploads nothing asks for no forward at all."""
    assert line(0.0, 0.0).endswith("at most 0.0 %")
    assert line(0.0, 2.0).endswith("at most inf %")
