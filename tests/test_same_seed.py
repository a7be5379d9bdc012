"""Same seed, same tokens: twice, alone or in company, under policies that decide alike.

Every draw is keyed by (session key, role, absolute position), so nothing that happens around a token may change it.
The models here depend on the ids before: one wrong id, one cache cut short, one draw shifted, and the rest of the text
differs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from fakes import Bench, FakeDrafter, FakeEngine, serving
from loop_reference import KNOBS, POLICIES, PROMPT, V, X, Y
from same_tokens import OTHER_X, UPLINKS, bench, lines, tokens
from uihlm_basestation.engines.engine import Work
from uihlm_device.rules.policies import PolicySettings
from uihlm_device.tokens import Origin
from uihlm_proto.addresses import Address
from uihlm_proto.codecs import CODECS
from uihlm_proto.sampling import Sampling


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
