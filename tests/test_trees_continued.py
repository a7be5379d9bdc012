"""Trees that are continued while their verdicts are in flight: the LLM's own tokens, fewer trips, every upload paid for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fakes import Bench, FakeDrafter, FakeEngine, contextual, mixed, serving
from uihlm_basestation.session import Session
from uihlm_device.conversation import Conversation
from uihlm_device.outages.outage import OnOutage, Outage
from uihlm_device.tokens import Origin, TokenRecord
from uihlm_proto.errors import ProtocolError
from uihlm_proto.limits import MAX_TREE
from uihlm_proto.randomness import session_key
from uihlm_proto.v1 import verification_pb2 as pb
from uihlm_wireless.clock import EnforcedClock
from uihlm_wireless.settings import LinkSettings

V, STOP = 48, 3
X = contextual(V, 1)
Y = mixed(X, contextual(V, 2), 0.35)
PROMPT = (5, 6, 7)


class Heard:
    """What came to the base station, and what it said."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rounds: list[tuple[pb.Upload, pb.Verdict]] = []
        answer = Session.upload

        async def upload(session, request):
            async for verdict in answer(session, request):
                self.rounds.append((request, verdict))
                yield verdict

        monkeypatch.setattr(Session, "upload", upload)

    def of(self, continues: bool) -> list[pb.Verdict]:
        """The verdicts on what continues a tree, or on what begins one."""
        return [verdict for request, verdict in self.rounds if bool(request.continues) == continues]


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Heard:
    return Heard(monkeypatch)


@pytest.fixture
def address(heard: Heard) -> Iterator[object]:
    with serving(FakeEngine(Y, V, [STOP])) as address:
        yield address


def bench(address: object, clock=None, rtt_s: float = 0.15, logits=X) -> Bench:
    link = LinkSettings(radio=None, rtt_s=rtt_s)
    return Bench(address, FakeDrafter(logits, V, [STOP]), "coupled", link=link, clock=clock)


def tokens(records: list[TokenRecord]) -> list[int]:
    return [record.token for record in records]


def run(device: Bench, window: int, answers: int = 8, size: int = 4, **decode: object) -> list[list[TokenRecord]]:
    return [device.run("hlm", PROMPT, index=index, tree=size, in_flight=window, **decode) for index in range(answers)]


def test_answers_come_sooner_the_more_uploads_may_wait(address: object, heard: Heard) -> None:
    elapsed_s = []
    for window in (1, 2, 4):
        heard.rounds.clear()
        with bench(address) as device:
            written = run(device, window, max_tokens=48)
            elapsed_s.append(device.clock.now() / sum(map(len, written)))
        stale = [verdict.stale for verdict in heard.of(continues=True)]
        assert (not stale) if window == 1 else (sum(stale) > 10 and len(stale) - sum(stale) > 10)
        assert not any(verdict.stale for verdict in heard.of(continues=False))
    assert elapsed_s[1] < 0.94 * elapsed_s[0] and elapsed_s[2] < 0.99 * elapsed_s[1]


def test_what_continues_a_tree_runs_no_more_than_hangs_from_the_draw(address: object, heard: Heard) -> None:
    """Stale uploads run nothing, and of the others the branches that fell do not run."""
    with bench(address) as device:
        run(device, 4, size=8)
    sent, ran = 0, 0
    for request, verdict in heard.rounds:
        if request.continues:
            sent += len(request.drafts)
            ran += verdict.cost.positions
            assert verdict.cost.forwards == (not verdict.stale)
    assert 0 < ran < 0.5 * sent


def test_every_upload_is_charged_and_none_twice(address: object) -> None:
    with bench(address) as device:
        written = run(device, 4)
        records = [record for answer in written for record in answer]
        totals = device.ledger.totals()
    assert sum(record.payload_bits for record in records) == totals.payload_bit > 0
    assert sum(record.model_bits for record in records) == totals.model_bit
    # Open and Ready of each answer are in nobody's record.
    assert sum(record.wire_bytes for record in records) < totals.wire_bytes


def test_rounds_of_an_answer_are_numbered_by_upload(address: object) -> None:
    with bench(address) as device:
        for records in run(device, 3):
            numbers = [record.round for record in records]
            assert numbers == sorted(numbers) and numbers[0] == 1
            origins = [record.origin for record in records]
            assert set(origins) <= {Origin.ACCEPTED, Origin.RESAMPLED, Origin.BONUS}


