"""The Torch drafter: rollback, attention rows, hidden states, refusals."""

from __future__ import annotations

import numpy as np
import pytest

from tiny_torch import CONTEXT, HEADS, LAYERS, VOCABULARY_SIZE, on_one_thread, write_tiny_llama
from uihlm_device.drafters.torch_drafter import TorchDrafter
from uihlm_device.record import Wants
from uihlm_models.errors import ModelError
from uihlm_models.pytorch.runtime import PREFILL_CHUNK, AttentionKind, TorchSettings, WeightType, load_torch
from uihlm_proto.errors import InvalidRequestError

EAGER = TorchSettings(WeightType.FLOAT32, AttentionKind.EAGER, device_map="cpu")
LAYER = 1
EVERYTHING = Wants(attention=True, attention_matrix=True, hidden=True)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    yield from on_one_thread()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny_llama(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def tiny(folder):
    return load_torch(folder, EAGER)


@pytest.fixture
def drafter(tiny):
    return TorchDrafter(tiny, attention_layer=LAYER, max_context=0)


def random_ids(rng, count):
    return [int(i) for i in rng.integers(2, VOCABULARY_SIZE, count)]


def assert_same_record(record, other, tolerance):
    for name in ("logits", "attention", "attention_matrix", "hidden"):
        np.testing.assert_allclose(getattr(record, name), getattr(other, name), atol=tolerance, rtol=0, err_msg=name)


def test_after_random_rollbacks_everything_equals_a_fresh_prefill(tiny, drafter):
    rng = np.random.default_rng(5)
    ids: list[int] = []
    wants = [Wants(), Wants(attention=True), Wants(attention_matrix=True), EVERYTHING]
    for _ in range(40):
        keep = int(rng.integers(max(0, len(ids) - 6), len(ids) + 1))
        new = random_ids(rng, int(rng.integers(1, 9)))
        ids = ids[:keep] + new
        drafter.forward(keep, new, wants[rng.integers(len(wants))])
    new = random_ids(rng, 2)
    record = drafter.forward(len(ids) - 3, new, EVERYTHING)
    fresh = TorchDrafter(tiny, attention_layer=LAYER).forward(0, ids[:-3] + new, EVERYTHING)
    assert_same_record(record, fresh, 1e-4)


def test_a_prompt_longer_than_a_chunk_runs_like_token_by_token(tiny, drafter):
    ids = random_ids(np.random.default_rng(6), PREFILL_CHUNK + 9)
    at_once = drafter.forward(0, ids, EVERYTHING)
    stepwise = TorchDrafter(tiny, attention_layer=LAYER)
    stepwise.forward(0, ids[:500], Wants(attention_matrix=True))
    for position in range(500, len(ids)):
        record = stepwise.forward(position, ids[position : position + 1], EVERYTHING)
    assert_same_record(at_once, record, 1e-4)


def test_the_record_is_what_transformers_itself_outputs_for_the_whole_text(tiny, drafter):
    import torch

    ids = random_ids(np.random.default_rng(7), 30)
    record = drafter.forward(0, ids, EVERYTHING)
    with torch.inference_mode():
        output = tiny.module(torch.tensor([ids]), output_attentions=True, output_hidden_states=True, use_cache=False)
    weights = output.attentions[LAYER][0].numpy()
    np.testing.assert_allclose(record.logits, output.logits[0, -1].numpy(), atol=1e-5)
    np.testing.assert_allclose(record.attention, weights[:, -1], atol=1e-6)
    np.testing.assert_allclose(record.attention_matrix, weights.mean(0), atol=1e-6)
    np.testing.assert_allclose(record.hidden, output.hidden_states[-1][0, -1].numpy(), atol=1e-5)


def test_attention_of_every_layer_is_the_models_own(drafter, tiny):
    import torch

    ids = list(range(2, 22))
    record = drafter.forward(0, ids, Wants(attention=True, attention_layers=True))
    with torch.no_grad():
        attentions = tiny.module(torch.tensor([ids]), output_attentions=True, use_cache=False).attentions
    assert record.attention_layers.shape == (LAYERS, HEADS, len(ids))
    for layer, weights in enumerate(attentions):
        np.testing.assert_allclose(record.attention_layers[layer], weights[0, :, -1].numpy(), atol=1e-6)
    np.testing.assert_array_equal(record.attention, record.attention_layers[LAYER])
    assert drafter.forward(len(ids), [3], Wants(attention=True)).attention_layers is None


def test_layers_of_an_input_that_runs_in_chunks_are_those_of_its_last_position(drafter):
    ids = [2 + at % 20 for at in range(600)]
    record = drafter.forward(0, ids, Wants(attention=True, attention_layers=True))
    assert record.attention_layers.shape == (LAYERS, HEADS, len(ids))
    np.testing.assert_array_equal(record.attention, record.attention_layers[LAYER])
    np.testing.assert_allclose(record.attention_layers.sum(axis=-1), 1, atol=1e-5)


def test_attention_is_a_float32_row_a_head_over_all_positions_that_sums_to_one(drafter):
    record = drafter.forward(0, list(range(2, 22)), EVERYTHING)
    assert record.attention.shape == (HEADS, 20) and record.attention.dtype == np.float32
    np.testing.assert_allclose(record.attention.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(record.attention_matrix.sum(axis=1), 1, atol=1e-6)
    assert not np.triu(record.attention_matrix, 1).any()
    assert record.logits.shape == (VOCABULARY_SIZE,) and record.logits.dtype == np.float32
    assert record.hidden.shape == (32,)


def test_attention_rows_sum_to_one_in_sixteen_bits_too(folder):
    settings = TorchSettings(WeightType.BFLOAT16, AttentionKind.EAGER, device_map="cpu")
    record = TorchDrafter(load_torch(folder, settings), attention_layer=0).forward(0, list(range(2, 40)), EVERYTHING)
    np.testing.assert_allclose(record.attention.sum(axis=1), 1, atol=1e-6)
    assert record.logits.dtype == np.float32


def test_a_record_holds_only_what_was_asked_for_and_no_hook_stays(tiny, drafter):
    def hooks():
        return [len(module._forward_hooks) for module in tiny.module.modules()]

    before = hooks()  # transformers keeps some of its own
    record = drafter.forward(0, [5, 6, 7])
    assert (record.attention, record.attention_matrix, record.hidden) == (None, None, None)
    record = drafter.forward(3, [8], Wants(attention_matrix=True))
    assert record.attention is None and record.attention_matrix.shape == (4, 4)
    assert hooks() == before


def test_watching_another_layer_changes_the_rows(tiny, drafter):
    ids = list(range(2, 12))
    drafter.forward(0, ids, EVERYTHING)
    drafter.watch(2)
    record = drafter.forward(9, ids[9:], EVERYTHING)
    assert_same_record(record, TorchDrafter(tiny, attention_layer=2).forward(0, ids, EVERYTHING), 1e-5)
    with pytest.raises(ModelError, match=f"layers 0 … {LAYERS - 1}"):
        drafter.watch(LAYERS)


def test_a_sliding_window_can_be_rolled_back_past_its_width(tmp_path):
    from transformers import MistralConfig, MistralForCausalLM

    write_tiny_llama(tmp_path)
    config = MistralConfig(
        vocab_size=VOCABULARY_SIZE, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, sliding_window=8, initializer_range=0.3, max_position_embeddings=128,
    )  # fmt: skip
    MistralForCausalLM(config).save_pretrained(str(tmp_path))
    model = load_torch(tmp_path, EAGER)
    ids = random_ids(np.random.default_rng(8), 40)
    drafter = TorchDrafter(model, attention_layer=0)
    drafter.forward(0, ids, EVERYTHING)
    record = drafter.forward(12, ids[12:20], EVERYTHING)
    assert_same_record(record, TorchDrafter(model, attention_layer=0).forward(0, ids[:20], EVERYTHING), 1e-4)
    # The window is really there: the last token sees eight positions.
    assert np.count_nonzero(record.attention[0]) == 8


def test_a_failed_forward_leaves_a_drafter_that_starts_afresh(drafter, tiny, monkeypatch):
    drafter.forward(0, [5, 6, 7])
    layer = tiny.module.model.layers[2]
    monkeypatch.setattr(layer, "forward", lambda *a, **k: (_ for _ in ()).throw(RuntimeError("out of memory")))
    with pytest.raises(RuntimeError, match="out of memory"):
        drafter.forward(3, [8])
    monkeypatch.undo()
    with pytest.raises(InvalidRequestError, match="holds 0"):
        drafter.forward(3, [8])
    record = drafter.forward(0, [5, 6, 7, 8], EVERYTHING)
    assert_same_record(record, TorchDrafter(tiny, attention_layer=LAYER).forward(0, [5, 6, 7, 8], EVERYTHING), 1e-6)


@pytest.mark.parametrize(
    ("keep", "new", "words"),
    [
        (0, [], "at least one"),
        (1, [5], "cannot keep 1"),
        (-1, [5], "cannot keep -1"),
        (0, [VOCABULARY_SIZE], "outside the vocabulary"),
        (0, [-1], "outside the vocabulary"),
        (0, [5] * (CONTEXT + 1), "context is full"),
    ],
)
def test_bad_requests_are_refused(drafter, keep, new, words):
    with pytest.raises(InvalidRequestError, match=words):
        drafter.forward(keep, new)


def test_attention_is_refused_where_it_cannot_be_read(folder, tiny):
    with pytest.raises(ModelError, match="attention_layer"):
        TorchDrafter(tiny).forward(0, [5], Wants(attention=True))
    fused = load_torch(folder, TorchSettings(WeightType.FLOAT32, AttentionKind.SDPA, device_map="cpu"))
    with pytest.raises(ModelError, match="load it with eager"):
        TorchDrafter(fused, attention_layer=0)
