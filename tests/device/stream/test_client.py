"""The device's end of the stream: order, the ends of waits, scores, and what reaches the base station."""

import gc
import sys
import threading
import time

import numpy as np
import pytest

from fakes import FakeEngine, fixed, serving, vocabulary
from gated_streams import CONTRACT, KEY, LOGITS, ONE_DRAFT, V, engine_of, opened
from stations import eventually
from uihlm_device.stream.client import Connection
from uihlm_device.stream.contract import Contract
from uihlm_device.stream.session import Upload
from uihlm_proto.codecs import codec
from uihlm_proto.errors import (
    InvalidRequestError,
    MismatchError,
    UnavailableError,
)
from uihlm_proto.randomness import session_key
from uihlm_proto.sampling import Sampling


def test_a_round_trip(connection, station):
    session = opened(connection)
    verdict = session.verdict(session.upload(Upload(0, 5, context_ids=[4], skipped_ids=[5], payloads=ONE_DRAFT)))
    p = np.exp(LOGITS([1, 2, 3, 4, 5]).astype(float))
    assert verdict.y_d == pytest.approx((p[0] / p.sum(),), rel=1e-5)
    assert verdict.reject_prob == pytest.approx((1 - p[0] / p.sum(),), rel=1e-5)
    assert verdict.tv == pytest.approx((1 - p[0] / p.sum(),), rel=1e-5)
    assert (verdict.accepted == 1) == (verdict.token is None)
    assert (verdict.cost.forwards, verdict.cost.positions) == (1, 2)
    assert verdict.last and not verdict.stale
    session.close()
    assert station.sessions == 0


def test_ready_tells_the_cost_of_the_prefill(connection):
    session = connection.session(CONTRACT)
    session.open([1, 2, 3, 4], KEY)
    cost = session.ready()
    assert (cost.forwards, cost.positions) == (1, 4)
    assert cost.forward_s > 0.0


def test_a_generate_round_has_one_verdict_a_token(connection):
    session = opened(connection)
    round_number = session.upload(Upload(0, 3, generate=4))
    verdicts = [session.verdict(round_number) for _ in range(4)]
    assert [v.last for v in verdicts] == [False, False, False, True]
    assert all(v.token is not None and v.accepted == 0 and v.y_d == () for v in verdicts)


def test_rounds_are_numbered_across_sessions(connection):
    first, second = connection.session(CONTRACT), connection.session(CONTRACT)
    rounds = [first.open([1], KEY), second.open([1], KEY)]
    first.ready(), second.ready()
    rounds += [first.upload(Upload(0, 1, generate=1)), second.upload(Upload(0, 1, generate=1))]
    assert rounds == sorted(set(rounds))
    # Read in the other order: each finds its own.
    assert second.verdict(rounds[3]).token == first.verdict(rounds[2]).token


def test_an_upload_does_not_wait(connection, station):
    session = opened(connection)
    engine_of(station).gate.clear()
    started_s = time.perf_counter()
    round_number = session.upload(Upload(0, 3, generate=1, skipped_ids=[]))
    later = session.upload(Upload(0, 4, generate=1))
    assert time.perf_counter() - started_s < 1.0
    engine_of(station).gate.set()
    assert session.verdict(later).last and session.verdict(round_number).last


def test_closing_with_a_round_open_hangs_up_and_frees_the_session(connection, station):
    session = opened(connection)
    engine_of(station).gate.clear()
    engine_of(station).entered.clear()
    session.upload(Upload(0, 4, skipped_ids=[1], generate=500))
    assert engine_of(station).entered.wait(5)
    started_s = time.perf_counter()
    session.close()
    assert time.perf_counter() - started_s < 3.0
    assert eventually(lambda: station.sessions == 0)
    engine_of(station).gate.set()
    assert eventually(lambda: not engine_of(station).sessions)


def test_closing_waits_until_the_session_is_free(connection, station):
    """Two sessions at once are allowed here: without the wait, the third of a row would now and then be refused."""
    for _ in range(20):
        sessions = [opened(connection) for _ in range(2)]
        for session in sessions:
            session.close()
    assert station.sessions == 0


def test_closing_twice_does_nothing(station):
    connection = Connection(str(station.address), V)
    session = opened(connection)
    session.close()
    session.close()
    connection.session(CONTRACT).close()  # never opened
    connection.close()
    connection.close()
    assert connection.closed
    assert eventually(lambda: station.sessions == 0)


