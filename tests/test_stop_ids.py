"""Two models of one vocabulary that end their answers with other tokens: the device's word counts, at both ends."""

import dataclasses

import pytest

from fakes import Bench, FakeDrafter, FakeEngine, contextual, mixed, serving

V = 16
# The drafter's is drawn often, and so is the LLM's, which is a token like any other here.
DRAFTERS, LLMS = 5, 9
DRAFTED, TARGET = contextual(V, 1), mixed(contextual(V, 1), contextual(V, 2), 0.4)
WAYS = [
    ("llm", "coupled", {}),
    ("llm", "coupled", {"stream_interval": 5}),
    ("hlm", "coupled", {}),
    ("hlm", "dense32", {"draft_length": 3}),
    ("hlm", "coupled", {"draft_length": 3}),
    ("hlm", "coupled", {"draft_length": 3, "in_flight": 3}),
    ("hlm", "coupled", {"tree": 6}),
    ("hlm", "coupled", {"tree": 6, "in_flight": 3}),
    ("u", "coupled", {}),
]


def written(llms_stop_ids, policy, codec, decode, **contract):
    """The tokens of sixty answers."""
    engine = FakeEngine(TARGET, V, llms_stop_ids)
    with serving(engine) as address, Bench(address, FakeDrafter(DRAFTED, V, [DRAFTERS]), codec) as bench:
        bench.contract = dataclasses.replace(bench.contract, **contract)
        answers = [bench.run(policy, seed=seed, max_tokens=24, **decode) for seed in range(60)]
    return [[record.token for record in answer] for answer in answers], [answer[-1].stop for answer in answers]


@pytest.mark.parametrize(("policy", "codec", "decode"), WAYS)
def test_the_llms_own_ends_no_answer_and_the_devices_does(policy, codec, decode):
    tokens, stopped = written([LLMS], policy, codec, decode)
    assert (tokens, stopped) == written([DRAFTERS], policy, codec, decode)
    for answer, stop in zip(tokens, stopped, strict=True):
        assert DRAFTERS not in answer[:-1]
        assert stop is (answer[-1] == DRAFTERS) and (stop or len(answer) == 24)
    # Or nothing was seen here.
    assert sum(stopped) > 10
    assert sum(LLMS in answer[:-1] for answer in tokens) > 10


@pytest.mark.parametrize("interval", [1, 5])
def test_a_base_station_that_is_told_of_none_goes_by_its_own(interval):
    """As one that does not know the field: what the LLM writes alone then ends where either of the two would end it."""
    tokens, stopped = written([LLMS], "llm", "coupled", {"stream_interval": interval}, stop_ids=frozenset())
    assert all(answer[-1] in (DRAFTERS, LLMS) or len(answer) == 24 for answer in tokens)
    assert {answer[-1] for answer, stop in zip(tokens, stopped, strict=True) if stop} == {DRAFTERS}
    assert any(answer[-1] == LLMS and len(answer) < 24 for answer in tokens)
    # What came behind the device's own in one message is no part of the answer.
    assert not any({DRAFTERS, LLMS} & set(answer[:-1]) for answer in tokens)
