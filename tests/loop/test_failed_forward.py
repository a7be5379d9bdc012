"""A drafter that fails, and waits that are broken off: what was said is in the history, and the next answer is right."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from fakes import Bench, FakeDrafter, FakeEngine, serving
from loop_reference import KNOBS, PROMPT, Station, V, X, Y, agree, start, write
from uihlm_device.answer import Answer
from uihlm_device.record import Record, Wants
from uihlm_device.tokens import TokenRecord
from uihlm_proto.errors import UnavailableError


class FailingDrafter(FakeDrafter):
    """Fails once, in its forward number `fails_at`, and forgets its cache, as Torch does when memory runs out."""

    fails_at = 0

    def forward(self, keep_len: int, new_ids: Sequence[int], wants: Wants = Wants()) -> Record:
        self.fails_at -= 1
        if self.fails_at == 0:
            self.ids = []
            raise RuntimeError("out of memory")
        return super().forward(keep_len, new_ids, wants)


@pytest.mark.parametrize("policy", ["slm", "hlm", "ui"])
@pytest.mark.parametrize("fails_at", [1, 2, 5])
def test_after_a_forward_that_failed_the_whole_prefix_is_run_again(
    station: Station, policy: str, fails_at: int
) -> None:
    drafter = FailingDrafter(X, V)
    with Bench(station.address, drafter) as device:
        conversation = start()
        records = list(write(device, conversation, policy, 4))
        drafter.fails_at = fails_at
        with pytest.raises(RuntimeError, match="out of memory"):
            for record in device.decoder(policy, 16, KNOBS).answer(conversation):
                records.append(record)
        assert conversation.drafted == 0
        assert conversation.ids == [*PROMPT, *(record.token for record in records)]
        records += write(device, conversation, policy, 8)
        conversation.end_session()
    agree(device, conversation, records, policy, len(PROMPT))


@pytest.mark.parametrize("decode", [{"draft_length": 3, "in_flight": 4}, {"tree": 6, "in_flight": 4}])
def test_a_token_that_was_not_handed_over_is_not_in_the_history(
    decode: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the last token the answers to given-up uploads are waited for; the link may be lost just then."""
    waits, stops = [], range(0, V, 8)
    with serving(FakeEngine(Y, V, stops)) as at, Bench(at, FakeDrafter(X, V, stops), "coupled") as device:
        decoder = device.decoder("hlm", 24, **decode)
        owner, name = (decoder.trees, "_settle_forsaken") if decoder.trees else (Answer, "settle_forsaken")
        honest = getattr(owner, name)

        def broken_off(*given: object, last: bool) -> object:
            if last:
                waits.append(given)
                raise UnavailableError("the link was lost")
            return honest(*given, last=last)

        monkeypatch.setattr(owner, name, broken_off)
        for index in range(12):
            conversation, records = start(), list[TokenRecord]()
            conversation.key = bytes([index]) * 16
            try:
                for record in decoder.answer(conversation):
                    records.append(record)
            except UnavailableError:
                assert conversation.session is None
            assert conversation.ids == [*PROMPT, *(record.token for record in records)]
            conversation.end_session()
    assert waits
