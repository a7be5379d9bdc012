"""What a base station tells of its streams: every round once, with the numbers that its device and its bill have."""

import asyncio
import time

import grpc
import pytest

from fakes import Bench, FakeDrafter, FakeEngine, contextual, mixed
from stations import GatedEngine, RawClient, Station, eventually, opening, standing, upload
from uihlm_basestation.observing.engine import observed_engine
from uihlm_basestation.observing.servicer import ObservedServicer
from uihlm_basestation.observing.telemetry import Ending, Forward, Listeners, Round, RoundKind
from uihlm_device.rules.policies import PolicySettings
from uihlm_device.tokens import Origin
from uihlm_proto.v1 import verification_pb2 as pb
from uihlm_wireless.settings import LinkSettings

V = 12
# With a skipped id before the draft there is something to run: the row after the prefix is at hand.
RUNS = {"skipped_ids": [1], "first_position": 4}
TARGET = contextual(V, salt=1)
DRAFTER = mixed(TARGET, contextual(V, salt=2), 0.4)


class Notes:
    """Keeps what it was told."""

    def __init__(self) -> None:
        self.standing = 0
        self.rounds: list[Round] = []
        self.endings: list[Ending] = []
        self.forwards: list[Forward] = []

    def opened(self) -> None:
        self.standing += 1

    def round(self, round: Round) -> None:
        self.rounds.append(round)

    def ended(self, ending: Ending) -> None:
        self.standing -= ending.stood
        self.endings.append(ending)

    def forward(self, forward: Forward) -> None:
        self.forwards.append(forward)

    def of(self, kind: RoundKind) -> list[Round]:
        return [round for round in self.rounds if round.kind is kind]


def told(
    policy: str,
    codec: str = "dense32",
    seed: int = 0,
    settings: PolicySettings | None = None,
    link: LinkSettings | None = None,
    **decode: int,
):
    """Run one answer and return what was told, the device's records and its bill."""
    notes = Notes()
    with standing(FakeEngine(TARGET, V), telemetry=notes) as station:
        with Bench(station.address, FakeDrafter(DRAFTER, V), codec, link=link) as bench:
            records = bench.run(policy, seed=seed, max_tokens=40, settings=settings, **decode)
            bill = bench.ledger.totals()
        assert eventually(lambda: notes.endings)
    return notes, records, bill


@pytest.mark.parametrize(
    ("policy", "codec", "decode"),
    [
        ("hlm", "dense32", {}),
        ("hlm", "lattice", {"draft_length": 4}),
        ("random", "dense16", {}),
        ("hlm", "coupled", {"tree": 6}),
        ("llm", "coupled", {}),
        ("llm", "coupled", {"stream_interval": 4}),
    ],
)
def test_what_is_told_is_what_the_device_knows(policy, codec, decode):
    notes, records, bill = told(policy, codec, settings=PolicySettings(rate=0.5), **decode)
    origins = [record.origin for record in records]
    assert sum(round.accepted for round in notes.rounds) == origins.count(Origin.ACCEPTED)
    assert sum(round.rejected for round in notes.rounds) == origins.count(Origin.RESAMPLED)
    assert sum(round.generated for round in notes.rounds) == origins.count(Origin.LLM)
    assert sum(round.payload_bit for round in notes.rounds) == bill.payload_bit > 0 or policy == "llm"
    uploaded = len(notes.of(RoundKind.JUDGE)) + len(notes.of(RoundKind.GENERATE))
    assert uploaded == len({record.round for record in records if record.round})
    (opened,) = notes.of(RoundKind.OPEN)
    assert opened.forwards == 1
    assert (notes.endings[0].status, notes.endings[0].stood, notes.standing) == ("OK", True, 0)
    assert notes.endings[0].rounds == len(notes.rounds)
    # A frame is 14 bytes here: five of gRPC, nine of HTTP/2.
    sent = sum(round.request_bytes for round in notes.rounds) + 14 * len(notes.rounds)
    assert sent == bill.uplink_wire_bytes


