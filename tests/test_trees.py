"""Trees of drafts through the real server: the LLM's own tokens, in fewer trips, and a session that is right afterwards."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest

from fakes import Bench, FakeDrafter, FakeEngine, contextual, mixed, serving
from uihlm_device.conversation import Conversation
from uihlm_device.tokens import Origin, TokenRecord
from uihlm_proto.errors import InvalidRequestError
from uihlm_proto.randomness import session_key
from uihlm_proto.sampling import Sampling

V, STOP = 48, 3
X = contextual(V, 1)
Y = mixed(X, contextual(V, 2), 0.35)
PROMPT = (5, 6, 7)
SIZES = (1, 4, 16, 64)


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine(Y, V, [STOP])


@pytest.fixture
def address(engine: FakeEngine) -> Iterator[object]:
    with serving(engine) as address:
        yield address


def bench(address: object, sampling: Sampling | None = None, logits=X) -> Bench:
    return Bench(address, FakeDrafter(logits, V, [STOP]), "coupled", sampling or Sampling())


def tokens(records: list[TokenRecord]) -> list[int]:
    return [record.token for record in records]


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(0.6), Sampling(1.3, top_k=6, top_p=0.9), Sampling(0.0)])
@pytest.mark.parametrize("size", SIZES)
def test_tree_writes_what_the_llm_alone_writes(address: object, size: int, sampling: Sampling) -> None:
    origins = set()
    with bench(address, sampling) as device:
        for index in range(6):
            alone = device.run("llm", PROMPT, index=index)
            written = device.run("hlm", PROMPT, index=index, tree=size)
            assert tokens(written) == tokens(alone)
            assert [r.stop for r in written] == [r.stop for r in alone]
            origins |= {record.origin for record in written}
    # Greedy, all keys write one text.
    assert origins == {Origin.ACCEPTED, Origin.RESAMPLED, Origin.BONUS} or sampling.temperature == 0.0


def test_tree_of_another_models_drafts_writes_the_same(address: object) -> None:
    """What the drafter thinks changes the trips, never the tokens."""
    trips = [0, 0]
    with bench(address, logits=contextual(V, 9)) as stranger, bench(address, logits=Y) as twin:
        for index in range(4):
            alone = tokens(stranger.run("llm", PROMPT, index=index))
            far, near = (device.run("hlm", PROMPT, index=index, tree=8) for device in (stranger, twin))
            assert tokens(far) == tokens(near) == alone
            # The LLM's own noise at every depth: its draw is always the best candidate.
            assert Origin.RESAMPLED not in {record.origin for record in near}
            trips = [trips[0] + near[-1].round, trips[1] + far[-1].round]
    assert trips[1] > 1.5 * trips[0]


def test_no_id_is_run_twice_by_the_drafter(address: object) -> None:
    """Each forward keeps all that stands: what it runs is the last draw, and a leaf before it."""
    with bench(address) as device:
        for index in range(6):
            records = device.run("hlm", PROMPT, index=index, tree=16)
            starts = [at for at, r in enumerate(records) if at == 0 or r.round != records[at - 1].round]
            runs = device.drafter.log[1:]
            device.drafter.log.clear()
            for (keep_len, new_ids), start in zip(runs, starts[1:], strict=True):
                ids = [*PROMPT, *tokens(records)]
                assert ids[keep_len : keep_len + len(new_ids)] == list(new_ids)
                assert keep_len + len(new_ids) == len(PROMPT) + start
                assert len(new_ids) <= 2


def test_tree_of_one_is_the_draft_of_a_chain_and_earns_a_bonus(address: object, engine: FakeEngine) -> None:
    with bench(address) as device:
        chain = device.run("hlm", PROMPT, draft_length=1)
        tree = device.run("hlm", PROMPT, tree=1)
    by_position = {record.position: record for record in chain}
    judged = [record for record in tree if record.uploaded]
    assert [by_position[r.position].origin for r in judged] == [r.origin for r in judged]
    assert [by_position[r.position].x_d for r in judged] == [r.x_d for r in judged]
    accepted = sum(record.origin is Origin.ACCEPTED for record in tree)
    assert len(tree) - accepted in (tree[-1].round, tree[-1].round - 1)


def test_more_nodes_take_fewer_trips(address: object) -> None:
    with bench(address) as device:
        trips = [
            sum(device.run("hlm", PROMPT, index=index, max_tokens=48, tree=size)[-1].round for index in range(8))
            for size in SIZES
        ]
    assert trips == sorted(trips, reverse=True) and trips[0] > 1.8 * trips[2]


def test_costs_stand_on_a_rounds_first_line_and_add_up(address: object, engine: FakeEngine) -> None:
    with bench(address) as device:
        records = device.run("hlm", PROMPT, tree=16, max_tokens=40)
    rounds = [list(group) for _, group in itertools.groupby(records, lambda record: record.round)]
    assert [lines[0].round for lines in rounds] == list(range(1, len(rounds) + 1))
    uploads = [work for work in engine.log if work.parents is not None]
    for lines, work in zip(rounds, uploads, strict=False):
        first, *rest = lines
        assert first.draft_s > 0.0 and first.llm_forwards == 1
        # Ids the LLM had not run yet come before the tree's roots.
        assert 16 <= first.llm_positions == len(work.new_ids) <= 18
        assert first.payload_bits == first.model_bits == 16 * 8
        assert first.uplink_wire_bytes > first.payload_bits // 8 + 16
        for line in rest:
            assert (line.draft_s, line.llm_positions, line.payload_bits, line.wire_bytes, line.link_s) == (
                0,
                0,
                0,
                0,
                0,
            )
    for lines in rounds:
        origins = [line.origin for line in lines]
        assert set(origins[:-1]) <= {Origin.ACCEPTED}
        assert [line.uploaded for line in lines] == [origin is not Origin.BONUS for origin in origins]
        assert all((line.y_d is not None) == (line.origin is Origin.ACCEPTED) for line in lines)
    uploaded = sum(record.uploaded for record in records)
    accepted = sum(record.origin is Origin.ACCEPTED for record in records)
    rejected = sum(record.origin is Origin.RESAMPLED for record in records)
    assert uploaded == accepted + rejected and min(accepted, rejected) > 0


@pytest.mark.parametrize("size", SIZES)
def test_answer_ends_at_its_limit(address: object, size: int) -> None:
    with bench(address) as device:
        for limit in range(1, 12):
            alone = tokens(device.run("llm", PROMPT, max_tokens=limit))
            assert tokens(device.run("hlm", PROMPT, max_tokens=limit, tree=size)) == alone


def test_nothing_follows_a_stop_token_and_the_session_goes_on(address: object, engine: FakeEngine) -> None:
    stopped = inside = 0
    with bench(address) as device:
        for index in range(30):
            answers = []
            for name, decode in (("llm", {}), ("hlm", {"tree": 16})):
                conversation = Conversation(session_key(1, index))
                conversation.extend(list(PROMPT))
                for turn in range(3):
                    records = list(device.decoder(name, 20, **decode).answer(conversation))
                    assert not any(record.stop for record in records[:-1])
                    if name == "hlm":
                        stopped += records[-1].stop
                        inside += records[-1].stop and records[-1].origin is Origin.ACCEPTED
                        assert conversation.session is not None
                        assert device.drafter.ids[: conversation.drafted] == conversation.ids[: conversation.drafted]
                    conversation.extend([9, turn])
                answers.append(conversation.ids)
                conversation.end_session()
            assert answers[0] == answers[1]
    assert stopped > inside > 5


@pytest.mark.parametrize("taken", range(1, 9))
def test_dropped_generator_leaves_the_conversation_right(address: object, taken: int) -> None:
    with bench(address) as device:
        conversation = Conversation(session_key(0, taken))
        conversation.extend(list(PROMPT))
        answer = device.decoder("hlm", 32, tree=16).answer(conversation)
        read = tokens(list(itertools.islice(answer, taken)))
        answer.close()
        assert conversation.ids == [*PROMPT, *read]
        assert conversation.session is None
        assert device.drafter.ids[: conversation.drafted] == conversation.ids[: conversation.drafted]
        conversation.extend([9, 9])
        rest = tokens(list(device.decoder("hlm", 12, tree=16).answer(conversation)))
        conversation.end_session()
    with bench(address) as fresh:
        again = Conversation(session_key(0, taken))
        again.extend([*PROMPT, *read, 9, 9])
        assert tokens(list(fresh.decoder("llm", 12).answer(again))) == rest
        again.end_session()


def test_full_context_ends_the_answer(address: object) -> None:
    with bench(address) as device:
        device.drafter.max_context = len(PROMPT) + 7
        assert len(device.run("hlm", PROMPT, tree=16, index=4)) <= 7


def test_tree_leaves_other_policies_as_they_are(address: object) -> None:
    with bench(address) as device:
        assert tokens(device.run("slm", PROMPT, tree=16)) == tokens(device.run("slm", PROMPT))
        assert device.run("slm", PROMPT, tree=16)[0].round is None


def test_tree_needs_the_coupled_judge_and_a_drafter_with_branches(address: object) -> None:
    with (
        Bench(address, FakeDrafter(X, V, [STOP]), "dense32") as dense,
        pytest.raises(InvalidRequestError, match="needs the codec coupled, not dense32"),
    ):
        dense.decoder("hlm", tree=4)

    class OneBranch(FakeDrafter):
        grow = settle = None

    with (
        Bench(address, OneBranch(X, V, [STOP]), "coupled") as device,
        pytest.raises(InvalidRequestError, match="one branch alone"),
    ):
        device.decoder("hlm", tree=4)


@pytest.mark.parametrize(("tree", "other"), [(65, {}), (-1, {}), (4, {"draft_length": 2})])
def test_settings_that_do_not_fit_are_refused(address: object, tree: int, other: dict[str, int]) -> None:
    with bench(address) as device, pytest.raises(InvalidRequestError, match=r"a tree (has 1|of 4 nodes)"):
        device.decoder("hlm", tree=tree, **other)


def test_expected_tokens_are_near_those_that_come(address: object) -> None:
    """The usual chances are learnt from the rounds, whatever pair they were first measured on."""
    with bench(address) as device:
        decoder = device.decoder("hlm", 60, tree=8)
        written = 0
        for index in range(12):
            conversation = Conversation(session_key(3, index))
            conversation.extend(list(PROMPT))
            written += len(list(decoder.answer(conversation)))
            conversation.end_session()
        rounds = decoder.trees
        assert rounds is not None
        assert np.isclose(rounds.grower.expected / rounds.rounds, written / rounds.rounds, rtol=0.2)
