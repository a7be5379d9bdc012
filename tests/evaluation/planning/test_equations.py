"""What the equations say is what the loop does: fake models, the real server, link and virtual clock."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fake_pair import STOP, V, Weights, installed
from fakes import contextual
from uihlm_cli.assembly import opened_device
from uihlm_device.conversation import Conversation
from uihlm_device.decode_settings import DecodeSettings
from uihlm_evaluation.calibration.plan_figures import LoadFigures, PlanFigures, SkipFigures, TreeFigures
from uihlm_evaluation.planning.equations import Conditions, Model, loaded
from uihlm_evaluation.planning.sizes import Sizes
from uihlm_evaluation.planning.ways import LLM, SLM, Way
from uihlm_evaluation.runs.configuration import RunConfig
from uihlm_proto.codecs import codec
from uihlm_proto.errors import InvalidRequestError
from uihlm_proto.randomness import session_key
from uihlm_proto.sampling import Sampling
from uihlm_wireless.channel import RadioLink
from uihlm_wireless.settings import AirtimeBasis, LinkSettings

TOKENS, ANSWERS = 60, 12
FIGURES = PlanFigures(
    "by the test", 8, 400, V, 0.5, 0.010, 0.012, 0.004, 0.030, 0.003, load=(LoadFigures(1, 1.0), LoadFigures(4, 1.5))
)
THIN = LinkSettings(
    RadioLink(bandwidth_hz=1e5), rtt_s=0.05, grant_delay_s=0.004, downlink=RadioLink(5e5), airtime=AirtimeBasis.WIRE
)


@pytest.fixture(autouse=True)
def weights(monkeypatch, tmp_path) -> Weights:
    weights = installed(monkeypatch, tmp_path)

    def speaks(salt):
        logits = contextual(V, salt, window=12)

        def endless(ids):
            z = logits(ids)
            z[STOP] = -50.0
            return z

        return endless

    weights.speaks = speaks
    return weights


def written(way: Way, conditions: Conditions) -> tuple[dict[str, float], dict[str, float]]:
    """Write answers on the virtual clock; return what they came to a token, and the pair's own figures."""
    config = RunConfig(
        policies=("hlm",),
        decode=DecodeSettings(
            Sampling(0.6),
            TOKENS,
            draft_length=way.draft_length,
            in_flight=way.in_flight,
            tree=way.tree,
            run_on=way.run_on,
        ),
        codec="coupled",
        link=conditions.link,
        timing=loaded(FIGURES, conditions.sessions),
    )
    with opened_device(config, None, 60.0) as device:
        decoder = device.decoder(way.policy, config.rules, config.decode)
        records, opened_s = [], 0.0
        for index in range(ANSWERS):
            conversation = Conversation(session_key(3, index))
            conversation.extend(list(b"[Why?]>"))
            records += list(decoder.answer(conversation))
            if conversation.open_round is not None:
                # The plan leaves the prompt's prefill out: the first verdict waits for it.
                opened_s += device.ledger.bill(conversation.open_round).forward_s
            conversation.end_session()
        elapsed_s = device.clock.now()
        totals = device.ledger.totals()
    n = len(records)
    assert n == TOKENS * ANSWERS
    judged = sum(record.uploaded for record in records)
    fallen = sum(record.origin.value == "resampled" for record in records)
    figures = {"acceptance": 1.0 - fallen / judged if judged else 0.5}
    if decoder.trees is not None:
        rounds = decoder.trees
        figures |= {"tokens": n / rounds.rounds, "calls": rounds.grower.calls, "nodes": rounds.grower.nodes}
        figures |= {name: figures[name] / rounds.rounds for name in ("calls", "nodes")}
    took = {
        "seconds": (elapsed_s - opened_s) / n,
        "forwards": sum(r.llm_forwards for r in records) / n,
        "positions": sum(r.llm_positions for r in records) / n,
        "airtime": (totals.airtime_s) / n,
        "payload": totals.payload_bit / n,
    }
    return took, figures


