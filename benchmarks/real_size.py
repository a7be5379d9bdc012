"""How near the floor is a verification round at the paper's real size?   python -m benchmarks.real_size   (needs a GPU)

LLaMA-2-7B's shape with random bf16 weights (no download) in the Torch engine: one round of 1, 8, 32 and 128 sessions that each
hold 512 positions. Beside it, in turn, transformers' own decode step on a batch of that size. The floor is what must be read:

    floor = (bytes of weights + sessions · positions · bytes of keys and values a position) ÷ memory bandwidth

with the bandwidth measured on this GPU in the same run (a copy of 2 GB, read and written). At 7 B and 512 positions the cache
of a session is 0.27 GB, so 128 sessions read 13.5 + 34 GB a round: at best 37 times the rounds a second of one.

--tiny and --device cpu try the script itself without a GPU: their figures mean nothing.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from benchmarks import findings as report
from benchmarks.findings import Finding, ratios
from uihlm_basestation.engines.engine import Work
from uihlm_basestation.engines.torch_engine import TorchEngine
from uihlm_models.pytorch.runtime import AttentionKind, TorchModel

BATCHES = (1, 8, 32, 128)
GOAL = 1.3
_COPY_BYTES = 2 << 30
_CHUNK = 8


@dataclass(frozen=True, slots=True)
class Shape:
    """A Llama's shape."""

    vocabulary: int
    width: int
    hidden: int
    layers: int
    heads: int


LLAMA_2_7B = Shape(32000, 4096, 11008, 32, 32)
TINY = Shape(256, 64, 128, 2, 4)


class _Pieces:
    """A vocabulary of the right size without words: nothing here is tokenised."""

    stop_ids: frozenset[int] = frozenset()

    def __init__(self, size: int) -> None:
        self.vocabulary_size = size

    def pieces(self) -> list[str]:
        return [f"piece{number}" for number in range(self.vocabulary_size)]


def random_model(shape: Shape, positions: int, device: str) -> TorchModel:
    """Return a Llama of that shape with random bf16 weights, made where it runs."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        intermediate_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=positions + 128,
        dtype=torch.bfloat16,
        attn_implementation="sdpa",
    )
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            module = LlamaForCausalLM(config).eval()
    finally:
        torch.set_default_dtype(before)
    pieces: Any = _Pieces(shape.vocabulary)
    positions = config.max_position_embeddings
    kind = AttentionKind.SDPA
    return TorchModel(module, pieces, "random", shape.vocabulary, positions, shape.layers, shape.heads, kind)


class Gpu:
    """Where it runs: waiting for what was asked of it, and its memory's bandwidth."""

    def __init__(self, device: str) -> None:
        import torch

        self._torch, self.device = torch, device

    def wait(self) -> None:
        """Return once everything asked for is done."""
        if self.device != "cpu":
            self._torch.cuda.synchronize()

    def seconds(self, run: Callable[[], object]) -> float:
        """Return the wall seconds of something, all of it done."""
        self.wait()
        began_s = time.perf_counter()
        run()
        self.wait()
        return time.perf_counter() - began_s

    def bandwidth(self, size: int) -> float:
        """Return bytes a second: of a copy, whose bytes are read and written, the best of many."""
        source = self._torch.zeros(size, dtype=self._torch.uint8, device=self.device)
        target = self._torch.empty_like(source)
        return 2 * size / min(self.seconds(lambda: target.copy_(source)) for _ in range(12))