@pytest.mark.parametrize("seed", range(4))
def test_rejections_are_those_of_the_device_where_a_tree_is_sent_in_several_uploads(seed):
    far = LinkSettings(radio=None, rtt_s=0.15)
    notes, records, bill = told("hlm", "coupled", seed, link=far, tree=3, in_flight=6)
    origins = [record.origin for record in records]
    assert notes.of(RoundKind.STALE), "nothing was sent beside the LLM's way"
    assert sum(round.rejected for round in notes.rounds) == origins.count(Origin.RESAMPLED) > 0
    assert sum(round.accepted for round in notes.rounds) == origins.count(Origin.ACCEPTED)
    assert sum(round.payload_bit for round in notes.rounds) == bill.payload_bit


def test_skipped_tokens_are_told_with_the_upload_that_brings_them():
    notes, records, _ = told("random", settings=PolicySettings(rate=0.3))
    last = max(index for index, record in enumerate(records) if record.uploaded)
    skipped = sum(record.origin is Origin.LOCAL for record in records[:last])
    assert sum(round.skipped for round in notes.rounds) == skipped > 5


def test_seconds_of_a_round_hold_its_wait_and_its_forward():
    notes = Notes()
    engine = GatedEngine(TARGET, V)
    with standing(engine, telemetry=notes) as station, RawClient(station.address) as raw:
        first, second = raw.opened(engine), raw.opened(engine)
        engine.gate.clear()
        engine.entered.clear()
        first.send(upload(engine, **RUNS))
        assert engine.entered.wait(10)
        second.send(upload(engine, **RUNS))
        time.sleep(0.2)
        engine.gate.set()
        first.receive(), second.receive()
        assert eventually(lambda: len(notes.of(RoundKind.JUDGE)) == 2)
        held, waited = sorted(notes.of(RoundKind.JUDGE), key=lambda round: round.queue_s)
    assert held.forward_s > 0.15 and waited.queue_s > 0.1 > held.queue_s
    for round in (held, waited):
        assert round.seconds >= round.queue_s + round.forward_s


def test_forwards_are_told_as_batches():
    notes = Notes()
    engine = GatedEngine(TARGET, V)
    with standing(engine, telemetry=notes) as station, RawClient(station.address) as raw:
        streams = [raw.opened(engine) for _ in range(3)]
        engine.gate.clear()
        engine.entered.clear()
        streams[0].send(upload(engine, **RUNS))
        assert engine.entered.wait(10)
        for stream in streams[1:]:
            stream.send(upload(engine, **RUNS))
        time.sleep(0.2)
        engine.gate.set()
        for stream in streams:
            stream.receive()
        assert eventually(lambda: sum(forward.sessions for forward in notes.forwards) == 6)
    assert [forward.sessions for forward in notes.forwards] == engine.batches
    assert max(engine.batches) == 2
    assert sum(forward.positions for forward in notes.forwards) == sum(len(work.new_ids) for work in engine.log)


@pytest.mark.parametrize(
    ("request_", "status", "stood"),
    [
        (lambda engine: opening(engine, vocabulary_size=3), "FAILED_PRECONDITION", False),
        (upload, "INVALID_ARGUMENT", False),
        (lambda engine: pb.VerifyRequest(), "INVALID_ARGUMENT", False),
    ],
)
def test_a_refused_stream_is_told_with_its_status(request_, status, stood):
    notes = Notes()
    engine = FakeEngine(TARGET, V)
    with standing(engine, telemetry=notes) as station, RawClient(station.address) as raw:
        stream = raw.stream()
        stream.send(request_(engine))
        code, _ = stream.refusal()
        assert code.name == status
        assert eventually(lambda: notes.endings)
    assert [(ending.status, ending.stood) for ending in notes.endings] == [(status, stood)]
    assert notes.rounds == [] and notes.standing == 0


