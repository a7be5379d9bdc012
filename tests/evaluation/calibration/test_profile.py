"""Profiles: what is written comes back; another pair is refused, other settings are warned of."""

import dataclasses
import json

import pytest

from synthetic_trace import lawful
from uihlm_device.decode_settings import DecodeSettings
from uihlm_device.rules.uncertainty import Estimator
from uihlm_evaluation.calibration.findings import Choice, Findings, document, profile_of
from uihlm_evaluation.calibration.profile import Profile, ProfileError, ProfileModel, load_profile
from uihlm_evaluation.calibration.thresholds import Threshold
from uihlm_evaluation.runs.configuration import RunConfig
from uihlm_proto.sampling import Sampling

SLM, LLM = ProfileModel("a drafter", "5" * 64), ProfileModel("an LLM", "7" * 64)
TRACE = lawful(prompts=12, tokens=10)
FINDINGS = Findings.of(TRACE)
PROFILE = profile_of(FINDINGS, Choice(), TRACE, SLM, LLM, "prompts.json")


def test_round_trip(tmp_path):
    PROFILE.save(tmp_path)
    assert load_profile(tmp_path) == load_profile(tmp_path / "profile.json") == PROFILE
    content = json.loads((tmp_path / "profile.json").read_text())
    assert content["a"] == dataclasses.asdict(FINDINGS.law.probability.a) and content["a"].keys() == {
        "mean",
        "low",
        "high",
    }
    assert load_profile(tmp_path).digest == PROFILE.digest
    assert dataclasses.replace(PROFILE, k=4).digest != PROFILE.digest


def test_knobs_are_the_chosen_threshold_and_what_the_user_fixed():
    assert PROFILE.knobs == {"theta_u": PROFILE.theta_risk_prone.mean, "layer": 3, "k": 3, "gamma": 1.0}
    for name, theta in (
        (Threshold.RISK_AVERSE, PROFILE.theta_risk_averse),
        (Threshold.RISK_PRONE_BELOW, PROFILE.theta_risk_prone_below),
    ):
        chosen = profile_of(FINDINGS, Choice(name, layer=1, k=7, gamma=1.5), TRACE, SLM, LLM, "")
        assert chosen.knobs == {"theta_u": theta.mean, "layer": 1, "k": 7, "gamma": 1.5}
        assert chosen.risk == FINDINGS.threshold(name).risk


def test_law_that_gives_no_threshold_sets_none():
    u = TRACE.u
    falling = dataclasses.replace(TRACE, reject_prob=(0.9 - 0.5 * u))
    profile = profile_of(Findings.of(falling), Choice(), falling, SLM, LLM, "")
    assert profile.theta_u is None and "theta_u" not in profile.knobs
    assert Profile.from_json(profile.to_json()) == profile
    assert any("does not grow" in warning for warning in profile.warnings)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"a": 0.7}, "a cannot be 0.7"),
        ({"a": {"mean": 0.7}}, "a must be an object like Interval"),
        ({"a": {"mean": "x", "low": 0, "high": 1}}, r"a\.mean cannot be 'x'"),
        ({"a": {"mean": 0.7, "low": 0, "high": 1, "colour": 2}}, "a has the unknown 'colour'"),
        ({"layer": 1.5}, "layer cannot be 1.5"),
        ({"layer": True}, "layer cannot be True"),
        ({"theta_u": "0.5"}, "theta_u cannot be '0.5'"),
        ({"slm": None}, "slm cannot be None"),
        ({"warnings": [1]}, "warnings cannot be"),
        ({"format": 2}, "format 1, got 2"),
        ({"colour": "red"}, r"unknown \['colour'\]"),
    ],
)
def test_profile_that_is_not_one_is_refused(tmp_path, change, sentence):
    path = tmp_path / "profile.json"
    path.write_text(json.dumps({**json.loads(PROFILE.to_json()), **change}))
    with pytest.raises(ProfileError, match=sentence) as refusal:
        load_profile(path)
    assert str(path) in str(refusal.value)


def test_missing_fields_files_and_broken_json_are_refused(tmp_path):
    with pytest.raises(ProfileError, match=r"no profile at .*profile\.json: make one with"):
        load_profile(tmp_path)
    path = tmp_path / "p.json"
    for text, sentence in (
        ("{", "not valid JSON"),
        ("[1]", "JSON object, got list"),
        ('{"format": 1}', r"lacks \['a', 'b'"),
    ):
        path.write_text(text)
        with pytest.raises(ProfileError, match=sentence):
            load_profile(path)


def test_whole_numbers_are_read_as_floats():
    values = {**json.loads(PROFILE.to_json()), "gamma": 1, "theta_u": 0}
    profile = Profile.from_json(json.dumps(values))
    assert (type(profile.gamma), profile.theta_u, type(profile.theta_u)) == (float, 0.0, float)


def test_another_pair_is_refused_and_an_unknown_one_warned_of():
    assert PROFILE.check_models("5" * 64, "7" * 64) == []
    with pytest.raises(ProfileError, match="another drafter"):
        PROFILE.check_models("6" * 64, "7" * 64)
    with pytest.raises(ProfileError, match="another LLM"):
        PROFILE.check_models("5" * 64, "8" * 64)
    (warning,) = PROFILE.check_models("5" * 64, None)
    assert "LLM an LLM" in warning and "cannot be told" in warning


@pytest.mark.parametrize(
    ("decode", "named"),
    [
        (DecodeSettings(Sampling(1.0)), "temperature 0.6, this run has 1.0"),
        (DecodeSettings(Sampling(0.6, top_k=5)), "top-k 0, this run has 5"),
        (DecodeSettings(Sampling(0.6, top_p=0.5)), "top-p 1.0, this run has 0.5"),
        (DecodeSettings(Sampling(0.6), estimator=Estimator.MONTE_CARLO), "estimator expected"),
    ],
)
def test_other_settings_are_warned_of(decode, named):
    (warning,) = PROFILE.check_settings(RunConfig(decode=decode))
    assert named in warning
    assert PROFILE.check_settings(RunConfig()) == []


def test_document_is_plain_json_with_every_curve():
    content = document(FINDINGS, PROFILE, TRACE, [(3, "too long")])
    assert json.loads(json.dumps(content, allow_nan=False)) is not None
    assert len(content["importance"]) == 4 * 9
    assert [rate["k"] for rate in content["importance"][0]["upload_rates"]] == [3, 5, 7, 9, 11]
    assert content["failed"] == [{"prompt": 3, "error": "too long"}]
    assert content["profile"]["a"]["mean"] == content["law"]["probability"]["a"]["mean"]