def test_a_session_may_be_closed_after_its_connection(station):
    connection = Connection(str(station.address), V)
    session = opened(connection)
    connection.close()
    session.close()
    assert eventually(lambda: station.sessions == 0)


def test_a_closed_connection_leaves_no_thread(station):
    def channels():
        return {thread for thread in threading.enumerate() if thread.name == "uihlm-channel"}

    before = channels()
    connection = Connection(str(station.address), V)
    opened(connection)
    assert len(channels() - before) == 1
    connection.close()
    assert channels() == before


def test_a_closed_connection_leaves_no_task_behind(station, caplog, monkeypatch):
    """What is left pending on a closed loop complains whenever the collector finds it, in the middle of anything."""
    complaints = []
    monkeypatch.setattr(sys, "unraisablehook", complaints.append)
    connection = Connection(str(station.address), V)
    opened(connection)
    waiting = opened(connection)
    waiting.upload(Upload(0, 3, generate=2))
    connection.close()
    del connection, waiting
    gc.collect()
    assert complaints == []
    assert [record.getMessage() for record in caplog.records] == []


def test_a_renewed_channel_leaves_the_streams_of_others_alone(connection, station):
    """One session finds its link dead; another one on the same channel has a round under way."""
    other, lost = opened(connection), opened(connection)
    engine = engine_of(station)
    engine.gate.clear()
    number = other.upload(Upload(0, 3, generate=3))
    lost.hang_up(dead=True)
    engine.gate.set()
    assert [other.verdict(number).last for _ in range(3)] == [False, False, True]
    assert eventually(lambda: station.sessions == 1)
    again = opened(connection)
    assert again.verdict(again.upload(Upload(0, 3, generate=1))).token is not None
    for session in (other, again):
        session.close()
    assert eventually(lambda: station.sessions == 0)


def test_a_score_outlives_a_renewed_channel(connection, station):
    lost, engine, scores = opened(connection), engine_of(station), []
    engine.gate.clear()
    scoring = threading.Thread(target=lambda: scores.append(connection.score(CONTRACT, [1, 2], [3])))
    scoring.start()
    assert eventually(lambda: station.sessions == 2)
    lost.hang_up(dead=True)
    engine.gate.set()
    scoring.join(10.0)
    assert len(scores) == 1


def test_a_score_on_a_connection_that_closes_is_an_error_of_ours(connection, station):
    engine, said = engine_of(station), []

    def score():
        try:
            connection.score(CONTRACT, [1, 2], [3])
        except UnavailableError as error:
            said.append(str(error))

    engine.gate.clear()
    scoring = threading.Thread(target=score)
    scoring.start()
    assert eventually(lambda: station.sessions == 1)
    connection.close()
    scoring.join(10.0)
    engine.gate.set()
    assert len(said) == 1 and "closed" in said[0]


def test_scores_come_through_the_connection(connection):
    z = LOGITS([1, 2]).astype(float)
    assert connection.score(CONTRACT, [1, 2], [3]) == pytest.approx([z[3] - np.log(np.exp(z).sum())], abs=1e-5)
    with pytest.raises(InvalidRequestError, match="context_ids is empty"):
        connection.score(CONTRACT, [], [3])
    with pytest.raises(MismatchError):
        connection.score(Contract(vocabulary(99), Sampling(), CONTRACT.codec), [1], [3])


def test_the_sampling_contract_and_the_key_reach_the_base_station():
    """Greedy takes the likeliest; a warm contract with another key takes others too."""
    with serving(FakeEngine(fixed([0.1, 0.2, 0.4, 0.3]), 4)) as address, Connection(str(address), 4) as connection:

        def tokens(sampling, key):
            session = connection.session(Contract(vocabulary(4), sampling, codec("coupled", 4)))
            session.open([1], key)
            session.ready()
            number = session.upload(Upload(0, 1, generate=60))
            written = [session.verdict(number).token for _ in range(60)]
            session.close()
            return written

        assert set(tokens(Sampling(0.0), KEY)) == {2}
        assert set(tokens(Sampling(1.0), KEY)) == {0, 1, 2, 3}
        assert set(tokens(Sampling(1.0, top_k=2), KEY)) == {2, 3}
        assert set(tokens(Sampling(1.0, top_p=0.85), KEY)) == {1, 2, 3}
        assert tokens(Sampling(1.0), KEY) == tokens(Sampling(1.0), KEY) != tokens(Sampling(1.0), session_key(0, 1))
