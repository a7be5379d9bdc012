"""Waits for a lost base station: how long, how spread, and what is called again."""

import random
import time

import pytest

from uihlm_device.outages.outage import Backoff, OnOutage, Outage, insist
from uihlm_device.rules.policies import Mode
from uihlm_proto.errors import ExhaustedError, InvalidRequestError, MismatchError, UnavailableError


def test_pauses_double_up_to_the_longest_and_start_anew():
    backoff = Backoff(first_s=0.1, longest_s=1.0, dice=random.Random(1))
    for whole_s in (0.1, 0.2, 0.4, 0.8, 1.0, 1.0):
        assert whole_s / 2 <= backoff.pause_s() <= whole_s
    backoff.over()
    assert backoff.pause_s() <= 0.1


def test_devices_do_not_come_back_in_one_moment():
    pauses = [Backoff(first_s=1.0).pause_s() for _ in range(50)]
    assert len(set(pauses)) == 50
    assert max(pauses) - min(pauses) > 0.3


def test_full_base_station_says_when_to_come_back():
    assert Backoff(first_s=0.1).pause_s(ExhaustedError("full", 7.0)) > 7.0
    assert Backoff(first_s=0.1).pause_s(ExhaustedError("full")) <= 0.1


def test_wait_has_a_default_for_each_rule():
    assert Outage(OnOutage.LOCAL).bound_s == 10.0
    assert Outage(OnOutage.WAIT).bound_s == 300.0
    assert Outage(OnOutage.LOCAL, 2.5).bound_s == 2.5


@pytest.mark.parametrize("patience_s", [0.0, -1.0, float("inf"), float("nan")])
def test_wait_that_is_no_time_is_refused(patience_s):
    with pytest.raises(InvalidRequestError, match="above 0 s and finite"):
        Outage(OnOutage.WAIT, patience_s)


def test_without_a_drafter_there_is_nothing_to_go_on_with():
    assert Outage(OnOutage.LOCAL).under(Mode.LLM_ALONE) == Outage(OnOutage.WAIT)
    assert Outage(OnOutage.LOCAL, 2.0).under(Mode.EVERY_TOKEN) == Outage(OnOutage.LOCAL, 2.0)


@pytest.mark.parametrize("error", [UnavailableError("gone"), ExhaustedError("full", 0.01)])
def test_call_is_made_until_it_is_answered(error):
    calls = []

    def call() -> int:
        calls.append(1)
        if len(calls) < 3:
            raise error
        return 5

    assert insist(call, Outage(OnOutage.WAIT, 10.0)) == 5
    assert len(calls) == 3


def test_call_is_given_up_once_the_wait_is_over():
    def call() -> None:
        raise UnavailableError("gone")

    started_s = time.monotonic()
    with pytest.raises(UnavailableError, match="gone"):
        insist(call, Outage(OnOutage.WAIT, 0.2))
    assert time.monotonic() - started_s <= 0.25


def test_what_no_repetition_mends_is_raised_at_once():
    def call() -> None:
        raise MismatchError("another model")

    with pytest.raises(MismatchError):
        insist(call, Outage(OnOutage.WAIT, 10.0))
