"""In company and alone: how far a real engine's probabilities move with the batch, and how many tokens differ for it.

The same ids are run alone and in one batch of eight sessions, prompts in chunks beside the others' verdicts; every token is
drawn from both rows with one noise. Stated tolerance: probabilities to 1e-3, at most 1 token in 100.
"""

from __future__ import annotations

import numpy as np
import pytest

from known_rows import Known
from uihlm_basestation.engines.engine import Engine, Work
from uihlm_basestation.verification import draw_alone
from uihlm_models import bundled
from uihlm_proto.randomness import Draws, session_key
from uihlm_proto.sampling import Sampling

pytestmark = pytest.mark.slow

SESSIONS, TOKENS, CHUNK = 8, 12, 16
TOLERANCE, MOST_DIFFERING = 1e-3, 0.01


def llama() -> Engine:
    from uihlm_basestation.engines.llama_engine import LlamaEngine

    return LlamaEngine(bundled.llm_path(), max_sessions=SESSIONS + 1, max_context=256)


def torch_float32() -> Engine:
    from uihlm_basestation.engines.torch_engine import TorchEngine
    from uihlm_models.pytorch.runtime import TorchSettings, WeightType, load_torch

    model = load_torch(bundled.llm_path(), TorchSettings(WeightType.FLOAT32, device_map="cpu"))
    return TorchEngine(model, max_sessions=SESSIONS + 1, max_context=256)


@pytest.mark.parametrize("load", [llama, torch_float32])
def test_tokens_in_company_are_those_of_a_session_alone(load):
    engine, sampling = load(), Sampling(0.6)
    rng = np.random.default_rng(5)
    words = engine.tokenizer.encode("Rivers carry water and sand from the hills to the sea, where the sand stays.")
    ids, alone = {}, {}
    for session in range(SESSIONS):
        prompt = [words[int(i)] for i in rng.integers(0, len(words), 20 + 3 * session)]
        draws = Draws(session_key(0, session))
        own, rows = list(prompt), engine.forward([Work(99, 0, prompt, 1)])
        alone[session] = []
        for _ in range(TOKENS):
            y = sampling.distribution(rows[0][-1])
            alone[session].append((y, draw_alone(Known(y), draws, len(own))))
            own.append(alone[session][-1][1])
            rows = engine.forward([Work(99, len(own) - 1, own[-1:], 1)])
        engine.close_session(99)
        ids[session] = prompt, own
    # Sessions come in one after another, so that chunks of prompts ride with the others' tokens.
    done = dict.fromkeys(range(SESSIONS), 0)
    worst, differing, drawn, turn = 0.0, 0, 0, 0
    while True:
        work = []
        for session, (prompt, own) in ids.items():
            start, end = done[session], len(prompt) + TOKENS - 1
            stop = min(start + CHUNK, len(prompt)) if start < len(prompt) else min(start + 1, end)
            if start < end and turn >= 2 * session:
                work.append(Work(session, start, own[start:stop], int(stop >= len(prompt))))
        turn += 1
        if not work:
            break
        for part, rows in zip(work, engine.forward(work), strict=True):
            done[part.session] = part.keep_len + len(part.new_ids)
            if part.rows:
                n = done[part.session] - len(ids[part.session][0])
                y, token = alone[part.session][n]
                mine = sampling.distribution(rows[-1])
                worst = max(worst, float(np.abs(mine - y).max()))
                again = draw_alone(Known(mine), Draws(session_key(0, part.session)), done[part.session])
                differing += again != token
                drawn += 1
    engine.close()
    print(f"{engine.description}: probabilities move by {worst:.2g} at most, {differing} of {drawn} tokens differ")
    assert drawn == SESSIONS * TOKENS
    assert worst < TOLERANCE and differing <= MOST_DIFFERING * drawn, (worst, differing, drawn)
