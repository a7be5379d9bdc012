"""Trees in Torch: rows of chains, the path kept without running it again, windows respected."""

from __future__ import annotations

import numpy as np
import pytest

from engine_trees import random_forwards, random_tree
from tiny_torch import VOCABULARY_SIZE, on_one_thread, write_tiny_llama
from uihlm_basestation.engines.engine import Work
from uihlm_basestation.engines.torch_engine import TorchEngine
from uihlm_basestation.engines.trees import branches
from uihlm_models.pytorch.runtime import PREFILL_CHUNK, AttentionKind, TorchSettings, WeightType, load_torch
from uihlm_proto.errors import InvalidRequestError

CPU = TorchSettings(WeightType.FLOAT32, device_map="cpu")
EAGER = TorchSettings(WeightType.FLOAT32, AttentionKind.EAGER, device_map="cpu")
TOLERANCE = 1e-4


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    yield from on_one_thread()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny_llama(tmp_path_factory.mktemp("tiny"))


def write_mistral(folder, **overrides):
    """A model whose every layer sees eight positions."""
    from transformers import MistralConfig, MistralForCausalLM

    write_tiny_llama(folder)
    settings = {
        "vocab_size": VOCABULARY_SIZE, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "sliding_window": 8, "initializer_range": 0.3,
        "max_position_embeddings": 256,
    }  # fmt: skip
    MistralForCausalLM(MistralConfig(**settings)).save_pretrained(str(folder))
    return folder


