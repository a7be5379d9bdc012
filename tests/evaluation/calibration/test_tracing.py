"""Tracing: through the real loop, client and base station, a row is what both ends know of its draft."""

import json

import numpy as np
import pytest

from fakes import Bench, FakeDrafter, FakeEngine, contextual, mixed, serving
from uihlm_device.decode_settings import DecodeSettings
from uihlm_device.decoder import Decoder
from uihlm_device.record import Wants
from uihlm_device.rules.uncertainty import Estimator, expected
from uihlm_evaluation.calibration.layers import layer_statistics
from uihlm_evaluation.calibration.trace import TraceError, TraceHeader, load_trace
from uihlm_evaluation.calibration.tracing import LayeredDrafter, Tracer, TraceSettings, make_trace
from uihlm_evaluation.prompts.datasets import Example
from uihlm_evaluation.runs.configuration import RunConfig, Selection
from uihlm_proto.errors import InvalidRequestError, UnavailableError
from uihlm_proto.sampling import Sampling

V = 96
SMALL = contextual(V, 1)
LARGE = mixed(SMALL, contextual(V, 2), 0.3)
SAMPLING = Sampling(0.8)
EXAMPLES = tuple(Example(index, f"prompt {index}", "", "") for index in (2, 5, 9))


def prompt_ids(text):
    return [4, 5, int(text.split()[1])]


class Pair:
    """A fake pair behind a real link, ready to be traced."""

    def __init__(self, bench):
        self.bench = bench
        self.drafter = bench.drafter
        self.answers = 0
        self.before_answer = lambda number: None
        self.needs = None

    def tracer(self):
        def first_turn(text):
            self.answers += 1
            self.before_answer(self.answers)
            return prompt_ids(text)

        def drafter_for(policy):
            self.needs = policy.needs
            return self.drafter

        def decoder(drafter, policy, decode):
            b = self.bench
            return Decoder(
                drafter, b.codec, policy, decode, b.clock, b.ledger, b.timing, lambda: b.connection.session(b.contract)
            )

        return Tracer(drafter_for, decoder, first_turn)

    def trace(self, output, examples=EXAMPLES, resume=False, hidden=True, seed=0, shown=None):
        config = RunConfig(Selection(seed=seed), ("hlm",), DecodeSettings(SAMPLING, max_tokens=12))
        settings = TraceSettings(config, TraceHeader.of(SAMPLING, Estimator.EXPECTED, "5", "7"), hidden)
        progress = shown.append if shown is not None else lambda progress: None
        return make_trace(self.tracer(), settings, examples, output, resume, progress)


@pytest.fixture
def pair():
    with serving(FakeEngine(LARGE, V)) as address, Bench(address, FakeDrafter(SMALL, V), sampling=SAMPLING) as bench:
        yield Pair(bench)


def softmax(z):
    p = np.exp(z.astype(np.float64) - z.max())
    return p / p.sum()


def test_rows_are_what_the_two_models_say_of_each_draft(pair, tmp_path):
    trace = pair.trace(tmp_path / "t").trace
    assert len(trace) == 36 and trace.rejected.any() and not trace.rejected.all()
    assert [list(trace.prompt[trace.step == 0]), list(trace.position[trace.step == 0])] == [[2, 5, 9], [3, 3, 3]]
    for index in (2, 5, 9):
        mine = trace.prompt == index
        ids = prompt_ids(f"prompt {index}")
        for i in np.flatnonzero(mine):
            z, d = SMALL(ids), int(trace.draft[i])
            x, y = SAMPLING.distribution(z), SAMPLING.distribution(LARGE(ids))
            assert trace.x_d[i] == pytest.approx(x[d], rel=1e-5)
            assert trace.y_d[i] == pytest.approx(y[d], rel=1e-4)
            assert trace.reject_prob[i] == pytest.approx(1 - min(1, y[d] / x[d]), abs=1e-4)
            assert trace.tv[i] == pytest.approx(0.5 * np.abs(x - y).sum(), abs=1e-4)
            assert trace.u[i] == pytest.approx(expected(z, d), abs=1e-6)
            p = softmax(z)
            assert trace.entropy_nat[i] == pytest.approx(-(p * np.log(p)).sum(), abs=1e-4)
            assert trace.top_logits.shape[1] == 64
            np.testing.assert_array_equal(trace.top_logits[i], np.sort(z)[::-1][:64])
            np.testing.assert_array_equal(z[trace.top_ids[i]], trace.top_logits[i])
            np.testing.assert_allclose(np.exp(trace.top_logits[i] - trace.log_sum[i]), np.sort(p)[::-1][:64], rtol=1e-5)
            assert trace.rejected[i] == (trace.token[i] != d)
            ids.append(int(trace.token[i]))


def test_attention_is_that_of_the_draft_also_where_it_was_rejected(pair, tmp_path):
    trace = pair.trace(tmp_path / "t").trace
    replay = FakeDrafter(SMALL, V)
    for index in (2, 5, 9):
        ids = prompt_ids(f"prompt {index}")
        for i in np.flatnonzero(trace.prompt == index):
            replay.forward(0, ids)
            record = replay.forward(len(ids), [int(trace.draft[i])], Wants(attention=True, attention_layers=True))
            expected_statistics = layer_statistics(record.attention_layers)
            np.testing.assert_array_equal(trace.counts[i], expected_statistics.counts)
            np.testing.assert_allclose(trace.attention_entropy_nat[i], expected_statistics.entropy_nat, rtol=1e-5)
            ids.append(int(trace.token[i]))