def test_the_same_under_real_time(address: object, heard: Heard) -> None:
    with bench(address, EnforcedClock(), rtt_s=0.06) as device:
        for index in range(3):
            alone = device.run("llm", PROMPT, index=index, max_tokens=24)
            assert tokens(device.run("hlm", PROMPT, index=index, max_tokens=24, tree=4, in_flight=4)) == tokens(alone)
    assert heard.of(continues=True), "nothing was sent while a verdict was on its way"


def test_a_chat_goes_on_after_an_answer_that_left_uploads_behind(address: object, heard: Heard) -> None:
    """Its last uploads are answered as stale, and the second turn finds both ends where they were."""
    for index in range(6):
        with bench(address) as device, bench(address) as fresh:
            conversation = Conversation(session_key(0, index))
            conversation.extend(list(PROMPT))
            decoder = device.decoder("hlm", 12, tree=4, in_flight=4)
            first = tokens(list(decoder.answer(conversation)))
            conversation.extend([9, 8])
            second = tokens(list(decoder.answer(conversation)))
            conversation.end_session()
            again = Conversation(session_key(0, index))
            again.extend([*PROMPT, *first, 9, 8])
            assert tokens(list(fresh.decoder("llm", 12).answer(again))) == second
            again.end_session()
    assert heard.of(continues=True)


def test_a_tree_that_never_misses_is_begun_anew_before_it_is_too_large(address: object, heard: Heard) -> None:
    """With the LLM as drafter every draw was sent: nothing but the protocol's limit ends the tree."""
    with bench(address, logits=Y, rtt_s=1.0) as twin:
        longest = max(range(12), key=lambda index: len(twin.run("llm", PROMPT, index=index, max_tokens=400)))
        heard.rounds.clear()
        alone = twin.run("llm", PROMPT, index=longest, max_tokens=400)
        assert tokens(twin.run("hlm", PROMPT, index=longest, max_tokens=400, tree=64, in_flight=30)) == tokens(alone)
    sizes = [request.continues + len(request.drafts) for request, _ in heard.rounds]
    assert MAX_TREE - 64 < max(sizes) <= MAX_TREE


@pytest.mark.parametrize("limit", range(1, 9))
def test_an_answer_ends_at_its_limit(address: object, limit: int) -> None:
    with bench(address) as device:
        alone = device.run("llm", PROMPT, max_tokens=limit)
        assert tokens(device.run("hlm", PROMPT, max_tokens=limit, tree=4, in_flight=6)) == tokens(alone)


@pytest.mark.parametrize("on_outage", [OnOutage.WAIT, OnOutage.LOCAL])
def test_a_device_that_is_to_bear_outages_does_the_same_where_there_are_none(
    address: object, heard: Heard, on_outage: OnOutage
) -> None:
    def sent() -> list[tuple[int, list[int], int]]:
        return [(u.continues, list(u.parents), u.epoch) for u, _ in heard.rounds]

    with bench(address) as device:
        plain = run(device, 4)
    uploads = sent()
    heard.rounds.clear()
    with bench(address) as device:
        borne = run(device, 4, outage=Outage(on_outage, 5.0))
    assert [tokens(answer) for answer in borne] == [tokens(answer) for answer in plain]
    assert sent() == uploads and heard.of(continues=True)


@pytest.mark.parametrize("lie", ["judged", "stale", "path"])
def test_a_verdict_on_other_branches_than_the_llm_took_is_refused(
    address: object, monkeypatch: pytest.MonkeyPatch, lie: str
) -> None:
    answer = Session.upload

    async def upload(session, request):
        async for verdict in answer(session, request):
            said = verdict
            if request.continues and lie == "judged" and verdict.stale:
                said = pb.Verdict(round=request.round, token_id=1)
            if request.continues and lie == "stale" and not verdict.stale:
                said = pb.Verdict(round=request.round, stale=True)
            if request.continues and lie == "path" and verdict.path:
                said.path[0] = 0
            yield said

    monkeypatch.setattr(Session, "upload", upload)
    with bench(address) as device, pytest.raises(ProtocolError, match=r"makes no sense|judged branches that its LLM"):
        run(device, 4)
