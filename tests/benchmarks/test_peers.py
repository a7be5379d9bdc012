"""Every peer writes what it is asked for, on random weights of a tiny shape."""

import grpc
import numpy as np
import pytest

from benchmarks.peers.__main__ import found
from benchmarks.peers.alone import Alone, forward_times
from benchmarks.peers.assisted import Assisted
from benchmarks.peers.bare_stream import BareStream
from benchmarks.peers.measured import INTERVAL, NEAREST, Stopwatch, interval_name
from benchmarks.peers.ours import Judged, Ours, Round, opened
from benchmarks.peers.unary import ENTRIES, Unary
from benchmarks.random_gguf import Shape, write
from uihlm_basestation.engines.llama_engine import LlamaEngine
from uihlm_device.drafters.llama_drafter import LlamaDrafter
from uihlm_device.tokens import Origin, TokenRecord

PROMPT = [260, 261, 262, 270]
SHAPE = Shape("tiny", 512, 256, 256, 2, 4, 2, context=256)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Paths of a drafter and an LLM of one vocabulary."""
    folder = tmp_path_factory.mktemp("pair")
    for seed, name in enumerate(("slm", "llm")):
        write(folder / f"{name}.gguf", SHAPE, seed)
    return folder / "slm.gguf", folder / "llm.gguf"


def test_random_weights_have_the_shape_and_finite_logits(pair):
    runtime = Alone(pair[1], 1).runtime
    assert (runtime.vocabulary_size, runtime.n_layer, runtime.n_head, runtime.d_model) == (512, 2, 4, 256)
    runtime.decode(PROMPT, range(4), 0, [True] * 4)
    logits = runtime.logits()
    assert np.isfinite(logits).all() and 0.01 < logits.std() < 100.0


def test_alone_writes_and_is_timed(pair):
    alone = Alone(pair[1], 1)
    assert alone.write(PROMPT, 5, 0) == 5
    assert [set(token_s) for token_s in alone.token_s] == [{"wall", "cpu"}] and alone.token_s[0]["wall"] > 0.0


class _Told:
    """A second a position and a row, 10 more after another model, 100 more where the shape is not that of the last batch."""

    last = None

    def __init__(self):
        self.shape, self.ran = None, []

    def prefill(self, prompt):
        self.ran = [len(prompt)]

    def forward_s(self, start, positions, clock=None, rows=None):
        shape = positions, positions if rows is None else rows
        took_s = sum(shape) + 10.0 * (_Told.last is not self) + 100.0 * (shape != self.shape)
        _Told.last, self.shape = self, shape
        self.ran.append(positions)
        return took_s


def test_bare_forwards_are_timed_where_they_stand_in_their_loops():
    llm, slm = _Told(), _Told()
    times_s = forward_times(llm, slm, PROMPT, [2, 3], 2)
    assert times_s == {
        ("alone", 1): 2.0,  # after another of its kind
        ("draft", 2): 7.0,  # the first of a block after the LLM, the second after the first
        ("verify", 2): 16.0,  # after one as wide
        ("later", 2): pytest.approx((113.0 + 102.0) / 2.0),  # of two positions, one row; and back to one
        ("draft", 3): pytest.approx(16.0 / 3.0),
        ("verify", 3): 18.0,
        ("later", 3): pytest.approx((113.0 + 102.0 + 2.0) / 3.0),
    }
    # Once more than is counted: the first turn warms up.
    assert llm.ran == [4, *[1, 1, 3, 3, 4, 4] * 3] and slm.ran == [4, *[1, 1, 1, 1, 2, 1, *[1] * 6, 2, 1, 1] * 3]


def test_a_bare_forward_has_as_many_rows_as_it_is_asked_for(pair):
    alone = Alone(pair[1], 1)
    alone.prefill(PROMPT)
    for positions, rows in ((1, None), (3, None), (2, 1), (3, 2)):
        assert alone.forward_s(len(PROMPT), positions, rows=rows) > 0.0
        assert len(alone.runtime.logits()) == (rows or positions)


@pytest.mark.parametrize("keeps_caches", [False, True])
def test_unary_writes_a_token_an_rpc(pair, keeps_caches):
    with Unary(*pair, 1, keeps_caches) as unary:
        assert unary.write(PROMPT, 6, 0) == 6
        assert unary.judged == 6
        # The next answer starts from nothing again.
        ran = []
        decode, unary._slm.runtime.decode = (
            unary._slm.runtime.decode,
            lambda ids, *rest: (ran.append(len(ids)), decode(ids, *rest)),
        )
        assert unary.write(PROMPT, 1, 1) == 1 and ran[0] == len(PROMPT)
    # What is in the text must reach the server as the ids that were sent.
    assert SHAPE.vocabulary > ENTRIES


def test_the_unary_caches_change_no_distribution(pair):
    with Unary(*pair, 1, keeps_caches=True) as kept, Unary(*pair, 1, keeps_caches=False) as fresh:
        for ids in (PROMPT, [*PROMPT, 300], [*PROMPT[:2], 301]):
            assert np.allclose(kept._llm.after(ids), fresh._llm.after(ids), atol=1e-3)


@pytest.mark.parametrize(
    ("name", "codec", "length"), [("llm", "coupled", 1), ("hlm", "dense32", 1), ("hlm", "coupled", 3)]
)
def test_ours_writes_through_the_stream(pair, name, codec, length):
    drafter, engine = LlamaDrafter(pair[0], n_threads=1), LlamaEngine(pair[1], n_threads=1)
    drafter.stop_ids = engine.stop_ids = frozenset()
    with opened(engine) as stream:
        ours = Ours(stream, drafter, name, codec, length)
        assert ours.write(PROMPT, 7, 0) == 7
        # What came with the first round, so with the prefill, is left out; all of `llm` is one round.
        judged = Judged.all(ours.answers)
        assert judged.tokens == {"llm": 0, "hlm": 6}[name] if length == 1 else 0 <= judged.tokens < 7
        assert (judged.seconds["wall"] > 0.0) == (judged.tokens > 0) and len(ours.answers) == 1
    engine.close()


def test_the_bare_stream_writes_the_tokens_of_llm(pair):
    drafter, engine = LlamaDrafter(pair[0], n_threads=1), LlamaEngine(pair[1], n_threads=1)
    drafter.stop_ids = engine.stop_ids = frozenset()
    with opened(engine) as stream, BareStream(Alone(pair[1], 1)) as bare:
        ours = Ours(stream, drafter, "llm")
        for seed in (0, 3):
            written = ours.tokens(PROMPT, 7, seed)
            assert Ours(stream, drafter, "llm", interval=INTERVAL).tokens(PROMPT, 7, seed) == written
            # Again, and with others between: nothing is left over from an answer.
            assert bare.tokens(PROMPT, 7, seed) == bare.tokens(PROMPT, 7, seed) == written
        assert bare.write(PROMPT, 7, 0) == 7
    engine.close()


def test_a_bare_stream_that_fails_says_so(pair):
    with BareStream(Alone(pair[1], 1)) as bare:
        with pytest.raises(grpc.aio.AioRpcError, match="a batch holds"):
            bare.tokens([], 7, 0)
        assert bare.write(PROMPT, 7, 0) == 7


def _rounds(*texts):
    """Rounds of an answer, one a second: a accepted, b bonus, r resampled."""
    letters = {"a": Origin.ACCEPTED, "b": Origin.BONUS, "r": Origin.RESAMPLED}
    return [
        Round({"wall": float(at)}, [TokenRecord(0, 1, at, letters[letter], draft_s=0.25) for letter in text])
        for at, text in enumerate(texts)
    ]


def test_acceptance_counts_judged_drafts_alone():
    judged = Judged.of(_rounds("r", "aab", "ar"), 99, 2)
    assert (judged.acceptance, judged.rounds, judged.tokens, judged.draft_s) == (3 / 4, 2, 5, 1.25)


def test_rounds_with_a_prefill_or_without_room_for_all_drafts_are_left_out():
    # 3 + 1 + 2 are written when the fourth round begins: of 8 there are 2 left, too few for two drafts and their bonus.
    answer = _rounds("aab", "r", "ar", "ab", "a")
    cut = Judged.of(answer, 8, 2)
    assert (cut.rounds, cut.tokens, cut.accepted, cut.seconds) == (2, 3, 1, {"wall": 2.0})
    # With 9 there is room.
    whole = Judged.of(answer, 9, 2)
    assert (whole.rounds, whole.tokens, whole.seconds) == (3, 5, {"wall": 3.0})
    # Nothing is left of an answer that ends in its second round, nor of one too short for any.
    assert Judged.of(_rounds("aab", "a"), 4, 2) == Judged.of(_rounds("a"), 1, 2) == Judged()
    both = cut.plus(whole)
    assert (both.rounds, both.tokens, both.accepted, both.rejected, both.draft_s) == (5, 8, 3, 4, 2.0)
    assert both.seconds["wall"] == 5.0


def test_a_single_draft_needs_no_room_for_a_bonus():
    judged = Judged.of(_rounds("a", "r", "a"), 3, 1)
    assert (judged.rounds, judged.tokens) == (2, 2)


def test_assisted_generation_writes_on_after_stop_tokens():
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=16,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        eos_token_id=None,
    )
    models = [transformers.LlamaForCausalLM(config).eval() for _ in range(2)]
    for slm, drafts in ((None, None), (models[1], None), (models[1], 2)):
        assert Assisted(models[0], slm, drafts).write([1, 2, 3], 9, 0) == 9


class _Steady:
    """A peer that takes a second a token of a clock that it moves itself, one more each time; `short` tokens are missing."""

    def __init__(self, short=0):
        self.now_s, self.calls, self.short = 0.0, 0, short

    def write(self, prompt, tokens, seed):
        self.now_s += tokens + len(prompt) + self.calls
        self.calls += 1
        return tokens - self.short


def test_answers_to_one_prompt_are_one_figure_however_often_it_is_written():
    peer = _Steady()
    watch = Stopwatch({"wall": lambda: peer.now_s})
    for times, (number, prompt) in zip((3, 1), enumerate(([1, 2], [1, 2, 3, 4])), strict=True):
        for _ in range(times):
            watch.write("steady", peer, prompt, 4, number)
    measured = watch.measured([{"wall": 0.5}, {"wall": 0.25}])["wall"]
    assert measured.rates == {"steady": [12 / 21, 4 / 11]}
    assert measured.alone_s == [0.5, 0.25] and measured.forwards_s == []


def test_a_peer_that_stops_short_is_no_figure():
    peer = _Steady(short=1)
    with pytest.raises(RuntimeError, match="lazy wrote 3 of 4 tokens"):
        Stopwatch({"wall": lambda: peer.now_s}).write("lazy", peer, [1], 4, 0)


def test_those_of_whom_a_few_per_cent_are_asked_are_written_in_turns():
    assert NEAREST[:4] == ("llama.cpp", "llm", "llm, 8 tokens a message", "bare stream")
    assert NEAREST[4:6] == ("hlm, coupled, blocks of 2", "hlm, coupled, blocks of up to 2 that end below 0.4")
    assert [name.replace("dense32", "coupled") for name in NEAREST[6:]] == list(NEAREST[4:6])


def test_llm_is_held_against_the_llm_alone_and_against_what_bounds_it():
    rates = {
        "llama.cpp": [100.0, 50.0],
        "llm": [88.0, 44.0],
        interval_name(): [96.0, 48.0],
        "bare stream": [92.0, 46.0],
    }
    told = found({**rates, "hlm": [20.0, 10.0], "unary, caches kept": [20.0, 10.0]})
    ours, several, bound, of_it = (
        one for one in told if "bound" in one.what or (one.what.startswith("llm") and one.goal)
    )
    assert (ours.median, ours.goal, ours.met) == (0.88, 0.95, False)
    assert (several.median, several.goal, several.met) == (0.96, 0.95, True)
    # What nobody can reach is no goal.
    assert (bound.median, bound.goal) == (0.92, None)
    assert (of_it.median, of_it.goal, of_it.met) == (pytest.approx(88 / 92), 0.95, True)
