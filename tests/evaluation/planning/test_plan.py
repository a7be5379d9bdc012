"""The choice: what is allowed, what is best, and what is said of it; the figures it rests on, and their place in a profile."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from uihlm_evaluation.calibration.plan_figures import LoadFigures, PlanFigures, SkipFigures, TreeFigures, scaled
from uihlm_evaluation.calibration.profile import Profile, ProfileError
from uihlm_evaluation.planning.auto import Auto, Seen, Wish
from uihlm_evaluation.planning.bundled import bundled_profile, figures_of
from uihlm_evaluation.planning.equations import Conditions, Model
from uihlm_evaluation.planning.map import RATES_BIT_S, RTTS_S, at_rate, draw_map, panels
from uihlm_evaluation.planning.measuring import skipping_curve
from uihlm_evaluation.planning.plan import Objective, plan
from uihlm_evaluation.planning.sizes import Sizes
from uihlm_evaluation.planning.table import render
from uihlm_evaluation.planning.ways import LLM, SLM, Family, Way, skipping, ways
from uihlm_evaluation.results.table import TableFormat
from uihlm_proto.codecs import codec
from uihlm_proto.errors import InvalidRequestError
from uihlm_wireless.channel import RadioLink
from uihlm_wireless.settings import LinkSettings, profile

FIGURES = PlanFigures(
    "by the test",
    8,
    400,
    128,
    0.65,
    0.010,
    0.011,
    0.004,
    0.060,
    0.006,
    trees=(TreeFigures(4, 2.5, 2.5, 4.0), TreeFigures(8, 3.2, 3.5, 8.0)),
    skipping=(SkipFigures(0.2, 0.8, 0.02), SkipFigures(0.5, 0.5, 0.1), SkipFigures(0.8, 0.2, 0.25)),
    load=(LoadFigures(1, 1.0), LoadFigures(4, 1.6), LoadFigures(16, 4.0)),
)
MODEL = Model(FIGURES, Sizes(codec("coupled", 128)))
NEAR, FAR = Conditions(LinkSettings(radio=None)), Conditions(LinkSettings(radio=None, rtt_s=0.5))


def test_near_a_slow_llm_drafts_pay_and_far_from_it_the_llm_alone():
    assert plan(MODEL, NEAR).best.way.family in (Family.BLOCKS, Family.TREES)
    far = plan(MODEL, FAR)
    assert far.best.way == LLM and far.reason.startswith("use the LLM alone: ")


def test_each_objective_has_its_own_best():
    assert plan(MODEL, NEAR, Objective.FORWARDS).best.way == Way("hlm", tree=8)
    joules = plan(MODEL, NEAR, Objective.JOULES)
    assert joules.best.joules == min(p.joules for p in joules.predictions if p.way != SLM and p.way.policy != "u")


def test_skipping_counts_only_within_the_cap_and_the_device_alone_only_in_an_outage():
    lossless = plan(MODEL, NEAR, Objective.FORWARDS)
    u = next(p for p in lossless.predictions if p.way.policy == "u")
    assert lossless.refusal(u) == "risk above 0" and lossless.refusal(lossless.predictions[0]) == "in an outage alone"
    allowed = plan(MODEL, NEAR, Objective.FORWARDS, risk=0.3)
    assert allowed.best.way == Way("u", theta_u=0.8) and allowed.best.risk == 0.25
    seldom = MODEL.of(replace(FIGURES, skipping=(SkipFigures(0.01, 0.1, 0.0),)))
    assert plan(seldom, NEAR, Objective.FORWARDS).best.way == Way("hlm", tree=8), "seen to risk nothing is not lossless"
    cut_off = plan(MODEL, NEAR, outage=True)
    assert cut_off.best.way == SLM and "nobody checks" in cut_off.reason


@pytest.mark.parametrize(("risk", "theta_u"), [(0.0, 0.2), (0.1, 0.5), (1.0, 0.8)])
def test_threshold_uploads_least_of_those_within_the_cap(risk, theta_u):
    assert skipping(FIGURES.skipping, risk).theta_u == theta_u
    assert skipping((), risk) is None


def test_codec_without_trees_plans_none():
    assert not any(way.tree for way in ways(FIGURES, 0.0, trees=False))


def test_more_load_a_longer_trip_and_a_slower_link_never_help():
    def tok_s(way, **changed):
        link = replace(LinkSettings(RadioLink(bandwidth_hz=1e4)), **changed.pop("link", {}))
        return MODEL.predict(way, Conditions(link, **changed)).tok_s

    for way in ways(FIGURES, 0.0)[1:]:
        assert tok_s(way) > tok_s(way, sessions=8)
        assert tok_s(way) > tok_s(way, link={"rtt_s": 0.1})
        assert tok_s(way) >= tok_s(way, link={"radio": RadioLink(bandwidth_hz=1e3)})


def test_batch_curve_runs_straight_between_and_beyond_its_points():
    assert [FIGURES.slowdown(n) for n in (1, 4, 16)] == [1.0, 1.6, 4.0]
    assert np.isclose(FIGURES.slowdown(10), 2.8) and np.isclose(FIGURES.slowdown(20), 4.8)
    with pytest.raises(InvalidRequestError, match="at least this one session"):
        FIGURES.slowdown(0)


@pytest.mark.parametrize(
    "change",
    [
        {"acceptance": 1.2},
        {"draft_s": -1.0},
        {"forward_s": float("nan")},
        {"load": (LoadFigures(2, 1.0),)},
        {"trees": (TreeFigures(4, 9.0, 1.0, 4.0),)},
    ],
)
def test_impossible_figures_are_refused(change):
    with pytest.raises(InvalidRequestError):
        replace(FIGURES, **change)


def test_profile_keeps_the_figures_and_one_without_them_says_what_to_do():
    shipped = bundled_profile()
    held = replace(shipped, plan=FIGURES)
    assert Profile.from_json(held.to_json()).plan == FIGURES
    bare = replace(shipped, plan=None)
    assert "plan" not in json.loads(bare.to_json()) and Profile.from_json(bare.to_json()) == bare
    with pytest.raises(ProfileError, match="plan --measure"):
        figures_of(bare)
    broken = json.loads(held.to_json())
    broken["plan"]["draft_s"] = "soon"
    with pytest.raises(ProfileError, match="draft_s cannot be 'soon'"):
        Profile.from_json(json.dumps(broken))
    broken["plan"] = [1]
    with pytest.raises(ProfileError, match="plan must be an object"):
        Profile.from_json(json.dumps(broken))


def test_shipped_figures_say_when_they_were_measured():
    figures = figures_of(bundled_profile())
    assert figures.measured.startswith("2026-") and figures.tokens >= 500
    assert [tree.nodes for tree in figures.trees] == [4, 8, 16] and len(figures.skipping) > 10


def test_skipping_curve_is_monotone_and_ends_where_it_must():
    rng = np.random.default_rng(0)
    u = rng.random(500)
    curve = skipping_curve(u, 0.5 * u)
    rates, risks = [p.upload_rate for p in curve], [p.risk for p in curve]
    assert rates == sorted(rates, reverse=True) and risks == sorted(risks)
    assert np.isclose(curve[9].upload_rate, np.mean(u > 0.5)) and np.isclose(
        curve[9].risk, np.where(u <= 0.5, 0.5 * u, 0).mean()
    )


@pytest.mark.parametrize("form", list(TableFormat))
def test_every_form_marks_the_best_and_says_why_not_the_others(form, capsys):
    render(plan(MODEL, FAR), form, Console())
    text = capsys.readouterr().out
    if form is TableFormat.JSON:
        found = json.loads(text)
        assert found["best"] == "llm" and found["flags"] == "--policy llm"
        assert {way["refused"] for way in found["ways"]} == {None, "in an outage alone", "risk above 0"}
    elif form is TableFormat.CSV:
        assert [line.split(",")[0] for line in text.splitlines() if line.endswith(",1")] == ["llm"]
    else:
        assert "llm *" in text and "use the LLM alone: " in text and "in an outage alone" in text


def test_map_is_the_plan_at_each_place(tmp_path):
    grid = panels(MODEL, NEAR, Objective.TOKENS, 0.0)
    assert [[panel.sessions for panel in row] for row in grid] == [[1] * 3, [4] * 3, [16] * 3]
    assert grid[0][1].forward_s == pytest.approx(4 * FIGURES.forward_s)
    place = grid[1][2].ways[3][5]
    slow = MODEL.of(scaled(FIGURES, 16.0))
    here = replace(NEAR, link=at_rate(NEAR.link, RATES_BIT_S[3], RTTS_S[5]), sessions=4)
    assert place == str(plan(slow, here).best.way)
    draw_map(MODEL, NEAR, Objective.TOKENS, 0.0, tmp_path / "map.svg")
    text = (tmp_path / "map.svg").read_text()
    assert "the LLM alone" in text and "LLM forward 960 ms" in text and "16 sessions" in text
    assert len(panels(MODEL.of(replace(FIGURES, load=(LoadFigures(1, 1.0),))), NEAR, Objective.TOKENS, 0.0)) == 1


def test_link_at_a_rate_carries_it():
    assert at_rate(profile("nr"), 5e4, 0.1).radio.rate_bit_s() == pytest.approx(5e4)
    shared = at_rate(replace(profile("paper"), devices=4), 5e4, 0.1)
    assert shared.uplink_airtime_s(5000, bytes(16), 1) == pytest.approx(0.1)


def _auto(**changed) -> Auto:
    return Auto(FIGURES, Sizes(codec("coupled", 128)), NEAR.link, Wish(**changed))


def test_auto_keeps_its_way_until_another_is_clearly_better():
    auto = _auto()
    first = auto.way
    assert first.family in (Family.BLOCKS, Family.TREES)
    auto.saw(Seen(first, tokens=40, trips=20, link_s=20 * 0.02))
    assert auto.way == first
    auto.saw(Seen(first, tokens=40, trips=20, link_s=20 * 0.6))
    assert auto.way == LLM and "600 ms" in auto.estimates
    # A request of the LLM alone says nothing of the rate, but of the trip.
    auto.saw(Seen(LLM, tokens=40, trips=1, link_s=0.01))
    assert auto.way == first


def test_auto_learns_what_compute_takes_and_how_many_drafts_stand():
    auto = _auto()
    for _ in range(12):
        auto.saw(Seen(auto.way, 40, 20, 0.0, draft_s=0.1, forwards=[(1, 0.030)] * 10, judged=40, accepted=4))
    assert "a draft 100 ms" in auto.estimates and "an LLM forward 30 ms" in auto.estimates
    assert auto.way == LLM
    short = _auto()
    short.saw(Seen(short.way, 2, 2, 0.0, draft_s=9.0))
    assert "a draft 10 ms" in short.estimates


def test_auto_writes_alone_while_the_base_station_is_lost():
    auto = _auto()
    before = auto.way
    auto.saw(Seen(before, tokens=10, trips=3, lost=True))
    assert auto.way == SLM and "cannot be reached" in auto.reason
    auto.found()
    assert auto.way == before


def test_auto_follows_its_wish():
    auto = _auto()
    auto.change(Wish(Objective.FORWARDS, risk=0.3))
    assert auto.way == Way("u", theta_u=0.8)
    assert dataclasses.replace(auto.way, theta_u=None).policy == "u"