def test_a_full_base_station_is_told_as_such_and_a_defect_as_unknown():
    notes = Notes()
    engine = FakeEngine(TARGET, V)
    with standing(engine, max_sessions=1, telemetry=notes) as station, RawClient(station.address) as raw:
        first = raw.opened(engine)
        second = raw.stream()
        second.send(opening(engine))
        assert second.refusal()[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
        engine.forward = None
        first.send(upload(engine, **RUNS))
        assert first.refusal()[0] is grpc.StatusCode.UNKNOWN
        assert eventually(lambda: len(notes.endings) == 2)
    assert [(ending.status, ending.stood) for ending in notes.endings] == [
        ("RESOURCE_EXHAUSTED", False),
        ("UNKNOWN", True),
    ]
    assert notes.standing == 0
    assert notes.forwards[-1].failed


def test_a_device_lost_in_a_round_frees_its_session_and_is_told_as_cancelled():
    notes = Notes()
    engine = GatedEngine(TARGET, V)
    with standing(engine, telemetry=notes) as station, RawClient(station.address) as raw:
        stream = raw.opened(engine)
        assert (station.sessions, notes.standing) == (1, 1)
        engine.gate.clear()
        engine.entered.clear()
        stream.send(upload(engine, **RUNS))
        assert engine.entered.wait(10)
        stream.call.cancel()
        stream.half_close()
        assert eventually(lambda: station.sessions == 0 and bool(notes.endings))
        engine.gate.set()
    assert notes.endings[0].status == "CANCELLED" and notes.standing == 0


def test_a_call_that_is_dropped_frees_its_session_at_once():
    """And not when the generator below is collected, which may be later."""
    closed = []

    class Below:
        async def Verify(self, requests, context):
            try:
                async for request in requests:
                    yield pb.VerifyResponse(ready=pb.Ready(round=request.open.round))
            finally:
                closed.append(True)

    async def scenario() -> None:
        async def sent():
            yield pb.VerifyRequest(open=pb.Open(round=1))

        notes = Notes()
        below = Below()
        answers = ObservedServicer(below, notes, V).Verify(sent(), None)
        await anext(answers)
        assert notes.standing == 1
        await answers.aclose()
        assert closed == [True]
        assert [ending.status for ending in notes.endings] == ["CANCELLED"] and notes.standing == 0

    asyncio.run(scenario())


def test_nothing_is_wrapped_when_nobody_listens(monkeypatch):
    wrapped = []
    monkeypatch.setattr(ObservedServicer, "__init__", lambda *arguments: wrapped.append(arguments))
    engine = FakeEngine(TARGET, V)
    station = Station(engine, 4)
    assert station.server._engine is engine and wrapped == []
    station.run(station.server.stop(0.0))
    station.shut()


def test_an_observed_engine_can_do_what_the_engine_can():
    engine = FakeEngine(TARGET, V)
    engine.extra = 7
    observed = observed_engine(engine, Notes())
    assert observed.extra == 7 and observed.fingerprint == engine.fingerprint
    with pytest.raises(AttributeError):
        _ = observed.nothing


def test_all_listeners_are_told():
    both = [Notes(), Notes()]
    with standing(FakeEngine(TARGET, V), telemetry=Listeners(both)) as station:
        with Bench(station.address, FakeDrafter(DRAFTER, V)) as bench:
            bench.run("hlm", max_tokens=5)
        assert eventually(lambda: both[1].endings)
    assert both[0].rounds == both[1].rounds != []
    assert both[0].forwards == both[1].forwards != []
    assert both[0].endings == both[1].endings != []


def test_scores_are_told():
    notes = Notes()
    engine = FakeEngine(TARGET, V)
    request = pb.ScoreRequest(tokenizer_fingerprint=engine.fingerprint, context_ids=[1], target_ids=[2, 3])
    with standing(engine, telemetry=notes) as station, RawClient(station.address) as raw:
        assert len(raw.stub.Score(request, timeout=10).log_probabilities) == 2
    assert [round.kind for round in notes.rounds] == [RoundKind.SCORE]
