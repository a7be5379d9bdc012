"""What blocks reach of their bound, from turns whose seconds are known."""

from dataclasses import replace

import pytest

from benchmarks.peers.blocks import Costs, found_of_blocks, reached
from benchmarks.peers.bound import speed_up
from benchmarks.peers.measured import BLOCKS, Measured, block_name, early_name
from benchmarks.peers.ours import Judged

# 40 rounds of two drafts at α = 0.5, which leave 1.75 tokens each.
FORTY = {"accepted": 30, "rejected": 30, "rounds": 40, "tokens": 70}


def forwards(pace=1.0, verify_s=0.02):
    """Bare forwards of a machine at some pace: c = 0.5, e = 0.25, g = 1.5, 2 and 2.5."""
    times_s = {("alone", 1): 0.01}
    for length in (2, 3, 4):
        later_s = 0.005 + 0.0025 / length
        times_s |= {("draft", length): 0.005, ("later", length): later_s, ("verify", length): verify_s}
    return {key: pace * seconds for key, seconds in times_s.items()}


def test_costs_are_in_forwards_of_the_llm():
    costs = Costs.of(forwards(3.0))
    assert costs.one_s == 0.03 and costs.draft == pytest.approx(dict.fromkeys((2, 3, 4), 0.5))
    assert costs.gain == pytest.approx({2: 1.5, 3: 2.0, 4: 2.5}) and costs.last == pytest.approx(
        dict.fromkeys((2, 3, 4), 0.25)
    )
    assert costs.speed_up(0.5, 2, last=False) == pytest.approx(speed_up(0.5, 2, 0.5, 1.5))
    assert costs.speed_up(0.5, 2, last=True) == pytest.approx(1.75 / (3.0 + 0.25 * 0.25))


def test_a_lucky_answer_is_no_faster():
    """Rounds take what they take; how many tokens they leave is that of all answers."""
    lucky = Judged(accepted=20, rounds=10, tokens=30, seconds={"wall": 0.4})
    unlucky = Judged(rejected=10, rounds=10, tokens=10, seconds={"wall": 0.8})
    assert reached([lucky, unlucky], [0.01, 0.02], "wall") == pytest.approx([0.5, 0.5])


def test_a_slow_turn_is_held_against_its_own_forwards():
    """Two turns, the second on a machine twice as slow, and slower still at three positions: both reach their share."""
    turns, share = ((1.0, 0.02), (2.0, 0.03)), 0.8
    # Bare a round of two drafts and a forward, with the last draft run where a block stood; it takes 1 / share of that.
    bare_s = [pace * (2 * 0.005 + verify_s + 0.25 * 0.0025) for pace, verify_s in turns]
    answers = [Judged(**FORTY, seconds={"wall": 40 * own_s / share}) for own_s in bare_s]
    # Longer blocks are written once.
    blocks = {block_name(codec, n): answers if n == 2 else answers[:1] for codec in BLOCKS for n in (2, 3, 4)}
    # Of those that end early the second answer has fewer rounds, each longer and with more tokens: as many a second.
    early = [answers[0], replace(answers[1], rounds=20)]
    blocks |= {early_name(codec): early for codec in BLOCKS}
    rates = {"llama.cpp": [100.0], **{block_name(codec, 2): [60.0] for codec in BLOCKS}}
    # With its sampler a token of the LLM alone takes a tenth more than its forward.
    measured = Measured(rates, [forwards(*turn) for turn in turns], [0.011 * pace for pace, _ in turns])
    findings, more = found_of_blocks(measured, blocks, "wall")
    of = {found.what: found for found in findings}
    for codec in BLOCKS:
        exact = of[f"blocks, {codec}: that ÷ the bound with the last draft run"]
        assert (exact.low, exact.median, exact.high) == pytest.approx((1.1 * share,) * 3) and exact.goal == 0.95
        strict = of[f"blocks, {codec}: that ÷ the bound with the last draft run, both without a sampler"]
        assert (strict.low, strict.high) == pytest.approx((share, share)) and strict.goal is None
        plain = of[f"blocks, {codec}: that ÷ the bound without the last draft"]
        assert plain.median == pytest.approx(1.1 * share * (3.0 / 3.0625 + 4.0 / 4.0625) / 2)
        assert of[f"blocks, {codec}: L = 2 ÷ LLM alone in llama.cpp, whole answers"].median == 0.6
        doubted = of[f"blocks, {codec}: L ≤ 2, ended below 0.4, ÷ the bound with the last draft run"]
        assert (doubted.low, doubted.high) == pytest.approx((1.1 * share,) * 2) and doubted.goal == 0.95
    assert more["last_draft_cost"][2] == pytest.approx(0.25) and more["bare_forward_ms"]["alone 1"] == pytest.approx(
        15.0
    )
    assert {row["length"] for row in more["blocks"]} == {2, 3, 4}
