"""What goes wrong between a device and its base station reaches the round that waits, and says what to do."""

import threading
import time

import grpc
import pytest

from fakes import FakeEngine, serving, vocabulary
from gated_streams import CONTRACT, KEY, LOGITS, ONE_DRAFT, V, engine_of, opened
from stations import GatedEngine, Station, eventually
from uihlm_device.stream.client import Connection
from uihlm_device.stream.contract import Contract
from uihlm_device.stream.session import Upload
from uihlm_device.stream.statuses import ERROR
from uihlm_proto.codecs import codec
from uihlm_proto.errors import (
    AccessError,
    ExhaustedError,
    InvalidRequestError,
    MismatchError,
    UihlmError,
    UnavailableError,
)
from uihlm_proto.sampling import Sampling


def test_nobody_at_home_is_an_error_that_says_what_to_do():
    with serving(FakeEngine(LOGITS, V)) as address:
        gone = str(address)
    with Connection(gone, V, timeout_s=10.0) as connection:
        session = connection.session(CONTRACT)
        session.open([1], KEY)
        with pytest.raises(
            UnavailableError, match=f"no base station answers at {gone}: start one with `uihlm-bs serve`"
        ):
            session.ready()
        session.close()
        with pytest.raises(UnavailableError, match=f"no base station answers at {gone}"):
            connection.score(CONTRACT, [1], [2])


def broken_off(code: grpc.StatusCode, words: str) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), words)


@pytest.mark.parametrize(
    ("told", "kind", "said"),
    [
        (grpc.StatusCode.UNAUTHENTICATED, AccessError, "asks for a token"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, ExhaustedError, "asks for a token"),
        # It was let in, so its stream ended for another reason.
        (grpc.StatusCode.FAILED_PRECONDITION, UnavailableError, "Internal error from Core"),
    ],
)
def test_a_stream_refused_while_open_is_written_asks_once_more_why(connection, monkeypatch, told, kind, said):
    class Refused:
        async def Verify(self, requests, metadata):
            raise broken_off(grpc.StatusCode.INTERNAL, "Internal error from Core")
            yield

        async def Score(self, request, timeout, metadata):
            raise broken_off(told, "asks for a token")

    session = connection.session(CONTRACT)
    monkeypatch.setattr(session, "_stub", Refused())
    session.open([1], KEY)
    with pytest.raises(kind, match=said):
        session.ready()


def test_a_wait_has_an_end_and_names_the_base_station(station):
    with Connection(str(station.address), V, timeout_s=0.3) as connection:
        session = opened(connection)
        engine_of(station).gate.clear()
        round_number = session.upload(Upload(0, 4, skipped_ids=[1], generate=1))
        started_s = time.perf_counter()
        with pytest.raises(UnavailableError, match=f"{station.address} has not answered for 0.3 s") as raised:
            session.verdict(round_number)
        assert 0.25 < time.perf_counter() - started_s < 3.0
        assert "--timeout" in str(raised.value)
        # The wait ended, the stream did not: the verdict may still come.
        engine_of(station).gate.set()
        assert session.verdict(round_number).last
        session.close()


def test_a_refusal_reaches_the_waiting_round_in_the_base_stations_words(connection, station):
    session = opened(connection)
    round_number = session.upload(Upload(0, 77, payloads=ONE_DRAFT))
    with pytest.raises(
        InvalidRequestError, match="first_position is 77, but the ids sent so far end at 3: out of step"
    ):
        session.verdict(round_number)
    # Whatever is asked afterwards gets the same answer at once, not a wait.
    with pytest.raises(InvalidRequestError, match="out of step"):
        session.verdict(session.upload(Upload(0, 3, payloads=ONE_DRAFT)))
    session.close()
    assert eventually(lambda: station.sessions == 0)


def test_a_refusal_reaches_every_round_in_flight(connection, station):
    session = connection.session(CONTRACT)
    engine_of(station).gate.clear()
    session.open([1, 2, 3], KEY)
    rounds = [session.upload(Upload(0, position, payloads=ONE_DRAFT)) for position in (77, 78, 79)]
    # All are sent before the first is refused: grpc.aio forgets the status if a write fails after it (grpc/grpc#36066).
    time.sleep(0.2)
    engine_of(station).gate.set()
    session.ready()
    for round_number in rounds:
        with pytest.raises(InvalidRequestError, match="first_position is 77"):
            session.verdict(round_number)


def test_a_base_station_that_dies_reaches_the_waiting_round():
    engine = GatedEngine(LOGITS, V)
    station = Station(engine, 4)
    address = station.run(station.server.start())
    with Connection(str(address), V, timeout_s=10.0) as connection:
        session = opened(connection)
        engine.gate.clear()
        round_number = session.upload(Upload(0, 4, skipped_ids=[1], generate=1))
        waited = []

        def wait():
            try:
                session.verdict(round_number)
            except UihlmError as error:
                waited.append(error)

        waiting = threading.Thread(target=wait)
        waiting.start()
        stopping = station.spawn(station.server.stop(grace_s=0.0))
        waiting.join(5)
        assert [type(error) for error in waited] == [UnavailableError]
        engine.gate.set()
        stopping.result(10)
    station.shut()


def test_another_tokenizer_is_a_mismatch(connection):
    session = connection.session(Contract(vocabulary(99), Sampling(), codec("dense32", V)))
    session.open([1], KEY)
    with pytest.raises(MismatchError, match="use two models with one tokenizer"):
        session.ready()


def test_a_full_base_station_is_exhausted(connection):
    held = [opened(connection) for _ in range(2)]
    late = connection.session(CONTRACT)
    late.open([1], KEY)
    with pytest.raises(ExhaustedError, match="all 2 sessions are taken"):
        late.ready()
    for session in held:
        session.close()


class Faulty(grpc.aio.StreamStreamClientInterceptor):
    """An interceptor with a defect."""

    async def intercept_stream_stream(self, continuation, client_call_details, request_iterator):
        call = await continuation(client_call_details, request_iterator)

        async def answers():
            async for response in call:
                if response.HasField("verdict"):
                    raise ZeroDivisionError("a defect in the link")
                yield response

        return answers()


def test_a_defect_on_the_way_reaches_the_waiting_round_and_not_the_time_out(station):
    with Connection(str(station.address), V, [Faulty()], timeout_s=5.0) as connection:
        session = opened(connection)
        round_number = session.upload(Upload(0, 3, payloads=ONE_DRAFT))
        started_s = time.perf_counter()
        with pytest.raises(Exception, match="a defect in the link"):
            session.verdict(round_number)
        assert time.perf_counter() - started_s < 4.0


def test_every_status_of_the_protocol_has_an_error():
    named = {"INVALID_ARGUMENT", "FAILED_PRECONDITION", "RESOURCE_EXHAUSTED", "UNAVAILABLE"}
    assert named <= {status.name for status in ERROR}
    assert all(issubclass(error, UihlmError) for error in ERROR.values())
