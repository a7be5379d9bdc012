"""A block may end with a draft that the drafter itself gives little chance: what would follow it would fall with it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import pytest

from fakes import Bench, FakeDrafter, FakeEngine, contextual, mixed, serving
from uihlm_device.decode_settings import AUTO, DecodeSettings
from uihlm_device.tokens import Origin, TokenRecord
from uihlm_evaluation.runs.configuration import RunConfig
from uihlm_proto.errors import InvalidRequestError
from uihlm_proto.sampling import Sampling
from uihlm_wireless.settings import LinkSettings

V, STOP = 48, 3
X = contextual(V, 1)
Y = mixed(X, contextual(V, 2), 0.35)
PROMPT = (5, 6, 7)
FAR = LinkSettings(radio=None, rtt_s=0.05)


@pytest.fixture
def address() -> Iterator[object]:
    with serving(FakeEngine(Y, V, [STOP])) as address:
        yield address


def bench(address: object, codec: str) -> Bench:
    return Bench(address, FakeDrafter(X, V, [STOP]), codec, link=FAR)


def rounds(records: list[TokenRecord]) -> list[list[TokenRecord]]:
    return [list(own) for _, own in itertools.groupby(records, lambda record: record.round)]


def tokens(records: list[TokenRecord]) -> list[int]:
    return [record.token for record in records]


@pytest.mark.parametrize("codec", ["dense32", "coupled"])
def test_a_block_goes_out_with_its_first_draft_in_doubt(address: object, codec: str) -> None:
    ended = full = 0
    with bench(address, codec) as device:
        for index in range(6):
            records = device.run("hlm", PROMPT, index=index, max_tokens=40, draft_length=3, draft_p_min=0.05)
            for own in rounds(records)[:-2]:
                *before, last = [record for record in own if record.origin is not Origin.BONUS]
                assert all(record.x_d >= 0.05 for record in before)
                # A draft in doubt that stands is the last of its block; where three stand, none was in doubt before the third.
                if last.origin is Origin.ACCEPTED:
                    assert len(own) - len(before) == 1 + (len(before) > 0)
                    ended += len(before) < 2
                    full += len(before) == 2
                    assert (last.x_d < 0.05) or len(before) == 2
    assert ended > 5 and full > 5


@pytest.mark.parametrize("window", [1, 3])
def test_no_draft_goes_on_from_one_in_doubt(address: object, window: int) -> None:
    """With all in doubt drafts go one by one, with none in doubt blocks are full: the tokens are those of either."""
    with bench(address, "dense32") as device:
        for index, (p_min, length) in itertools.product(range(3), ((1.0, 1), (1e-12, 4))):
            plain = device.run("hlm", PROMPT, index=index, draft_length=length, in_flight=window)
            early = device.run("hlm", PROMPT, index=index, draft_length=4, draft_p_min=p_min, in_flight=window)
            assert tokens(early) == tokens(plain) and [r.origin for r in early] == [r.origin for r in plain]


@pytest.mark.parametrize("window", [1, 2])
def test_coupled_drafts_write_what_the_llm_writes_wherever_blocks_end(address: object, window: int) -> None:
    with bench(address, "coupled") as device:
        for index, p_min in itertools.product(range(3), (0.0, 0.05, 0.2)):
            alone = tokens(device.run("llm", PROMPT, index=index))
            early = device.run("hlm", PROMPT, index=index, draft_length=5, draft_p_min=p_min, in_flight=window)
            assert tokens(early) == alone


def test_drafts_that_come_one_by_one_have_no_block_to_end() -> None:
    for length in (1, AUTO):
        with pytest.raises(InvalidRequestError, match="set a draft length of 2 or more"):
            DecodeSettings(Sampling(), draft_length=length, draft_p_min=0.5)
    for p_min in (-0.1, 1.1, math.nan, math.inf):
        with pytest.raises(InvalidRequestError, match="lies in 0 … 1"):
            DecodeSettings(Sampling(), draft_length=4, draft_p_min=p_min)


def test_a_run_that_ends_none_early_keeps_its_digest() -> None:
    """Runs saved before there was this setting go on."""
    assert "draft_p_min" not in RunConfig().to_dict()["decode"]
    early = RunConfig(decode=DecodeSettings(Sampling(), draft_length=4, draft_p_min=0.3))
    assert RunConfig.from_dict(early.to_dict()) == early