def _peer(model: TorchModel, sessions: int, positions: int) -> Callable[[], object]:
    """Return transformers' own decode step on a batch whose sessions hold `positions` positions."""
    import torch
    from transformers import DynamicCache

    module = model.module
    cache = DynamicCache()
    config = module.config
    shape = (sessions, config.num_key_value_heads, positions, config.hidden_size // config.num_attention_heads)
    # Keys and values of any content take the same time; a prefill of 128 sessions would take most of the run.
    for layer in range(model.layer_count):
        keys = torch.randn(shape, dtype=module.dtype, device=module.device)
        cache.update(keys, torch.randn_like(keys), layer)
    ids = torch.full((sessions, 1), 9, device=module.device)

    def step() -> object:
        with torch.inference_mode():
            logits = module(ids, past_key_values=cache, use_cache=True).logits
        # What a server needs of it is on the CPU, here as in ours.
        rows = logits.float().cpu()
        cache.crop(-1)
        return rows

    return step


def measure(
    model: TorchModel, gpu: Gpu, batches: Sequence[int], positions: int, turns: int, copy_bytes: int
) -> tuple[list[Finding], dict[str, Any]]:
    """Return the findings, and the seconds behind them."""
    import torch

    weights = sum(p.numel() * p.element_size() for p in model.module.parameters())
    # An embedding is looked up, not read; the output matrix is.
    weights -= model.module.get_input_embeddings().weight.nbytes
    bandwidth = gpu.bandwidth(copy_bytes)
    findings = [Finding("memory bandwidth, measured", bandwidth / 1e9, bandwidth / 1e9, bandwidth / 1e9, "GB/s")]
    engine = TorchEngine(model, max_sessions=max(batches), max_context=positions + 16)
    prefix = [7 + place % 64 for place in range(positions)]
    for start in range(0, max(batches), _CHUNK):
        print(f"prefill of session {start} …", file=sys.stderr)
        engine.forward([Work(s, 0, prefix, 1) for s in range(start, min(start + _CHUNK, max(batches)))])
    rates: dict[int, float] = {}
    more: dict[str, Any] = {"weights_bytes": weights, "kv_position_bytes": model.kv_position_bytes, "rounds": {}}
    for sessions in batches:
        work = [Work(session, positions, [9], 1) for session in range(sessions)]
        floor_s = (weights + sessions * positions * model.kv_position_bytes) / bandwidth
        step = _peer(model, sessions, positions)
        own_s, peer_s = [], []
        for turn in range(turns + 2):
            times = gpu.seconds(partial(engine.forward, work)), gpu.seconds(step)
            # Kernels are chosen and compiled in the first.
            if turn > 1:
                own_s.append(times[0])
                peer_s.append(times[1])
        del step
        if gpu.device != "cpu":
            torch.cuda.empty_cache()
        rates[sessions] = sessions / float(np.median(own_s))
        name = f"{sessions} session{'s' * (sessions > 1)}"
        findings += [
            Finding.of(f"round of {name} ÷ floor", [own / floor_s for own in own_s], goal=GOAL, at_most=True),
            ratios(f"round of {name} ÷ transformers' decode step", own_s, peer_s),
        ]
        more["rounds"][str(sessions)] = {
            "floor_ms": 1e3 * floor_s,
            "round_ms": 1e3 * float(np.median(own_s)),
            "transformers_ms": 1e3 * float(np.median(peer_s)),
        }
    gain = rates[max(batches)] / rates[min(batches)]
    findings.append(Finding(f"rounds/s of {max(batches)} sessions ÷ of {min(batches)}", gain, gain, gain))
    return findings, more


def main() -> None:
    """Measure and print; --json writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--context", type=int, default=512, help="positions that each session holds")
    parser.add_argument("--batch", type=int, action="append", help=f"sessions; repeats (default {BATCHES})")
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a tiny shape: tries the script, measures nothing")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    import torch

    if options.device == "cpu" and not options.tiny:
        parser.error("at its real size this needs a GPU: on a CPU only --tiny can be tried")
    if options.device != "cpu" and not torch.cuda.is_available():
        parser.error(
            "no GPU here (torch.cuda.is_available() is false): install a Torch built for yours, or try the script with "
            "--tiny --device cpu"
        )
    gpu = Gpu(options.device)
    shape = TINY if options.tiny else LLAMA_2_7B
    print(f"making random weights of {shape} …", file=sys.stderr)
    model = random_model(shape, options.context, options.device)
    batches = sorted(options.batch or ((1, 4) if options.tiny else BATCHES))
    copy_bytes = _COPY_BYTES >> 8 if options.tiny else _COPY_BYTES
    findings, more = measure(model, gpu, batches, options.context, options.turns, copy_bytes)
    print(report.table(findings))
    if options.json:
        report.write(options.json, findings, more | {"shape": str(shape), "context": options.context})


if __name__ == "__main__":
    main()
