"""What blocks reach of their bound, from turns whose seconds are known."""

import pytest

from benchmarks.peers.blocks import Costs, found_of_blocks, reached
from benchmarks.peers.bound import speed_up
from benchmarks.peers.measuring import BLOCKS, Measured, block_name
from benchmarks.peers.ours import Judged, Ours

# 40 rounds of two drafts at α = 0.5, which leave 1.75 tokens each.
FORTY = {"accepted": 30, "rejected": 30, "rounds": 40, "tokens": 70}


def forwards(pace=1.0):
    """Bare forwards of a machine at some pace: c = 0.5, e = 0.25, g = 1.5, 2 and 2.5."""
    times_s = {("alone", 1): 0.01, ("first", 1): 0.006, ("first", 2): 0.0085}
    for length, verify_s in ((2, 0.02), (3, 0.02), (4, 0.02)):
        times_s |= {("draft", length): 0.005, ("verify", length): verify_s}
    return {key: pace * seconds for key, seconds in times_s.items()}


def test_costs_are_in_forwards_of_the_llm():
    costs = Costs.of(forwards(3.0))
    assert costs.one_s == 0.03 and costs.draft == pytest.approx(dict.fromkeys((2, 3, 4), 0.5))
    assert costs.gain == pytest.approx({2: 1.5, 3: 2.0, 4: 2.5}) and costs.last == pytest.approx(0.25)
    assert costs.speed_up(0.5, 2, last=False) == pytest.approx(speed_up(0.5, 2, 0.5, 1.5))
    assert costs.speed_up(0.5, 2, last=True) == pytest.approx(1.75 / (3.0 + 0.25 * 0.25))


def test_a_lucky_answer_is_no_faster():
    """Rounds take what they take; how many tokens they leave is that of all answers."""
    lucky = Judged(accepted=20, rounds=10, tokens=30, seconds={"wall": 0.4})
    unlucky = Judged(rejected=10, rounds=10, tokens=10, seconds={"wall": 0.8})
    assert reached([lucky, unlucky], [0.01, 0.02], "wall") == pytest.approx([0.5, 0.5])


def test_a_slow_turn_is_held_against_its_own_forwards():
    """Two turns, the second on a machine twice as slow: both reach what they reach there."""
    paces, share = (1.0, 2.0), 0.8
    # A round of 30.625 ms bare, the last draft run where a block stood, takes 1 / share of it.
    answers = [Judged(**FORTY, seconds={"wall": 40 * 0.030625 * pace / share}) for pace in paces]
    blocks = {(codec, length): Ours(None, None, codec=codec, length=length) for codec in BLOCKS for length in (2, 3, 4)}
    for (_, length), own in blocks.items():
        # Longer blocks are written once.
        own.answers.extend(answers if length == 2 else answers[:1])
    rates = {"llama.cpp": [100.0], **{block_name(codec, 2): [60.0] for codec in BLOCKS}}
    # With its sampler a token of the LLM alone takes a tenth more than its forward.
    measured = Measured(rates, [forwards(pace) for pace in paces], [0.011 * pace for pace in paces])
    findings, more = found_of_blocks(measured, blocks, "wall")
    of = {found.what: found for found in findings}
    for codec in BLOCKS:
        exact = of[f"blocks, {codec}: that ÷ the bound with the last draft run"]
        assert (exact.low, exact.median, exact.high) == pytest.approx((1.1 * share,) * 3) and exact.goal == 0.95
        strict = of[f"blocks, {codec}: that ÷ the bound with the last draft run, both without a sampler"]
        assert (strict.low, strict.high) == pytest.approx((share, share)) and strict.goal is None
        plain = of[f"blocks, {codec}: that ÷ the bound without the last draft"]
        assert plain.median == pytest.approx(1.1 * share * 3.0 / 3.0625)
        assert of[f"blocks, {codec}: L = 2 ÷ LLM alone in llama.cpp, whole answers"].median == 0.6
    assert more["last_draft_cost"] == pytest.approx(0.25) and more["bare_forward_ms"]["alone 1"] == pytest.approx(15.0)
    assert {row["length"] for row in more["blocks"]} == {2, 3, 4}
