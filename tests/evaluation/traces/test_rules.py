"""Rules: what they see, where they are found, and what they must give."""

import dataclasses
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from trace_packs import lawful_pack, telling_pack, with_columns
from uihlm_device.rules.policies import Evidence, Needs, PolicySettings
from uihlm_evaluation.calibration.trace import Trace, TraceError
from uihlm_evaluation.traces import rules
from uihlm_evaluation.traces.columns import VERDICT
from uihlm_evaluation.traces.pack import Side
from uihlm_evaluation.traces.rules import RuleError, Seen, importance, names, numbers

PACK = lawful_pack(6, 10)
SEEN = Seen.of(PACK.trace)


def scores(name, pack=PACK):
    return numbers(name, lambda: pack.side(Side.TRAIN), Seen.of(pack.trace))


def test_a_rule_sees_every_column_but_the_verdict():
    seen, traced = ({field.name for field in dataclasses.fields(kind)} for kind in (Seen, Trace))
    assert traced - seen == VERDICT
    assert SEEN.u is PACK.trace.u and len(SEEN) == 60


def test_built_in_rules_are_their_formulas():
    trace = PACK.trace
    np.testing.assert_array_equal(scores("u"), trace.u)
    np.testing.assert_allclose(scores("confidence"), 1.0 - trace.x_d)
    np.testing.assert_array_equal(scores("entropy"), trace.entropy_nat)
    assert not scores("random").any()


def counted(counts):
    """A pack of which layer 3 of 4, the default, has these counts at γ = 1 in reading heads."""
    shaped = np.zeros((60, 4, 3, 3), np.uint16)
    shaped[:, 3, 0, 1] = counts
    shaped[:, 3, 0, 0] = 99 - np.asarray(counts)
    return with_columns(PACK, counts=shaped)


def test_importance_is_the_count_of_the_default_layer():
    counts = np.arange(60)
    np.testing.assert_array_equal(scores("i", counted(counts)), counts)
    np.testing.assert_array_equal(importance(counted(counts).trace, gamma=0.5), 99 - counts)
    with pytest.raises(TraceError, match="no counts of reading heads at γ = 7"):
        importance(PACK.trace, gamma=7.0)
    with pytest.raises(TraceError, match="4 layers, got layer 4"):
        importance(PACK.trace, layer=4)


def test_ui_puts_important_tokens_first_and_orders_each_part_by_u():
    counts = np.arange(60) % 5
    order = np.argsort(-scores("ui", counted(counts)), kind="stable")
    important = counts[order] >= 3
    assert important[:24].all() and not important[24:].any()
    for part in (order[:24], order[24:]):
        assert (np.diff(PACK.trace.u[part]) <= 0).all()


def test_learned_is_fitted_to_the_train_side_alone():
    pack = telling_pack()
    held = pack.held_out
    learned = scores("learned", pack)
    assert np.corrcoef(learned[held], pack.trace.reject_prob[held])[0, 1] > 0.9
    # Other verdicts on the held-out side change nothing; on the train side they do.
    for which, changes in ((held, False), (~held, True)):
        beta = pack.trace.reject_prob.copy()
        beta[which] = 1.0 - beta[which]
        assert np.allclose(scores("learned", with_columns(pack, reject_prob=beta)), learned) is not changes


def test_learned_says_what_it_lacks():
    with pytest.raises(TraceError, match="holds no hidden states"):
        scores("learned")


# The rule that docs/add-a-rule.md tells its reader to write, and the policy that it becomes in docs/add-a-policy.md.
DOCS = Path(__file__).parents[3] / "docs"
RULE, POLICY = (
    re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)[0]
    for page in ("add-a-rule.md", "add-a-policy.md")
)


def expected_margin():
    best = np.exp(PACK.trace.top_logits[:, :2] - PACK.trace.log_sum[:, None])
    return best[:, 1] - best[:, 0]


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package of somebody else, as an installer would leave it."""
    (tmp_path / "theirs.py").write_text(RULE)
    metadata = tmp_path / "theirs-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[uihlm.rules]\nmargin = theirs:margin\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("theirs", None)


def test_a_rule_of_another_package_is_found_by_its_entry_point(installed):
    assert names() == [*rules.BUILT_IN, "margin"]
    np.testing.assert_allclose(scores("margin"), expected_margin())


def test_without_that_package_there_is_no_such_rule():
    with pytest.raises(
        RuleError, match=r"unknown rule 'margin': known are u, confidence, .*entry point in group uihlm\.rules"
    ):
        scores("margin")


def test_a_rule_is_found_in_a_module_and_in_a_file(installed, tmp_path):
    for name in ("theirs:margin", f"{tmp_path / 'theirs.py'}:margin"):
        np.testing.assert_allclose(scores(name), expected_margin())


@pytest.mark.parametrize("name", ["nowhere:rule", "theirs:no", "gone.py:rule", ":rule"])
def test_a_rule_that_cannot_be_loaded_says_why(installed, name):
    with pytest.raises(RuleError, match=f"rule {name} cannot be loaded: "):
        scores(name)


def test_a_rule_that_is_fitted_is_given_the_train_side(installed, tmp_path):
    given = []

    def rule(seen):
        return np.full(len(seen), given[0].reject_prob.mean())

    def fit(trace):
        given.append(trace)
        return rule

    sys.modules["theirs"] = type(sys)("theirs")
    sys.modules["theirs"].margin = type("Fitted", (), {"fit": staticmethod(fit)})
    assert scores("margin") == pytest.approx(PACK.side(Side.TRAIN).reject_prob.mean())
    assert len(given[0]) == 30 and not set(given[0].prompt.tolist()) & set(PACK.manifest.held_out)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (np.zeros(59), r"one number a token, shape \[60\], got \[59\]"),
        (np.zeros((60, 1)), r"got \[60, 1\]"),
        (np.full(60, np.nan), "gives nan for a token"),
        (np.r_[np.zeros(59), np.inf], "gives inf for a token"),
    ],
)
def test_what_is_no_number_a_token_is_refused(monkeypatch, given, reason):
    monkeypatch.setitem(rules.BUILT_IN, "theirs", lambda seen: given)
    with pytest.raises(RuleError, match=reason):
        scores("theirs")


def test_the_policy_of_the_page_decides_as_its_rule_ranks():
    made: dict = {}
    exec(POLICY, made)
    settings = PolicySettings(theta_c=0.5)
    policy = made["margin"](settings)
    for best, second, uploaded in ((3.0, 2.8, True), (3.0, 1.0, False)):
        logits = np.array([0.0, second, best, -1.0], np.float32)
        assert bool(policy.uploads(Evidence(2, 0.5, None, None, None, logits, None))) is uploaded
    assert policy.needs is Needs.LOGITS