@pytest.mark.parametrize(
    "link", [LinkSettings(radio=None), LinkSettings(radio=None, rtt_s=0.08), THIN], ids=["none", "far", "thin"]
)
@pytest.mark.parametrize(
    "way",
    [
        SLM,
        LLM,
        Way("hlm"),
        Way("hlm", run_on=True),
        Way("hlm", draft_length=2),
        Way("hlm", draft_length=5),
        Way("hlm", in_flight=2),
        Way("hlm", in_flight=2, run_on=True),
        Way("hlm", in_flight=8),
        Way("hlm", in_flight=8, run_on=True),
        Way("hlm", tree=6),
    ],
    ids=str,
)
def test_every_way_takes_what_the_plan_says(way, link):
    conditions = Conditions(link, sessions=4, tokens=TOKENS)
    took, found = written(way, conditions)
    figures = replace(FIGURES, acceptance=found["acceptance"])
    if way.tree:
        tree = TreeFigures(way.tree, found["tokens"], found["calls"], found["nodes"])
        figures = replace(figures, acceptance=0.5, trees=(tree,))
    said = Model(figures, Sizes(codec("coupled", V))).predict(way, conditions)
    assert np.isclose(1.0 / said.tok_s, took["seconds"], rtol=0.08), (1.0 / said.tok_s, took)
    assert np.isclose(said.forwards, took["forwards"], rtol=0.05, atol=0.01)
    assert np.isclose(said.positions, took["positions"], rtol=0.08, atol=0.01)
    assert np.isclose(said.payload_bit, took["payload"], rtol=0.1, atol=0.5)


def test_policy_u_takes_what_the_plan_says():
    """Uploads and skipped tokens of a real run, the share of uploads as measured."""
    config = RunConfig(
        policies=("u",),
        decode=DecodeSettings(Sampling(0.6), TOKENS),
        codec="coupled",
        link=THIN,
        timing=replace(FIGURES.timing, draft_s=FIGURES.u_draft_s),
    )
    with opened_device(config, None, 60.0) as device:
        decoder = device.decoder("u", replace(config.rules, theta_u=0.9), config.decode)
        records, prefill_s = [], 0.0
        for index in range(ANSWERS):
            conversation = Conversation(session_key(3, index))
            conversation.extend(list(b"[Why?]>"))
            records += list(decoder.answer(conversation))
            prefill_s += device.ledger.bill(conversation.open_round).forward_s
            conversation.end_session()
        elapsed_s = device.clock.now() - prefill_s
    rate = sum(record.uploaded for record in records) / len(records)
    assert 0.1 < rate < 0.9
    figures = replace(FIGURES, skipping=(SkipFigures(0.9, rate, 0.2),))
    said = Model(figures, Sizes(codec("coupled", V))).predict(Way("u", theta_u=0.9), Conditions(THIN, tokens=TOKENS))
    assert np.isclose(1.0 / said.tok_s, elapsed_s / len(records), rtol=0.08)
    assert said.risk == 0.2 and np.isclose(said.forwards, rate, rtol=0.1)


def test_joules_are_watts_times_busy_time_and_load_shares_the_forward():
    radio = RadioLink()
    model = Model(FIGURES, Sizes(codec("coupled", V)))
    own = Conditions(LinkSettings(radio), tokens=64)
    said = model.predict(LLM, own)
    assert np.isclose(said.joules, 300.0 * 0.030 * 63 / 64)
    four = model.predict(LLM, replace(own, sessions=4))
    assert np.isclose(four.joules, said.joules * 1.5 / 4) and np.isclose(four.tok_s, said.tok_s / 1.5)
    assert np.isclose(model.predict(SLM, own).joules, 5.0 * 0.010)
    waiting = model.predict(Way("hlm"), own)
    airtime_s = 8 / radio.rate_bit_s()
    assert np.isclose(waiting.joules, 5.0 * 0.010 + 300.0 * 0.030 * 63 / 64 + radio.transmit_power_w * airtime_s)


def test_load_beyond_a_single_measurement_is_refused():
    alone = replace(FIGURES, load=(LoadFigures(1, 1.0),))
    with pytest.raises(InvalidRequestError, match="no batch curve"):
        Model(alone, Sizes(codec("coupled", V))).predict(LLM, Conditions(sessions=2))
