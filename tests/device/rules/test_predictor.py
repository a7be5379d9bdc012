"""The learned predictor: its equation, its file, and policy `learned` through the real loop."""

import dataclasses
import math

import numpy as np
import pytest

from fakes import Bench, FakeDrafter, FakeEngine, contextual, mixed, serving
from uihlm_device.rules.policies import Evidence, Needs, PolicySettings, policy
from uihlm_device.rules.predictor import LearnedFile, Origin, Predictor, PredictorError
from uihlm_device.tokens import Origin as Wrote
from uihlm_proto.errors import InvalidRequestError

WEIGHTS = Predictor(
    np.array([0.5, -1.0, 0.0, 2.0, 0.25], np.float32),
    (1.5, -0.5, -2.0),
    0.1,
    0.4,
    Origin("a" * 64, None, 0.6, "expected"),
)
V = 24


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "learned.npz"
    path.write_bytes(WEIGHTS.to_bytes())
    return path


def test_the_equation_by_hand():
    z = 0.1 + (0.5 * 1 - 1.0 * 2 + 2.0 * 4 + 0.25 * 5) + 1.5 * 0.6 - 0.5 * 0.36 - 2.0 * 0.7
    hidden = np.array([1, 2, 3, 4, 5], np.float32)
    assert WEIGHTS.reject_prob(hidden, 0.6, 0.7) == pytest.approx(1 / (1 + math.exp(-z)))
    many = WEIGHTS.reject_prob(np.stack([hidden, -hidden]), np.array([0.6, 0.1]), np.array([0.7, 0.2]))
    assert many.shape == (2,) and many[0] == WEIGHTS.reject_prob(hidden, 0.6, 0.7)


def test_weights_survive_the_file(file):
    again = LearnedFile.of(file).load()
    assert np.array_equal(again.hidden, WEIGHTS.hidden)
    for field in ("scalars", "intercept", "threshold", "origin"):
        assert getattr(again, field) == getattr(WEIGHTS, field)
    assert again.to_bytes() == WEIGHTS.to_bytes() == file.read_bytes()


def test_576_hidden_units_are_a_few_kb():
    assert len(dataclasses.replace(WEIGHTS, hidden=np.zeros(576, np.float32)).to_bytes()) < 4000


def test_a_file_that_has_changed_or_is_none_is_refused(file):
    learned = LearnedFile.of(file)
    file.write_bytes(dataclasses.replace(WEIGHTS, threshold=0.5).to_bytes())
    with pytest.raises(PredictorError, match="other weights than this run's settings name"):
        learned.load()
    file.write_text("words")
    with pytest.raises(PredictorError, match="holds no weights"):
        LearnedFile.of(file)
    with pytest.raises(PredictorError, match="cannot read"):
        LearnedFile.of(file.with_name("none"))


def test_a_hidden_state_of_another_width_is_refused():
    with pytest.raises(PredictorError, match="hidden state of 5 numbers, this drafter's has 4"):
        WEIGHTS.reject_prob(np.zeros(4, np.float32), 0.5, 0.5)


def test_the_policy_refuses_to_run_without_weights():
    with pytest.raises(InvalidRequestError, match=r"no weights.*--learned FILE"):
        policy("learned", PolicySettings())


def test_the_settings_of_a_saved_run_make_sense_without_the_file():
    rule = policy("learned", PolicySettings(learned=LearnedFile("/no/such/file", "0" * 64)))
    assert Needs.UNCERTAINTY | Needs.HIDDEN in rule.needs
    assert Needs.IMPORTANCE not in rule.needs and Needs.LOGITS not in rule.needs
    with pytest.raises(PredictorError, match="cannot read /no/such/file"):
        rule.uploads(
            Evidence(draft=1, x_d=0.5, thin=None, u=0.5, importance=None, logits=None, hidden=np.zeros(5, np.float32))
        )


class HiddenFromId(FakeDrafter):
    """A drafter whose hidden state follows from its last id and position, and is kept for the test."""

    def forward(self, *arguments, **named):
        record = super().forward(*arguments, **named)
        self.seen = getattr(self, "seen", {})
        self.seen[len(self.ids)] = record.hidden
        return record


def test_the_loop_uploads_as_the_predictor_says(file):
    drafts = contextual(V, 1)
    engine = FakeEngine(mixed(drafts, contextual(V, 2), 0.5), V)
    settings = PolicySettings(learned=LearnedFile.of(file))
    with serving(engine) as address, Bench(address, HiddenFromId(drafts, V)) as bench:
        records = bench.run("learned", max_tokens=60, settings=settings)
        hidden = bench.drafter.seen
    uploaded = [record.origin is not Wrote.LOCAL for record in records]
    said = [
        bool(WEIGHTS.reject_prob(hidden[record.position], record.u, record.x_d) > WEIGHTS.threshold)
        for record in records
    ]
    assert 10 < sum(uploaded) < 50
    assert uploaded == said
