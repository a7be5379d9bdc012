"""The settings of a run: plain in a file, and told apart by a digest whichever of them changes."""

from __future__ import annotations

import dataclasses
import enum
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from uihlm_device.outages.outage import OnOutage, Outage
from uihlm_device.rules.policies import PolicySettings
from uihlm_device.rules.predictor import LearnedFile
from uihlm_evaluation.runs.configuration import DEFAULT_POLICIES, RunConfig, Selection, differences
from uihlm_evaluation.runs.rows import Row
from uihlm_proto.errors import InvalidRequestError
from uihlm_wireless.settings import profile
from uihlm_wireless.trace_file import LinkTrace

# Settings that are absent by default and take no number.
GIVEN = {
    "learned": LearnedFile("learned.npz", "0" * 64),
    "outage": Outage(OnOutage.LOCAL, 3.0),
    "trace": LinkTrace("t.csv", "0" * 64),
}
# What a setting cannot be without.
COMPANY = {"draft_p_min": {"draft_length": 2}}
# A budget of risk is set, so that it may be held; and the LLM waits, as it must behind a tree or a block.
BASE = RunConfig(link=profile("nr"), decode=dataclasses.replace(RunConfig().decode, risk=0.2, run_on=False))


def changed(value: Any) -> Any:
    """Another value of the same kind, inside every range that settings check."""
    if isinstance(value, enum.Enum):
        return next(member for member in type(value) if member is not value)
    if value is None:
        return 5
    if isinstance(value, float):
        return value / 2 or 0.5
    if isinstance(value, int):
        return value + 1
    return value[::-1] or (Row.of("u"),)  # a text or a tuple


def variants(settings: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every (dotted name, settings with that one value changed)."""
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            for name, inner in variants(value, f"{prefix}{field.name}."):
                yield name, dataclasses.replace(settings, **{field.name: inner})
        else:
            other = GIVEN.get(field.name) or changed(value)
            company = COMPANY.get(field.name, {})
            yield prefix + field.name, dataclasses.replace(settings, **{field.name: other}, **company)


VARIANTS = dict(variants(BASE))


def test_defaults_are_the_papers():
    config = RunConfig()
    assert config.policies == DEFAULT_POLICIES == ("slm", "llm", "hlm", "u", "i", "ui")
    assert (config.codec, config.decode.max_tokens, config.decode.sampling.temperature) == ("dense32", 96, 0.6)
    assert (config.rules.theta_u, config.rules.k, config.decode.gamma) == (0.58, 3, 1.0)
    assert config.link == profile("paper")


def test_settings_are_plain_json():
    plain = RunConfig(link=profile("nr")).to_dict()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert plain["clock"] == "simulated"
    assert plain["link"]["fading"] == "none"
    assert plain["link"]["downlink"]["bandwidth_hz"] == 20e6
    assert plain["policies"] == list(DEFAULT_POLICIES)
    assert plain["timing"] == {"draft_s": None, "forward_s": None, "position_s": 0.0, "draft_position_s": None}


def test_digest_is_a_function_of_the_settings():
    assert RunConfig().digest() == RunConfig().digest()
    assert re.fullmatch("[0-9a-f]{16}", RunConfig().digest())


def test_every_setting_was_varied():
    assert len(VARIANTS) > 40
    assert {"selection.seed", "decode.sampling.top_p", "link.radio.distance_m", "timing.forward_s", "llm"} <= set(
        VARIANTS
    )


@pytest.mark.parametrize("name", VARIANTS)
def test_digest_changes_with_every_setting(name):
    assert VARIANTS[name].digest() != BASE.digest()


def test_digests_of_all_variants_differ():
    assert len({config.digest() for config in VARIANTS.values()}) == len(VARIANTS)


def test_order_of_policies_counts():
    assert RunConfig(policies=("u", "hlm")).digest() != RunConfig(policies=("hlm", "u")).digest()


@pytest.mark.parametrize("name", VARIANTS)
def test_settings_come_back_from_their_plain_form(name):
    plain = json.loads(json.dumps(VARIANTS[name].to_dict()))
    assert RunConfig.from_dict(plain) == VARIANTS[name]


def test_grid_comes_back_as_rows():
    config = RunConfig(grid=(Row.of("u"), Row("ui k=5", "ui", PolicySettings(k=5), 1.5)), link=profile("none"))
    assert RunConfig.from_dict(config.to_dict()) == config


def test_setting_that_came_later_has_its_default():
    plain = RunConfig(codec="coupled").to_dict()
    del plain["timing"], plain["link"]["rtt_s"]
    assert RunConfig.from_dict(plain) == RunConfig(codec="coupled")


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"colour": 1}, "RunConfig has no colour"),
        ({"link": {"tune": 1}}, "LinkSettings has no tune"),
        ({"clock": "sundial"}, "'sundial' is not a valid ClockMode"),
        ({"link": 5}, "not the settings of a run"),
        ({"link": {"rtt_s": -1.0}}, "rtt_s must be"),
    ],
)
def test_strange_settings_are_refused(change, part):
    with pytest.raises(InvalidRequestError, match=part):
        RunConfig.from_dict({**RunConfig().to_dict(), **change})


def test_differences_name_each_setting_that_changed():
    before, now = RunConfig(), RunConfig(codec="dense16", link=profile("none"))
    assert differences(before.to_dict(), before.to_dict()) == []
    changed = differences(before.to_dict(), now.to_dict())
    assert [line.partition(":")[0] for line in changed] == ["codec", "link.radio"]
    assert changed[0] == "codec: dense32 → dense16"


def test_value_that_is_no_setting_is_a_defect():
    with pytest.raises(TypeError, match="object is no setting"):
        RunConfig(llm=object()).to_dict()


@pytest.mark.parametrize("seed", [-(2**63), 2**63 - 1])
def test_seed_of_64_bits_is_taken(seed):
    assert Selection(seed=seed).seed == seed


@pytest.mark.parametrize("seed", [-(2**63) - 1, 2**63])
def test_longer_seed_is_refused(seed):
    with pytest.raises(InvalidRequestError, match="seed must fit 64 bits"):
        Selection(seed=seed)


def test_a_run_without_learned_weights_keeps_the_digest_it_had_before_there_were_any():
    config = RunConfig(grid=(Row.of("u"),))
    assert "learned" not in config.to_dict()["rules"] and "learned" not in config.to_dict()["grid"][0]["rules"]
    assert RunConfig.from_dict(config.to_dict()) == config