def write_qwen(folder):
    """A model whose first layer sees everything and whose second sees eight positions."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    write_tiny_llama(folder)
    config = Qwen2Config(
        vocab_size=VOCABULARY_SIZE, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, use_sliding_window=True, sliding_window=8, max_window_layers=1, initializer_range=0.3,
        max_position_embeddings=256,
    )  # fmt: skip
    assert config.layer_types == ["full_attention", "sliding_attention"]
    Qwen2ForCausalLM(config).save_pretrained(str(folder))
    return folder


def fresh(model, ids, rows=1):
    """The rows of a prefill by transformers alone."""
    import torch

    with torch.inference_mode():
        return model.module(torch.tensor([ids]), use_cache=False).logits[0, len(ids) - rows :].numpy()


@pytest.mark.parametrize("settings", [CPU, EAGER], ids=["sdpa", "eager"])
def test_after_random_trees_chains_and_rollbacks_every_row_equals_a_fresh_prefill(folder, settings):
    model = load_torch(folder, settings)
    engine = TorchEngine(model, max_sessions=3)
    rng = np.random.default_rng(11)
    checked = 0
    for ids, row in random_forwards(engine, rng, lambda: int(rng.integers(2, VOCABULARY_SIZE)), 5, 25, 60):
        if rng.random() < 0.3:
            np.testing.assert_allclose(row, fresh(model, ids)[0], atol=TOLERANCE)
            checked += 1
    assert checked > 100


@pytest.mark.parametrize("write", [write_mistral, write_qwen])
def test_a_sliding_window_counts_positions_along_the_path(tmp_path, write):
    model = load_torch(write(tmp_path), CPU)
    engine = TorchEngine(model)
    rng = np.random.default_rng(12)
    prompt, ids = [int(i) for i in rng.integers(2, 200, 20)], [int(i) for i in rng.integers(2, 200, 40)]
    parents = random_tree(rng, 40)
    engine.forward([Work(1, 0, prompt, 0)])
    rows = engine.forward([Work(1, 20, ids, 40, parents)])[0]
    assert max(map(len, branches(parents))) > 8, "no branch leaves the window"
    for branch in branches(parents):
        expected = fresh(model, [*prompt, *(ids[n] for n in branch)], len(branch))
        np.testing.assert_allclose(rows[branch], expected, atol=TOLERANCE)


def test_a_path_that_stands_is_not_run_again(folder, monkeypatch):
    model = load_torch(folder, CPU)
    engine = TorchEngine(model)
    counts = []
    right = model.module.forward
    monkeypatch.setattr(model.module, "forward", lambda ids, **kw: (counts.append(ids.shape[1]), right(ids, **kw))[1])
    engine.forward([Work(1, 0, [5, 6, 7], 0)])
    engine.forward([Work(1, 3, [8, 9, 10, 11], 4, [-1, 0, 0, 2])])
    engine.forward([Work(1, 6, [12, 13], 2, [-1, -1], [0, 2, 3])])
    rows = engine.forward([Work(1, 7, [14], 1, None, [1])])[0]
    assert counts == [3, 4, 2, 1]
    np.testing.assert_allclose(rows, fresh(model, [5, 6, 7, 8, 10, 11, 13, 14]), atol=TOLERANCE)


def test_a_tree_after_a_trunk_longer_than_a_chunk(folder):
    model = load_torch(folder, CPU)
    engine = TorchEngine(model, max_context=0)
    rng = np.random.default_rng(13)
    trunk = PREFILL_CHUNK + 5
    ids = [int(i) for i in rng.integers(2, VOCABULARY_SIZE, trunk + 20)]
    parents = [*range(-1, trunk - 1), *(trunk + max(p, -1) for p in random_tree(rng, 20))]
    rows = engine.forward([Work(1, 0, ids, 21, parents)])[0]
    for branch in branches(parents):
        np.testing.assert_allclose(
            rows[branch[-1] - trunk + 1], fresh(model, [ids[n] for n in branch])[0], atol=TOLERANCE
        )
    path = branches(parents)[0]
    rows = engine.forward([Work(1, len(path), [9], 1, None, path)])[0]
    np.testing.assert_allclose(rows, fresh(model, [*(ids[n] for n in path), 9]), atol=TOLERANCE)


def test_a_bad_tree_is_refused_before_any_part_runs(folder):
    model = load_torch(folder, CPU)
    engine = TorchEngine(model, max_context=100)
    engine.forward([Work(1, 0, [5, 6, 7], 0), Work(2, 0, [5, 6], 0)])
    engine.forward([Work(1, 3, [8, 9, 10], 1, [-1, 0, 0])])
    for bad, sentence in (
        (Work(1, 3, [8, 9], 1, [-1]), "1 parents for 2 nodes"),
        (Work(1, 3, [8, 9], 1, [-1, 1]), "node 1 names parent 1"),
        (Work(1, 5, [8], 1, None, [1, 2]), "does not run from a root"),
        (Work(1, 5, [8], 1, None, [0]), "holds 4 positions, cannot keep 5"),
    ):
        with pytest.raises(InvalidRequestError, match=sentence):
            engine.forward([Work(2, 2, [11], 1), bad])
    rows = engine.forward([Work(1, 5, [12], 1, None, [0, 2]), Work(2, 2, [11], 1)])
    np.testing.assert_allclose(rows[0], fresh(model, [5, 6, 7, 8, 10, 12]), atol=TOLERANCE)
    np.testing.assert_allclose(rows[1], fresh(model, [5, 6, 11]), atol=TOLERANCE)


def test_a_failed_tree_can_be_asked_again(folder, monkeypatch):
    model = load_torch(folder, CPU)
    engine = TorchEngine(model)
    engine.forward([Work(1, 0, [5, 6, 7], 0)])
    engine.forward([Work(1, 3, [8, 9, 10], 1, [-1, 0, 0])])
    part = Work(1, 5, [12, 13], 2, [-1, 0], [0, 2])

    def fail(*args, **kwargs):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(model.module.model.layers[2], "forward", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        engine.forward([part])
    monkeypatch.undo()
    np.testing.assert_allclose(engine.forward([part])[0], fresh(model, [5, 6, 7, 8, 10, 12, 13], 2), atol=TOLERANCE)
