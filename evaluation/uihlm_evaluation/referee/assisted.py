"""transformers' assisted generation as a decode loop for the referee: an example, and a check of what many people run.

The models handed to the loop become real Llamas of one layer, whose logits are log x and log y of the last id:

    h = e_id (one-hot; attention and MLP write nothing)  →  RMSNorm(h) = √m · e_id  →  W_t,id = log p(t | id) / √m

so the whole of it runs: cache, crop after a rejection, logits processors, drafts and judgement. (Its default top-k of 50 cuts
nothing off twelve tokens.)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from uihlm_evaluation.referee.stage import VOCABULARY_SIZE, FloatArray, Model

# m: wide enough for twelve ids, and for two heads.
_WIDTH = 16


@dataclass(frozen=True, slots=True)
class Assisted:
    """A decode loop (`Decode`) around `generate(assistant_model=…)`.

    Attributes:
        drafts: tokens that the assistant drafts a round.
        sample: false for greedy decoding.
        ensemble_weight: `assistant_ensemble_weight`; None leaves the lossless rule.
        temperature: of both ends.
        loaded: models by table, so that they are built once.
    """

    drafts: int = 4
    sample: bool = True
    ensemble_weight: float | None = None
    temperature: float = 1.0
    loaded: dict[bytes, Any] = dataclasses.field(default_factory=dict)

    def __call__(self, x: Model, y: Model, prompt: Sequence[int], max_tokens: int, seed: int) -> list[int]:
        """Return `max_tokens` ids; see `Decode`."""
        import torch

        torch.manual_seed(seed)
        more = {} if self.ensemble_weight is None else {"assistant_ensemble_weight": self.ensemble_weight}
        if self.sample:
            more["temperature"] = self.temperature
        assistant = self._llama(x)
        # Drafts are cut short where the assistant is unsure; 0 leaves them as long as they are asked for.
        assistant.generation_config.assistant_confidence_threshold = 0.0
        assistant.generation_config.num_assistant_tokens = self.drafts
        assistant.generation_config.num_assistant_tokens_schedule = "constant"
        ids = torch.tensor([list(prompt)])
        with torch.no_grad():
            line = self._llama(y).generate(
                ids,
                attention_mask=torch.ones_like(ids),
                assistant_model=assistant,
                do_sample=self.sample,
                max_new_tokens=max_tokens,
                **more,
            )
        written: list[int] = line[0, len(prompt) :].tolist()
        return written

    def _llama(self, model: Model) -> Any:
        table = np.stack([model([last]) for last in range(VOCABULARY_SIZE)])
        key = table.tobytes()
        if key not in self.loaded:
            self.loaded[key] = llama_of(table)
        return self.loaded[key]


def llama_of(table: FloatArray) -> Any:
    """Return a Llama whose next-token distribution after any text is the row `[last id, next]` of its last id."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    size = len(table)
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=_WIDTH,
        intermediate_size=_WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    llama = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        layer = llama.model.layers[0]
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
        llama.model.embed_tokens.weight.copy_(torch.eye(size, _WIDTH))
        weights = torch.zeros(size, _WIDTH)
        weights[:, :size] = torch.from_numpy(np.log(table).T / np.sqrt(_WIDTH))
        llama.lm_head.weight.copy_(weights)
    return llama
