"""scores.jsonl: one line an answer, back as it was, and refused when it is something else."""

from types import SimpleNamespace

import pytest

from uihlm_evaluation.quality.metrics import TextScore
from uihlm_evaluation.results.scores import read_scores, write_scores
from uihlm_evaluation.runs.samples import SampleFileError


def answer(policy, prompt, failed=False):
    return SimpleNamespace(policy=policy, prompt=prompt, failed=failed)


def test_scores_come_back_by_row_and_prompt(tmp_path):
    path = tmp_path / "scores.jsonl"
    samples = [answer("ui k=3 γ=1.5", 4), answer("u", 4), answer("u", 5, failed=True)]
    write_scores(path, samples, [TextScore(0.8, 0.5), TextScore(None, 0.25), TextScore(0.9, 0.9)])
    scores = read_scores(path)
    assert scores.keys() == {("ui k=3 γ=1.5", 4), ("u", 4)}, "what failed has no score"
    assert (scores["ui k=3 γ=1.5", 4]["bertscore_f1"], scores["ui k=3 γ=1.5", 4]["cosine_similarity"]) == (0.8, 0.5)
    assert "bertscore_f1" not in scores["u", 4]


def test_scores_of_an_earlier_end_are_replaced(tmp_path):
    path = tmp_path / "scores.jsonl"
    write_scores(path, [answer("u", 1)], [TextScore(0.8, 0.5)])
    write_scores(path, [], [])
    assert read_scores(path) == {}


@pytest.mark.parametrize("line", ["[]", "{", '{"policy": "u"}', '{"policy": "u", "prompt": 1, "bertscore_f1": "high"}'])
def test_line_that_is_no_score_is_named(tmp_path, line):
    path = tmp_path / "scores.jsonl"
    path.write_text('{"policy": "u", "prompt": 0}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(SampleFileError, match="line 2"):
        read_scores(path)
