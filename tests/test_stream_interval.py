"""Tokens that the LLM writes alone may come several a message: the same tokens, fewer messages, the same compute."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from fakes import Bench, FakeDrafter, FakeEngine, contextual, mixed, serving
from uihlm_device.conversation import Conversation
from uihlm_device.decode_settings import DecodeSettings
from uihlm_device.tokens import Origin, TokenRecord
from uihlm_evaluation.runs.configuration import RunConfig
from uihlm_proto.errors import InvalidRequestError
from uihlm_proto.randomness import session_key
from uihlm_proto.sampling import Sampling
from uihlm_wireless.settings import LinkSettings
from uihlm_wireless.timing import TimingProfile

V, STOP = 48, 3
X = contextual(V, 1)
Y = mixed(X, contextual(V, 2), 0.35)
PROMPT = (5, 6, 7)
RTT_S, FORWARD_S = 0.2, 0.02
# A seed whose answer takes 9 tokens at least.
LONG = 4


@pytest.fixture
def device() -> Iterator[Bench]:
    timing = TimingProfile(draft_s=0.01, forward_s=FORWARD_S, position_s=0.001)
    with (
        serving(FakeEngine(Y, V, [STOP])) as address,
        Bench(address, FakeDrafter(X, V, [STOP]), "coupled", Sampling(), LinkSettings(radio=None, rtt_s=RTT_S), timing=timing)
        as device,
    ):  # fmt: skip
        yield device


def tokens(records: list[TokenRecord]) -> list[int]:
    return [record.token for record in records]


@pytest.mark.parametrize("interval", [2, 5, 64])
def test_tokens_and_compute_are_those_of_one_token_a_message(device: Bench, interval: int) -> None:
    grouped = 0
    for index, limit in itertools.product(range(4), (1, 2, 30)):
        one = device.run("llm", PROMPT, index=index, max_tokens=limit)
        several = device.run("llm", PROMPT, index=index, max_tokens=limit, stream_interval=interval)
        assert tokens(several) == tokens(one)
        assert {record.origin for record in several} == {Origin.LLM}
        assert [record.position for record in several] == [record.position for record in one]
        assert [record.stop for record in several] == [record.stop for record in one]
        for spent in (lambda record: record.llm_forwards, lambda record: record.llm_positions):
            assert sum(map(spent, several)) == sum(map(spent, one))
        assert sum(record.forward_s for record in several) == pytest.approx(sum(record.forward_s for record in one))
        # Costs stand on the first token of each message, so that whoever counts messages finds them.
        sizes = [len(list(own)) for _, own in itertools.groupby(enumerate(several), lambda at: (at[0] - 1) // interval)]
        starts = [sum(sizes[:place]) for place in range(len(sizes))]
        assert [place for place, record in enumerate(several) if record.wire_bytes] == starts
        grouped += len(several) - len(starts)
        # A token more in a message takes an id; a message of its own takes framing and a bill.
        assert len(several) == len(starts) or sum(r.wire_bytes for r in several) < sum(r.wire_bytes for r in one)
    assert grouped > 20


def test_a_message_waits_for_its_last_token(device: Bench) -> None:
    """On the virtual clock: the answer takes no longer, but its tokens are seen when their message comes."""
    ends: dict[int, list[float]] = {}
    for interval in (1, 4):
        decoder = device.decoder("llm", max_tokens=9, stream_interval=interval)
        conversation = Conversation(session_key(0, LONG))
        conversation.extend(list(PROMPT))
        start_s = device.clock.now()
        ends[interval] = [device.clock.now() - start_s for _ in decoder.answer(conversation)]
        conversation.end_session()
    assert len(ends[1]) == len(ends[4]) == 9
    assert ends[1][-1] == pytest.approx(ends[4][-1])
    assert ends[1][0] == pytest.approx(ends[4][0]), "the first token waits for nobody"
    assert ends[4][1:5] == pytest.approx([ends[1][4]] * 4) and ends[4][5:9] == pytest.approx([ends[1][8]] * 4)


def test_an_interval_lies_within_what_a_verdict_may_tell_of() -> None:
    for interval in (0, -1, 65):
        with pytest.raises(InvalidRequestError, match="lies in 1 … 64"):
            DecodeSettings(Sampling(), stream_interval=interval)


def test_a_run_of_one_token_a_message_keeps_its_digest() -> None:
    """Runs saved before there was this setting go on."""
    assert "stream_interval" not in RunConfig().to_dict()["decode"]
    several = RunConfig(decode=DecodeSettings(Sampling(), stream_interval=8))
    assert RunConfig.from_dict(several.to_dict()) == several
