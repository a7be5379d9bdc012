"""Running policies over prompts: what is run in which order, what is on disk when, what one failure leaves.

The models are fakes; the decode loop, the client, the link and the base station are the real ones.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator

import pytest

from fakes import FakeEngine, contextual, mixed, serving
from rigs import EXAMPLES, STOP, Rig, V, lines, steady
from stations import eventually
from uihlm_device.tokens import TokenRecord
from uihlm_evaluation.prompts.datasets import Example
from uihlm_evaluation.runs.runner import RoundLine
from uihlm_evaluation.runs.samples import Sample, Stop
from uihlm_proto.errors import ExhaustedError, InvalidRequestError, ProtocolError, UnavailableError
from uihlm_wireless.settings import profile


@pytest.fixture
def rig() -> Iterator[Rig]:
    engine = FakeEngine(mixed(contextual(V, 1), contextual(V, 2), 0.5), V, [STOP])
    with serving(engine) as address:
        rig = Rig(address, engine)
        with rig.device:
            yield rig


def test_every_prompt_under_every_policy_prompts_outermost(rig, tmp_path):
    samples = rig.run(tmp_path, "hlm", "slm", "llm")
    order = [(index, name) for index in (4, 7, 9) for name in ("hlm", "slm", "llm")]
    assert [(s.prompt, s.policy) for s in samples] == order
    assert [(p.done, p.total) for p in rig.progress] == [(n, 9) for n in range(1, 10)]
    assert [p.sample for p in rig.progress] == samples
    assert [s.reference for s in samples] == [f"answer {index}" for index, _ in order]
    assert rig.turns == [example.user_turn for example in EXAMPLES for _ in range(3)]


def test_samples_on_disk_are_those_returned(rig, tmp_path):
    samples = rig.run(tmp_path, "random", "llm")
    assert [Sample.from_json(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()] == samples
    assert {"digest", "prompts", "config"} == json.loads((tmp_path / "run.json").read_text()).keys()


def test_round_line_is_a_token_record_and_whose_it_is():
    own = {field.name for field in dataclasses.fields(RoundLine)}
    # Whether a token ends its answer is known from its place there and the sample's `stop`.
    assert own == {field.name for field in dataclasses.fields(TokenRecord)} - {"stop"} | {"policy", "prompt"}


def test_lines_of_a_prompt_hold_its_tokens_in_order(rig, tmp_path):
    samples = rig.run(tmp_path, "random")
    rounds = lines(tmp_path / "rounds.jsonl")
    for sample in samples:
        own = [line for line in rounds if line["prompt"] == sample.prompt]
        assert f"{[line['token'] for line in own]}" == sample.text
        assert [line["position"] - own[0]["position"] for line in own] == list(range(sample.tokens))
        assert [line["round"] for line in own if line["uploaded"]] == list(range(1, sample.uploaded + 1))


def test_costs_of_a_sample_are_those_of_its_rounds_and_its_open(rig, tmp_path):
    samples = rig.run(tmp_path, "slm", "llm", "hlm", "random", "u")
    rounds = lines(tmp_path / "rounds.jsonl")
    assert any(0 < s.rejected < s.uploaded < s.tokens for s in samples), "every kind of token is among them"
    for sample in samples:
        own = [line for line in rounds if (line["policy"], line["prompt"]) == (sample.policy, sample.prompt)]
        total = {key: sum(line[key] for line in own) for key in ("model_bits", "payload_bits", "airtime_s", "draft_s")}
        assert (sample.model_bits, sample.payload_bits) == (total["model_bits"], total["payload_bits"])
        assert sample.model_bits == sample.uploaded * V * 32
        assert sample.uploaded == sum(line["origin"] in ("accepted", "resampled") for line in own)
        assert sample.rejected == sum(line["origin"] == "resampled" for line in own)
        assert (sample.airtime_s, sample.draft_s) == pytest.approx((total["airtime_s"], total["draft_s"]))
        if sample.policy == "slm":
            assert (sample.llm_forwards, sample.llm_positions, sample.wire_bytes, sample.link_s) == (0, 0, 0, 0.0)
            continue
        prompt = own[0]["position"]
        # Open: one forward over the prompt, one round trip, and its own bytes.
        assert sample.llm_forwards == 1 + sum(line["llm_forwards"] for line in own)
        assert sample.llm_positions == prompt + sum(line["llm_positions"] for line in own)
        assert sample.link_s == pytest.approx(0.5 + sum(line["link_s"] for line in own))
        opening_bytes = sample.open_uplink_wire_bytes + sample.open_downlink_wire_bytes
        assert min(sample.open_uplink_wire_bytes, sample.open_downlink_wire_bytes) > 0
        assert sample.wire_bytes == opening_bytes + sum(line["wire_bytes"] for line in own)
        assert sample.open_forward_s == 0.02
        assert sample.bs_busy_s == sample.forward_s == pytest.approx(0.02 + sum(line["forward_s"] for line in own))
        # Every answer has a part that came down; what went up stands on the first line of its round.
        for line in own:
            asked = line == own[0] if sample.policy == "llm" else line["uploaded"]
            assert (line["uplink_wire_bytes"] > 0) == asked
            assert (line["wire_bytes"] > line["uplink_wire_bytes"]) == ("round" in line)
    assert sum(s.llm_forwards for s in samples) == len(rig.engine.batches)
    assert sum(s.llm_positions for s in samples) == sum(len(work.new_ids) for work in rig.engine.log)


def test_latency_is_the_run_clock_from_prompt_to_last_token(rig, tmp_path):
    by_policy = {s.policy: s for s in rig.run(tmp_path, "slm", "hlm", "llm", examples=EXAMPLES[:1])}
    slm, hlm, llm = (by_policy[name] for name in ("slm", "hlm", "llm"))
    # The bench charges 0.01 s a draft and 0.02 s a forward.
    assert slm.latency_s == pytest.approx(0.01 * slm.tokens)
    airtime_s = profile("paper").radio.uplink_time_s(V * 32)
    # The prefill judges the first draft; a draft after a rejection is judged by the forward of the correction.
    assert hlm.latency_s == pytest.approx(hlm.tokens * (0.01 + 0.02 + airtime_s + 0.5) + 0.5 - 0.01, rel=0.02)
    assert llm.latency_s == pytest.approx(0.5 + 0.5 + 0.02 * llm.tokens, rel=0.02)


def test_stop_says_how_the_answer_ended(rig, tmp_path):
    samples = rig.run(tmp_path, "hlm", examples=[Example(i, "ask", "", "") for i in range(12)])
    assert {s.stop for s in samples} == {Stop.EOS, Stop.LENGTH}
    for sample in samples:
        ids = json.loads(sample.text)
        assert (ids[-1] == STOP) == (sample.stop is Stop.EOS)
        assert STOP not in ids[:-1]
        assert sample.tokens == len(ids) == 6 or sample.stop is Stop.EOS


def test_noise_is_keyed_by_seed_and_index_not_by_order(rig, tmp_path):
    whole = rig.run(tmp_path / "a", "hlm")
    backwards = rig.run(tmp_path / "b", "hlm", examples=EXAMPLES[::-1])
    assert [s.text for s in whole] == [s.text for s in backwards][::-1]
    assert steady(whole) == steady(backwards)[::-1]
    assert [s.text for s in rig.run(tmp_path / "c", "hlm", seed=1)] != [s.text for s in whole]
    same_text = rig.run(tmp_path / "d", "hlm", examples=[Example(i, "ask", "", "") for i in range(6)])
    assert len({s.text for s in same_text}) > 1, "prompts of one text meet different noise"


@pytest.mark.parametrize("kind", [InvalidRequestError, ProtocolError, ExhaustedError])
def test_one_bad_prompt_becomes_its_own_error(rig, tmp_path, kind):
    def refuse(text: str) -> None:
        if text == EXAMPLES[1].user_turn:
            raise kind("no room for this")

    rig.before_turn = refuse
    samples = rig.run(tmp_path, "hlm", "slm")
    assert [(s.prompt, s.stop is Stop.ERROR, s.error) for s in samples if s.failed] == [
        (7, True, "no room for this")
    ] * 2
    assert [s.prompt for s in samples] == [4, 4, 7, 7, 9, 9]
    assert all(s.tokens > 0 and s.error is None for s in samples if not s.failed)
    # The device hangs up; the base station hears of it a moment later.
    assert eventually(lambda: rig.engine.sessions == {})


def test_answer_that_breaks_off_keeps_what_it_cost(rig, tmp_path):
    rig.engine.breaks_at = len(rig._first_turn(EXAMPLES[0].user_turn)) + 3
    (sample,) = rig.run(tmp_path, "hlm", examples=EXAMPLES[:1])
    assert sample.failed
    assert sample.tokens == len(lines(tmp_path / "rounds.jsonl")) > 0
    assert sample.model_bits == sample.uploaded * V * 32
    assert sample.open_uplink_wire_bytes > 0
    assert sample.open_forward_s == 0.02


def test_lost_base_station_ends_the_run_and_leaves_what_was_done(rig, tmp_path):
    def lose(text: str) -> None:
        if text == EXAMPLES[1].user_turn:
            raise UnavailableError("gone")

    rig.before_turn = lose
    with pytest.raises(UnavailableError):
        rig.run(tmp_path, "hlm", "slm")
    assert [(s["prompt"], s["policy"]) for s in lines(tmp_path / "samples.jsonl")] == [(4, "hlm"), (4, "slm")]
    assert {line["prompt"] for line in lines(tmp_path / "rounds.jsonl")} == {4}
