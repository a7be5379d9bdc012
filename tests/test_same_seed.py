"""Same seed, same tokens: twice, on either clock, alone or in company, before and after a reconnect.

Every draw is keyed by (session key, role, absolute position), so nothing that happens around a token may change it.
The models here depend on the ids before: one wrong id, one cache cut short, one draw shifted, and the rest of the text
differs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields

import numpy as np
import pytest

from fakes import Bench, FakeDrafter, FakeEngine, contextual, mixed, serving
from uihlm_basestation.engines.engine import Work
from uihlm_device.conversation import Conversation
from uihlm_device.rules.policies import PolicySettings
from uihlm_device.tokens import Origin, TokenRecord
from uihlm_proto.addresses import Address
from uihlm_proto.codecs import CODECS
from uihlm_proto.randomness import session_key
from uihlm_proto.sampling import Sampling
from uihlm_wireless.channel import RadioLink
from uihlm_wireless.clock import EnforcedClock
from uihlm_wireless.fading import FadingMode
from uihlm_wireless.settings import AirtimeBasis, LinkSettings
from uihlm_wireless.timing import TimingProfile

V = 40
Y = contextual(V, salt=2)
X = mixed(contextual(V, salt=1), Y, 0.75)
OTHER_X = mixed(contextual(V, salt=7), Y, 0.4)
PROMPT = (1, 2, 3)
KNOBS = PolicySettings(theta_u=0.75, k=2, theta_c=0.75, rate=0.5)
POLICIES = ["llm", "slm", "hlm", "u", "i", "ui", "confidence", "random", "u-random"]
ASKING = [name for name in POLICIES if name != "slm"]
# What the machine's speed decides; all else must repeat.
MEASURED = {"draft_s", "forward_s", "queue_s"}
INSTANT = TimingProfile(draft_s=0.0, forward_s=0.0)


def line(record: TokenRecord) -> tuple[object, ...]:
    """All of a record that must repeat to the last bit."""
    return tuple(getattr(record, f.name) for f in fields(record) if f.name not in MEASURED)


def lines(records: Sequence[TokenRecord]) -> list[tuple[object, ...]]:
    return [line(record) for record in records]


def tokens(records: Sequence[TokenRecord]) -> list[int]:
    return [record.token for record in records]


# The last one remembers: its x̂ depends on what was drafted before.
UPLINKS = [*CODECS, "lattice:tv=0.1,alpha=0.3"]


def bench(address: Address, codec: str = "dense32", x: object = X, **options: object) -> Bench:
    return Bench(address, FakeDrafter(x, V), codec, **options)


@pytest.fixture(scope="module")
def address() -> Iterator[Address]:
    with serving(FakeEngine(Y, V)) as served:
        yield served


@pytest.mark.parametrize("codec", UPLINKS)
@pytest.mark.parametrize("policy", POLICIES)
def test_same_seed_same_records_twice(address: Address, policy: str, codec: str) -> None:
    runs = []
    for _ in range(2):
        with bench(address, codec) as device:
            runs.append(lines(device.run(policy, PROMPT, seed=4, index=9, settings=KNOBS)))
    assert len(runs[0]) == 32
    assert runs[0] == runs[1]


def test_a_device_that_has_answered_before_answers_alike(address: Address) -> None:
    with bench(address) as device:
        fresh = tokens(device.run("hlm", PROMPT, index=1))
        device.run("ui", (9, 8, 7, 6), index=2, settings=KNOBS)
        assert tokens(device.run("hlm", PROMPT, index=1)) == fresh


@pytest.mark.parametrize("policy", POLICIES)
def test_another_index_or_seed_is_another_text(address: Address, policy: str) -> None:
    with bench(address) as device:
        texts = {tuple(tokens(device.run(policy, PROMPT, s, i, settings=KNOBS))) for s, i in [(0, 0), (0, 1), (1, 0)]}
    assert len(texts) == 3


# --- clocks ---------------------------------------------------------------------------------------------------------

# Some milliseconds a round, so that the enforced clock has something to wait for.
_FAST = RadioLink(20e6, 23.0, -96.0, 300.0, 4.0)
LINKS = {
    "plain": LinkSettings(_FAST, rtt_s=0.002),
    "grant and downlink": LinkSettings(_FAST, rtt_s=0.002, grant_delay_s=0.001, downlink=_FAST),
    "faded": LinkSettings(_FAST, FadingMode.SLOTTED, fading_seed=5, coherence_s=1e-6, rtt_s=0.001),
    "airtime by the wire": LinkSettings(RadioLink(1e6, 23.0, -104.0, 1000.0), rtt_s=0.001, airtime=AirtimeBasis.WIRE),
}


@pytest.mark.parametrize("link", LINKS.values(), ids=LINKS.keys())
@pytest.mark.parametrize("policy", ASKING)
def test_both_clocks_write_the_same_tokens_and_the_same_bill(address: Address, policy: str, link: LinkSettings) -> None:
    with bench(address, link=link, timing=INSTANT) as virtual:
        simulated = virtual.run(policy, PROMPT, settings=KNOBS)
    with bench(address, link=link, timing=INSTANT, clock=EnforcedClock()) as real:
        started_s = time.perf_counter()
        enforced = real.run(policy, PROMPT, settings=KNOBS)
        took_s = time.perf_counter() - started_s
    assert lines(simulated) == lines(enforced)
    link_s = sum(record.link_s for record in simulated)
    assert link_s > 0.0 and took_s >= link_s
    # Open's answer may be charged before the first upload or after it, which moves the last bit of a sum of seconds.
    assert asdict(virtual.ledger.totals()) == pytest.approx(asdict(real.ledger.totals()), rel=1e-12)


def test_the_virtual_clock_does_not_sleep(address: Address) -> None:
    with bench(address, link=LinkSettings(rtt_s=3600.0)) as device:
        started_s = time.perf_counter()
        device.run("hlm", PROMPT, max_tokens=8)
        assert time.perf_counter() - started_s < 30.0
        assert device.clock.now() > 8 * 3600.0


@pytest.mark.parametrize("policy", POLICIES)
def test_the_link_does_not_change_the_text(address: Address, policy: str) -> None:
    texts = []
    for link in (None, LinkSettings(), LINKS["faded"]):
        with bench(address, link=link) as device:
            texts.append(tokens(device.run(policy, PROMPT, settings=KNOBS)))
    assert texts[0] == texts[1] == texts[2]


# --- company --------------------------------------------------------------------------------------------------------


class SlowEngine(FakeEngine):
    """Slow enough for others to queue up meanwhile."""

    def forward(self, work: Sequence[Work]) -> list[np.ndarray]:
        time.sleep(0.003)
        return super().forward(work)


@pytest.mark.parametrize("codec", UPLINKS)
def test_batched_or_alone_the_tokens_are_the_same(codec: str) -> None:
    jobs = [(policy, index) for index, policy in enumerate(["hlm", "llm", "ui", "random", "u", "hlm"])]

    def write(at: Address, policy: str, index: int) -> list[tuple[object, ...]]:
        with bench(at, codec) as device:
            return lines(device.run(policy, (1, 2, 3, index), index=index, max_tokens=24, settings=KNOBS))

    engine = SlowEngine(Y, V)
    with serving(engine) as at:
        alone = [write(at, policy, index) for policy, index in jobs]
        assert set(engine.batches) == {1}
        together: dict[int, list[tuple[object, ...]]] = {}
        threads = [threading.Thread(target=lambda job=job: together.update({job[1]: write(at, *job)})) for job in jobs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert max(engine.batches) >= 3, "nothing was batched, so nothing was shown"
    assert [together[index] for _, index in jobs] == alone


# --- common random numbers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=0.6), Sampling(top_k=5, top_p=0.9)], ids=str)
@pytest.mark.parametrize("x", [X, OTHER_X, Y], ids=["near", "far", "the LLM itself"])
def test_coupled_hlm_writes_what_the_llm_writes_alone(address: Address, x: object, sampling: Sampling) -> None:
    with bench(address, "coupled", x, sampling=sampling) as device:
        alone = device.run("llm", PROMPT, index=3, max_tokens=60)
        split = device.run("hlm", PROMPT, index=3, max_tokens=60)
    assert tokens(split) == tokens(alone)
    assert x is Y or Origin.RESAMPLED in {record.origin for record in split}


def test_coupled_hlm_stops_where_the_llm_stops() -> None:
    stops = range(0, V, 9)
    lengths = set()
    with serving(FakeEngine(Y, V, stops)) as at, Bench(at, FakeDrafter(X, V, stops), "coupled") as device:
        for index in range(6):
            alone, split = (device.run(policy, PROMPT, index=index, max_tokens=200) for policy in ("llm", "hlm"))
            assert tokens(split) == tokens(alone)
            assert [record.stop for record in split] == [record.stop for record in alone]
            assert split[-1].stop
            lengths.add(len(split))
    assert len(lengths) > 1


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("policy", ["hlm", "u", "ui", "random"])
def test_policies_write_one_text_until_the_first_rejection(address: Address, policy: str, codec: str) -> None:
    agreed = 0
    with bench(address, codec) as device:
        for index in range(8):
            prompt = (index, 2, index)
            alone = device.run("slm", prompt, index=index)
            split = device.run(policy, prompt, index=index, settings=KNOBS)
            first = next((i for i, r in enumerate(split) if r.origin is Origin.RESAMPLED), len(split))
            assert tokens(split)[:first] == tokens(alone)[:first]
            # The rejected draft was the very token that `slm` committed there.
            assert first == len(split) or split[first].token != alone[first].token
            agreed += first
    assert agreed > 8


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(
    ("one", "other", "settings"),
    [
        ("hlm", "u", PolicySettings(theta_u=-1.0)),
        ("hlm", "i", PolicySettings(k=0)),
        ("hlm", "ui", PolicySettings(theta_u=-1.0, k=0)),
        ("hlm", "confidence", PolicySettings(theta_c=-1.0)),
        ("hlm", "random", PolicySettings(rate=1.0)),
        ("u", "u-random", PolicySettings(theta_u=0.75, rate=1.0)),
        ("u", "ui", PolicySettings(theta_u=0.75, k=0)),
        ("slm", "random", PolicySettings(rate=0.0)),
        ("slm", "ui", PolicySettings(k=10_000)),
    ],
)
def test_policies_that_decide_alike_write_alike(
    address: Address, one: str, other: str, settings: PolicySettings, codec: str
) -> None:
    """Whether d was run before the decision or after it, and whether a stream stands, must not show."""
    with bench(address, codec) as device:
        a, b = (device.run(name, PROMPT, index=2, settings=settings) for name in (one, other))
    assert [(r.token, r.origin, r.x_d, r.y_d) for r in a] == [(r.token, r.origin, r.x_d, r.y_d) for r in b]


# --- reconnects -----------------------------------------------------------------------------------------------------

TOTAL, TURN = 24, (5, 6, 7)


def start() -> Conversation:
    conversation = Conversation(session_key(3, 1))
    conversation.extend(list(PROMPT))
    return conversation


def uninterrupted(device: Bench, policy: str, turns: int = 1) -> Conversation:
    conversation = start()
    for turn in range(turns):
        if turn:
            conversation.extend(list(TURN))
        list(device.decoder(policy, TOTAL, KNOBS).answer(conversation))
    conversation.end_session()
    return conversation


@pytest.mark.parametrize("codec", UPLINKS)
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("after", [1, 7])
def test_an_answer_dropped_and_taken_up_again_is_the_same_text(
    address: Address, policy: str, codec: str, after: int
) -> None:
    with bench(address, codec) as device:
        whole = uninterrupted(device, policy)
        conversation = start()
        answer = device.decoder(policy, TOTAL, KNOBS).answer(conversation)
        for _ in range(after):
            next(answer)
        answer.close()
        assert conversation.session is None
        assert conversation.ids == whole.ids[: len(PROMPT) + after]
        list(device.decoder(policy, TOTAL - after, KNOBS).answer(conversation))
        conversation.end_session()
    assert conversation.ids == whole.ids


@pytest.mark.parametrize("policy", POLICIES)
def test_an_answer_cut_by_its_limit_goes_on_as_if_it_had_not_been(address: Address, policy: str) -> None:
    with bench(address) as device:
        whole = uninterrupted(device, policy)
        conversation = start()
        for _ in range(3):
            list(device.decoder(policy, TOTAL // 3, KNOBS).answer(conversation))
        conversation.end_session()
    assert conversation.ids == whole.ids


@pytest.mark.parametrize("codec", UPLINKS)
@pytest.mark.parametrize("policy", POLICIES)
def test_a_stream_opened_again_between_two_turns_changes_nothing(address: Address, policy: str, codec: str) -> None:
    with bench(address, codec) as device:
        kept = uninterrupted(device, policy, turns=3)
        reopened = start()
        for turn in range(3):
            if turn:
                reopened.extend(list(TURN))
            list(device.decoder(policy, TOTAL, KNOBS).answer(reopened))
            reopened.end_session()
    assert reopened.ids == kept.ids


@pytest.mark.parametrize("policy", ASKING)
def test_both_ends_hold_the_same_ids_after_a_reconnect(policy: str) -> None:
    engine = FakeEngine(Y, V)
    with serving(engine) as at, bench(at) as device:
        conversation = start()
        answer = device.decoder(policy, TOTAL, KNOBS).answer(conversation)
        for _ in range(9):
            next(answer)
        answer.close()
        list(device.decoder(policy, TOTAL, KNOBS).answer(conversation))
        held = engine.sessions[max(engine.sessions)]
        # All but the last id told: nothing has asked what follows it.
        assert held == conversation.ids[: conversation.told - 1]
        assert conversation.told > len(PROMPT) + 9
        conversation.end_session()


@pytest.mark.parametrize("policy", ["hlm", "ui", "random"])
def test_another_base_station_takes_over_in_mid_answer(policy: str) -> None:
    conversation = start()
    drafter = FakeDrafter(X, V)
    with serving(FakeEngine(Y, V)) as first, Bench(first, drafter) as device:
        whole = uninterrupted(device, policy)
        answer = device.decoder(policy, TOTAL, KNOBS).answer(conversation)
        for _ in range(10):
            next(answer)
        answer.close()
    with serving(FakeEngine(Y, V)) as second, Bench(second, drafter) as device:
        list(device.decoder(policy, TOTAL - 10, KNOBS).answer(conversation))
        conversation.end_session()
    assert conversation.ids == whole.ids
