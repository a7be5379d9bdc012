"""Trees on real models, llama.cpp and Torch: what they write is what the LLM writes alone, in fewer trips."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fakes import Bench, serving
from tiny_torch import write_tiny_llama
from uihlm_basestation.engines.engine import Engine
from uihlm_basestation.engines.llama_engine import LlamaEngine
from uihlm_basestation.engines.torch_engine import TorchEngine
from uihlm_device.drafters.drafter import TreeDrafter
from uihlm_device.drafters.llama_drafter import LlamaDrafter
from uihlm_device.drafters.torch_drafter import TorchDrafter
from uihlm_models import bundled
from uihlm_models.chat_format import ChatFormat
from uihlm_models.pytorch.runtime import AttentionKind, TorchSettings, WeightType, load_torch
from uihlm_proto.sampling import Sampling

QUESTIONS = ("Name three uses of a brick.", "Why is the sky blue?", "Write a short poem about rain.")
TOKENS = 48


@pytest.fixture(scope="module")
def llama() -> Iterator[tuple[TreeDrafter, Engine, list[list[int]]]]:
    drafter = LlamaDrafter(bundled.slm_path())
    engine = LlamaEngine(bundled.llm_path())
    form = ChatFormat(drafter.tokenizer)
    yield drafter, engine, [form.first_turn(question) for question in QUESTIONS]
    drafter.close()
    engine.close()


@pytest.fixture(scope="module")
def torch(tmp_path_factory: pytest.TempPathFactory) -> tuple[TreeDrafter, Engine, list[list[int]]]:
    """One tiny model at both ends, so that paths are long."""
    folder = write_tiny_llama(tmp_path_factory.mktemp("tiny"))
    model = load_torch(folder, TorchSettings(WeightType.FLOAT32, AttentionKind.SDPA, device_map="cpu"))
    return TorchDrafter(model), TorchEngine(model), [[5, 6, 7], [9, 40, 41, 42], [100, 101]]


@pytest.mark.slow
@pytest.mark.parametrize("pair", ["llama", "torch"])
def test_tree_writes_what_the_llm_alone_writes(request: pytest.FixtureRequest, pair: str) -> None:
    drafter, engine, prompts = request.getfixturevalue(pair)
    rounds = written = 0
    with serving(engine) as address, Bench(address, drafter, "coupled", Sampling(0.6), timeout_s=120.0) as device:
        for index, prompt in enumerate(prompts):
            alone = device.run("llm", prompt, index=index, max_tokens=TOKENS)
            trees = device.run("hlm", prompt, index=index, max_tokens=TOKENS, tree=16)
            assert [r.token for r in trees] == [r.token for r in alone]
            rounds += trees[-1].round or 0
            written += len(trees)
    assert written > 1.3 * rounds
