"""Policies on a trace: they upload what they would have uploaded."""

import numpy as np
import pytest

from fakes import Bench, FakeDrafter, FakeEngine, contextual, serving
from trace_packs import lawful_pack, telling_pack, with_columns
from uihlm_device.rules import policies as rules
from uihlm_device.rules.policies import Needs, PolicySettings, Rule
from uihlm_evaluation.calibration.trace import TraceError
from uihlm_evaluation.traces.policies import decisions
from uihlm_evaluation.traces.rules import RuleError
from uihlm_proto.errors import InvalidRequestError

PACK = lawful_pack(4, 10)
TRACE = PACK.trace
SETTINGS = PolicySettings(theta_u=0.4, k=2, theta_c=0.3, rate=0.3)


def test_thresholds_are_those_of_the_policy():
    counts = np.zeros((40, 4, 3, 3), np.uint16)
    counts[:, 3, 0, 1] = np.arange(40) % 4
    trace = with_columns(PACK, counts=counts).trace
    uncertain, important = trace.u > 0.4, np.arange(40) % 4 >= 2
    for name, expected in (
        ("u", uncertain), ("i", important), ("ui", uncertain & important), ("hlm", uncertain | ~uncertain),
        ("slm", uncertain & ~uncertain), ("confidence", 1 - trace.x_d > 0.3),
    ):  # fmt: skip
        np.testing.assert_array_equal(decisions(name, trace, 0, SETTINGS), expected, err_msg=name)


def test_a_sampled_u_that_equals_the_threshold_is_not_above_it():
    u = np.array([0.25, 0.3, 0.35] * 14, np.float32)[:40]
    trace = with_columns(PACK, u=u).trace
    chosen = decisions("u", trace, 0, PolicySettings(theta_u=0.3))
    np.testing.assert_array_equal(chosen, u > 0.32)


def test_the_coin_is_the_one_the_device_tosses():
    """The same prompts and positions under the real loop: the same tokens uploaded, whatever stands there."""
    v, seed = 16, 5
    with serving(FakeEngine(contextual(v, 2), v)) as address, Bench(address, FakeDrafter(contextual(v, 1), v)) as bench:
        for index in range(4):
            records = bench.run("random", list(range(10)), seed, index, max_tokens=10, settings=SETTINGS)
            live = [record.uploaded for record in records]
            mine = TRACE.prompt == index
            assert [record.position for record in records] == TRACE.position[mine].tolist()
            assert decisions("random", TRACE, seed, SETTINGS)[mine].tolist() == live


def test_what_a_trace_cannot_tell_is_refused(monkeypatch):
    monkeypatch.setitem(rules._BUILT_IN, "logits", lambda settings: Rule(lambda evidence: True, Needs.LOGITS))
    monkeypatch.setitem(rules._BUILT_IN, "hidden", lambda settings: Rule(lambda evidence: True, Needs.HIDDEN))
    with pytest.raises(RuleError, match="logits needs every logit, of which a trace keeps the largest 64"):
        decisions("logits", TRACE, 0)
    with pytest.raises(TraceError, match="hidden reads hidden states, which this pack was made without"):
        decisions("hidden", TRACE, 0)
    assert decisions("hidden", telling_pack(2, 3).trace, 0).all()
    with pytest.raises(RuleError, match="llm uploads no drafts"):
        decisions("llm", TRACE, 0)
    with pytest.raises(InvalidRequestError, match="unknown policy 'x'"):
        decisions("x", TRACE, 0)
