"""Blocks, windows and trees through the whole wire: every token follows y given what came before, for every uplink."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from chi_square import CAUGHT, LENGTH, LOSSLESS, MOVING_UPLINKS, Answers, Context, conditional_p_value, law
from fakes import Bench, FakeDrafter, FakeEngine, contextual, serving
from uihlm_basestation import session, verification
from uihlm_device.tokens import Origin
from uihlm_wireless.settings import LinkSettings

V = 4
PROMPT = (1, 2)
X, Y = (contextual(V, salt, spread=0.8, window=2) for salt in (1, 2))
# Long enough that drafts are in flight at all; a draft takes 10 ms on the virtual clock.
FAR = LinkSettings(radio=None, rtt_s=0.05)
ALL = "dense32", "dense16", "coupled", "lattice:k=2,l=8", MOVING_UPLINKS[0]


@pytest.fixture(scope="module")
def address() -> Iterator[object]:
    with serving(FakeEngine(Y, V)) as address:
        yield address


def write(address: object, codec: str, tokens: int, **decode: Any) -> Answers:
    with Bench(address, FakeDrafter(X, V), codec, link=FAR) as bench:
        count = tokens // LENGTH
        return [bench.run("hlm", PROMPT, index=i, max_tokens=LENGTH, **decode) for i in range(count)]


def pairs(written: Answers, *origins: Origin) -> list[tuple[Context, int]]:
    """Every token with the two before it."""
    found = []
    for answer in written:
        line = [*PROMPT, *(r.token for r in answer)]
        found += [((line[i], line[i + 1]), r.token) for i, r in enumerate(answer) if not origins or r.origin in origins]
    return found


@pytest.mark.parametrize("codec", ALL)
@pytest.mark.parametrize(("length", "window"), [(1, 4), (2, 1), (2, 3), (4, 1), (4, 2)])
def test_blocks_and_windows_are_lossless(address: object, codec: str, length: int, window: int) -> None:
    written = write(address, codec, 600, draft_length=length, in_flight=window)
    assert conditional_p_value(pairs(written), law(Y)) > LOSSLESS
    if length > 1:
        assert conditional_p_value(pairs(written, Origin.BONUS), law(Y)) > LOSSLESS


@pytest.mark.parametrize("codec", ALL)
@pytest.mark.parametrize("window", [1, 2])
def test_blocks_that_end_with_a_draft_in_doubt_are_lossless(address: object, codec: str, window: int) -> None:
    """Where a block ends depends on the drafts themselves; what is made of each does not."""
    written = write(address, codec, 1000, draft_length=3, draft_p_min=0.4, in_flight=window)
    assert conditional_p_value(pairs(written), law(Y)) > LOSSLESS
    assert conditional_p_value(pairs(written, Origin.BONUS), law(Y)) > LOSSLESS


@pytest.mark.parametrize("window", [1, 2])
@pytest.mark.parametrize("size", [4, 16])
def test_trees_are_lossless(address: object, size: int, window: int) -> None:
    written = write(address, "coupled", 600, tree=size, in_flight=window)
    assert conditional_p_value(pairs(written), law(Y)) > LOSSLESS


def rows_of(change: Any) -> Any:
    """A judge that looks at other rows than it should."""

    def planted(judge: Any) -> Any:
        def verify(*arguments: Any, **more: Any) -> Any:
            at = next(i for i, argument in enumerate(arguments) if callable(argument))
            own = arguments[at]
            return judge(*arguments[:at], lambda i: own(change(i)), *arguments[at + 1 :], **more)

        return verify

    return planted


@pytest.mark.parametrize("codec", ["dense32", "coupled"])
def test_a_bonus_from_the_row_before_is_caught(address: object, codec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    planted = rows_of(lambda i: min(i, 1))(verification.verify_chain)
    monkeypatch.setattr(session, "verify_chain", planted)
    written = write(address, codec, 1600, draft_length=2)
    assert conditional_p_value(pairs(written, Origin.BONUS), law(Y)) < CAUGHT


def test_a_tree_judged_by_its_roots_row_is_caught(address: object, monkeypatch: pytest.MonkeyPatch) -> None:
    planted = rows_of(lambda node: -1)(verification.verify_tree)
    monkeypatch.setattr(session, "verify_tree", planted)
    assert conditional_p_value(pairs(write(address, "coupled", 1600, tree=8)), law(Y)) < CAUGHT
