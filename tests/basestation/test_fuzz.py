"""A live base station stands whatever it is sent; and the fuzzer that says so would notice if it did not."""

import asyncio
import json
import random
import subprocess
import sys
from pathlib import Path

import grpc
import numpy as np
import pytest

from benchmarks.fuzz import campaign as campaigns
from benchmarks.fuzz.campaign import Settings, campaign
from benchmarks.fuzz.engine import TableEngine
from benchmarks.fuzz.growth import ALLOWED, Holdings, grown
from benchmarks.fuzz.messages import right
from benchmarks.fuzz.messages.belief import Belief, Tree
from uihlm_basestation import servicer
from uihlm_proto.errors import InvalidRequestError
from uihlm_proto.v1 import verification_pb2 as pb

ROOT = Path(__file__).parents[2]
# The long run of ten million is by hand: python -m benchmarks.fuzz --messages 10000000 --seed 1
MESSAGES = 100_000


@pytest.mark.slow
def test_a_hundred_thousand_messages_disturb_neither_the_base_station_nor_a_neighbour(tmp_path):
    """In processes of their own: a crash would take the tests along."""
    file = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks.fuzz", "--messages", str(MESSAGES), "--jobs", "2", "--json", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-2000:]}"
    found = json.loads(file.read_text())
    assert found["failures"] == []
    assert found["messages"] >= MESSAGES
    assert found["neighbour_answers"] >= 10
    # What it is for was really sent.
    kinds = {what[:40].strip() for what in found["statuses"]}
    assert {
        "chain",
        "tree",
        "more of a tree",
        "in flight",
        "stale",
        "mutated bytes",
        "odd fields",
        "score",
        "stranger",
        "socket",
    } <= kinds
    assert {"INVALID_ARGUMENT", "FAILED_PRECONDITION", "RESOURCE_EXHAUSTED", "UNAUTHENTICATED", "UNIMPLEMENTED"} <= {
        what[41:] for what in found["statuses"]
    }


def fuzzed(messages=250, engine=None, seed=1, **settings):
    """A short campaign in this process."""
    wanted = Settings(messages, seed, at_once=4, **settings)
    return asyncio.run(campaign(wanted, lambda *told: None, engine or TableEngine()))


def test_a_sound_base_station_passes():
    outcome = fuzzed()
    assert outcome.failures == []
    assert outcome.tally.messages >= 250 and outcome.neighbour_answers >= 1


def test_a_case_played_again_alone_says_and_hears_the_same():
    for number in (3, 7, 11):
        first, again = (fuzzed(10**9, first=number, last=number).tally for _ in range(2))
        assert first.statuses == again.statuses and first.messages == again.messages


def test_more_of_a_tree_that_an_old_epoch_sent_is_not_booked():
    """The base station passes it over, whatever it holds; what a device says next must not rest on it."""
    tree = Tree(epoch=2, first_position=5, tokens=[3, 4], parents=[-1, 0], end=1)
    belief = Belief(opened=True, codec="coupled", ids=[1, 2, 3, 4, 5], epoch=2, tree=tree)
    upload = pb.Upload(epoch=1, first_position=5, drafts=[pb.Draft(payload=b"\x07")], continues=2)
    belief.take(pb.VerifyRequest(upload=upload), [pb.VerifyResponse(verdict=pb.Verdict(stale=True))])
    assert belief.tree == Tree(2, 5, [3, 4], [-1, 0], 1)
    assert right.continued(random.Random(1), belief) is not None


def test_a_wrong_status_is_noticed_and_said_with_the_way_to_play_it_again(monkeypatch):
    monkeypatch.setitem(servicer.STATUS, InvalidRequestError, grpc.StatusCode.INTERNAL)
    failures = fuzzed().failures
    assert any(
        "INTERNAL" in failure and "again: python -m benchmarks.fuzz --seed 1 --case " in failure for failure in failures
    )


class Broken(TableEngine):
    """An engine with a defect, once some forwards have gone well."""

    def __init__(self, defect):
        super().__init__()
        self._left = 60
        self._defect = defect

    def forward(self, work):
        self._left -= 1
        return super().forward(work) if self._left > 0 else self._defect(super(), work)


def _raise(plain, work):
    raise ZeroDivisionError("a defect")


def _others_rows(plain, work):
    return [np.roll(rows, 1, axis=-1) for rows in plain.forward(work)]


@pytest.mark.parametrize(
    ("defect", "sentence"),
    [(_raise, "UNKNOWN.*ZeroDivisionError"), (_others_rows, r"the neighbour's answer \d+ is \[")],
    ids=["an exception nobody knows", "rows of another context"],
)
def test_a_defect_of_the_engine_is_noticed(defect, sentence):
    import re

    failures = fuzzed(2_000, Broken(defect)).failures
    assert any(re.search(sentence, failure) for failure in failures), failures


class Forgetful(TableEngine):
    """Never lets go of a session."""

    def close_session(self, session):
        pass


def test_a_leaked_session_is_noticed(monkeypatch):
    monkeypatch.setattr(campaigns, "_SETTLE_S", 0.5)
    assert any("caches are left" in failure for failure in fuzzed(100, Forgetful()).failures)


def test_a_hang_is_noticed(monkeypatch):
    async def never(*arguments):
        await asyncio.sleep(10)

    monkeypatch.setattr(campaigns, "play", never)
    assert any("hangs for 0.3 s" in failure for failure in fuzzed(10, hang_s=0.3).failures)


@pytest.mark.parametrize("name", Holdings.__slots__)
def test_growth_is_noticed(name):
    first = Holdings(100.0, 1000, 10, 10, 10)
    more = {field: getattr(first, field) for field in Holdings.__slots__}
    more[name] += getattr(ALLOWED, name)
    assert grown(first, Holdings(**more)) == []
    more[name] += 1
    assert [name in sentence for sentence in grown(first, Holdings(**more))] == [True]