def test_text_is_that_of_hlm_with_the_same_seed(pair, tmp_path):
    trace = pair.trace(tmp_path / "t", EXAMPLES[:1]).trace
    records = pair.bench.run("hlm", prompt_ids("prompt 2"), index=2, max_tokens=12)
    assert list(trace.token) == [record.token for record in records]
    assert list(trace.reject_prob) == pytest.approx([record.reject_prob for record in records])


def test_hidden_states_are_kept_only_where_asked_for(pair, tmp_path):
    assert pair.trace(tmp_path / "a").trace.hidden.shape == (36, 5)
    with_hidden = pair.needs
    assert pair.trace(tmp_path / "b", hidden=False).trace.hidden is None
    assert pair.needs != with_hidden


def test_interrupted_trace_goes_on_where_it_stopped_and_comes_out_the_same(pair, tmp_path):
    whole = pair.trace(tmp_path / "whole").trace

    def cut(number):
        if number == 2:
            raise KeyboardInterrupt

    pair.answers, pair.before_answer = 0, cut
    with pytest.raises(KeyboardInterrupt):
        pair.trace(tmp_path / "cut")
    assert [path.name for path in (tmp_path / "cut" / "parts").iterdir()] == ["000002.npz"]
    pair.answers, pair.before_answer = 0, lambda number: None
    shown = []
    resumed = pair.trace(tmp_path / "cut", resume=True, shown=shown).trace
    assert pair.answers == 2, "the first prompt is not answered again"
    assert [(p.done, p.total, p.tokens) for p in shown] == [(1, 3, 0), (2, 3, 12), (3, 3, 24)]
    for name in ("token", "u", "reject_prob", "counts"):
        np.testing.assert_array_equal(getattr(resumed, name), getattr(whole, name))
    assert sorted(path.name for path in (tmp_path / "cut").iterdir()) == ["trace.json", "trace.npz"]


def test_finished_trace_is_read_and_not_run_again(pair, tmp_path):
    pair.trace(tmp_path / "t")
    pair.answers = 0
    again = pair.trace(tmp_path / "t", resume=True)
    assert pair.answers == 0 and len(again.trace) == 36 and again.failed == ()
    assert len(load_trace(tmp_path / "t" / "trace.npz")) == 36


def test_folder_of_another_trace_is_refused(pair, tmp_path):
    pair.trace(tmp_path / "t", EXAMPLES[:1])
    with pytest.raises(InvalidRequestError, match="add --resume"):
        pair.trace(tmp_path / "t", EXAMPLES[:1])
    with pytest.raises(InvalidRequestError, match=r"other settings, prompts or models \(digest\)"):
        pair.trace(tmp_path / "t", EXAMPLES[:1], resume=True, seed=1)
    with pytest.raises(InvalidRequestError, match=r"\(prompts\)"):
        pair.trace(tmp_path / "t", EXAMPLES, resume=True)
    with pytest.raises(InvalidRequestError, match=r"\(hidden\)"):
        pair.trace(tmp_path / "t", EXAMPLES[:1], resume=True, hidden=False)


def test_prompt_that_fails_is_named_and_tried_again_on_resume(pair, tmp_path):
    def refuse(number):
        if number == 2:
            raise InvalidRequestError("too long")

    pair.before_answer = refuse
    traced = pair.trace(tmp_path / "t")
    assert traced.failed == ((5, "too long"),)
    assert set(traced.trace.prompt.tolist()) == {2, 9}
    pair.before_answer = lambda number: None
    assert set(pair.trace(tmp_path / "t", resume=True).trace.prompt.tolist()) == {2, 5, 9}
    assert pair.answers == 4
    pair.before_answer = lambda number: (_ for _ in ()).throw(InvalidRequestError("no"))
    with pytest.raises(TraceError, match="no prompt has been answered"):
        pair.trace(tmp_path / "none")


def test_lost_base_station_ends_the_trace(pair, tmp_path):
    pair.before_answer = lambda number: (_ for _ in ()).throw(UnavailableError("gone"))
    with pytest.raises(UnavailableError):
        pair.trace(tmp_path / "t")


def test_layered_drafter_is_the_drafter_otherwise():
    drafter = FakeDrafter(SMALL, V, [7])
    layered = LayeredDrafter(drafter)
    assert (layered.vocabulary_size, layered.stop_ids, layered.max_context) == (V, frozenset({7}), drafter.max_context)
    assert layered.fingerprint == drafter.fingerprint
    record = layered.forward(0, [1, 2])
    assert record.attention_layers is None
    layered.forward(1, [3], Wants(attention=True))
    assert layered.statistics.counts.shape == (drafter.n_layer, 3, 3)
    assert json.dumps(drafter.log) == "[[0, [1, 2]], [1, [3]]]"
