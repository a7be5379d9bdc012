"""The upload rules as truth tables; what each must be told; policies of other packages."""

from importlib.metadata import EntryPoint

import pytest

from uihlm_device.rules import policies
from uihlm_device.rules.policies import ENTRY_POINT_GROUP, Evidence, Mode, Needs, PolicySettings, Rule, names, policy
from uihlm_proto.errors import InvalidRequestError
from uihlm_proto.randomness import Role, session_key, uniform

SETTINGS = PolicySettings(theta_u=0.5, k=3, theta_c=0.4, rate=0.25)
BUILT_IN = ["llm", "slm", "hlm", "u", "i", "ui", "confidence", "random", "u-random", "learned"]


def evidence(u=None, importance=None, x_d=0.9, thin=0.9):
    return Evidence(draft=1, x_d=x_d, thin=thin, u=u, importance=importance, logits=None, hidden=None)


LOW, AT, HIGH = 0.4, 0.5, 0.6


@pytest.mark.parametrize(
    ("name", "case", "uploads"),
    [
        ("llm", {}, False),
        ("llm", {"x_d": 0.01, "thin": 0.01}, False),
        ("slm", {}, False),
        ("slm", {"x_d": 0.01, "thin": 0.01}, False),
        ("hlm", {}, True),
        ("hlm", {"x_d": 1.0, "thin": 0.99}, True),
        ("u", {"u": LOW}, False),
        ("u", {"u": AT}, False),
        ("u", {"u": HIGH}, True),
        ("i", {"importance": 0}, False),
        ("i", {"importance": 2}, False),
        ("i", {"importance": 3}, True),
        ("i", {"importance": 30}, True),
        ("ui", {"u": LOW, "importance": 2}, False),
        ("ui", {"u": LOW, "importance": 3}, False),
        ("ui", {"u": HIGH, "importance": 2}, False),
        ("ui", {"u": HIGH, "importance": 3}, True),
        ("ui", {"u": AT, "importance": 3}, False),
        ("confidence", {"x_d": 0.7}, False),
        ("confidence", {"x_d": 0.5}, True),
        ("confidence", {"x_d": 0.0}, True),
        ("random", {"thin": 0.2}, True),
        ("random", {"thin": 0.25}, False),
        ("random", {"thin": 0.3}, False),
        ("u-random", {"u": HIGH, "thin": 0.2}, True),
        ("u-random", {"u": HIGH, "thin": 0.3}, False),
        ("u-random", {"u": LOW, "thin": 0.2}, False),
        ("u-random", {"u": LOW, "thin": 0.3}, False),
    ],
)
def test_truth_table(name, case, uploads):
    assert policy(name, SETTINGS).uploads(evidence(**case)) is uploads


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("llm", Needs.NOTHING),
        ("slm", Needs.NOTHING),
        ("hlm", Needs.NOTHING),
        ("u", Needs.UNCERTAINTY),
        ("i", Needs.IMPORTANCE),
        ("ui", Needs.UNCERTAINTY | Needs.IMPORTANCE),
        ("confidence", Needs.DRAFT),
        ("random", Needs.COIN),
        ("u-random", Needs.UNCERTAINTY | Needs.COIN),
    ],
)
def test_a_policy_declares_what_it_needs_and_no_more(name, needs):
    rule = policy(name, SETTINGS)
    assert rule.needs == needs
    # What it did not declare may be missing; what it declared may not.
    told = evidence(u=0.9 if Needs.UNCERTAINTY in needs else None, importance=9 if Needs.IMPORTANCE in needs else None)
    assert isinstance(rule.uploads(told), bool)


def test_who_writes():
    modes = {name: policy(name, SETTINGS).mode for name in BUILT_IN if name != "learned"}
    assert {name for name, mode in modes.items() if mode is Mode.LLM_ALONE} == {"llm"}
    assert {name for name, mode in modes.items() if mode is Mode.DEVICE_ALONE} == {"slm"}


@pytest.mark.parametrize("name", ["random", "u-random"])
@pytest.mark.parametrize(("rate", "share"), [(0.0, 0.0), (0.3, 0.3), (1.0, 1.0)])
def test_thinning_uploads_at_its_rate(name, rate, share):
    rule = policy(name, PolicySettings(rate=rate))
    key = session_key(0, 0)
    coins = [uniform(key, Role.THIN, position) for position in range(2000)]
    uploaded = sum(rule.uploads(evidence(u=0.9, thin=coin)) for coin in coins)
    assert uploaded / len(coins) == pytest.approx(share, abs=0.04 if 0 < rate < 1 else 0)


def test_a_larger_rate_uploads_a_superset():
    """Common random numbers: raising the rate adds uploads and takes none away."""
    coins = [uniform(session_key(0, 0), Role.THIN, position) for position in range(300)]
    few, many = (
        {i for i, coin in enumerate(coins) if policy("random", PolicySettings(rate=rate)).uploads(evidence(thin=coin))}
        for rate in (0.2, 0.5)
    )
    assert few < many


def test_the_names_are_those_of_the_paper_and_its_rivals():
    assert names()[: len(BUILT_IN)] == BUILT_IN


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(InvalidRequestError, match="unknown policy 'uii'") as raised:
        policy("uii", SETTINGS)
    assert all(name in str(raised.value) for name in BUILT_IN)


def every_other(settings):
    """A policy of another package: uploads even ids, and reads the settings."""
    return Rule(lambda e: e.draft % 2 == 0 and settings.k == 3, Needs.LOGITS)


@pytest.fixture
def another_package(monkeypatch):
    def entry_points(group):
        assert group == ENTRY_POINT_GROUP == "uihlm.policies"
        return [
            EntryPoint("every-other", f"{__name__}:every_other", group),
            # A built-in name cannot be taken over.
            EntryPoint("hlm", "no.such.module:policy", group),
        ]

    monkeypatch.setattr(policies, "entry_points", entry_points)


def test_a_policy_of_another_package_is_found_by_its_entry_point(another_package):
    rule = policy("every-other", SETTINGS)
    assert rule.needs is Needs.LOGITS
    # evidence() drafts token 1, which is odd.
    assert rule.uploads(evidence()) is False
    assert names() == [*BUILT_IN, "every-other"]
    with pytest.raises(InvalidRequestError, match="every-other"):
        policy("nonesuch", SETTINGS)


def test_a_built_in_policy_cannot_be_taken_over(another_package):
    assert policy("hlm", SETTINGS).uploads(evidence()) is True
