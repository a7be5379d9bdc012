"""How near is the device's loop to the floor?   python -m benchmarks.device_loop

The floor is a bare loop over llama.cpp's low-level API on the same weights, threads and temperature: decode one token with
fused attention, let the library's own sampler draw the next. Against it, the whole decode loop under `slm`, `u` and `ui`
with thresholds that skip every token (so that no base station enters). The loops take turns every few tokens, because a
machine's own speed moves within a second; the figure is the median over turns of the ratio of tokens a second.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.spread import Spread
from uihlm_cli.runs.memory import keep_large_blocks
from uihlm_device.conversation import Conversation
from uihlm_device.decode_settings import DecodeSettings
from uihlm_device.decoder import Decoder
from uihlm_device.drafters.loading import Drafters, DrafterSettings
from uihlm_device.rules.policies import PolicySettings, policy
from uihlm_device.stream.session import Cost, Upload, Verdict
from uihlm_models.chat_format import ChatFormat
from uihlm_models.llama.binding import library
from uihlm_models.llama.runtime import LlamaRuntime, RuntimeSettings
from uihlm_models.presets import Role
from uihlm_models.sources import resolve
from uihlm_proto.codecs import codec
from uihlm_proto.randomness import session_key
from uihlm_proto.sampling import Sampling
from uihlm_wireless.clock import SimulatedClock
from uihlm_wireless.ledger import Ledger
from uihlm_wireless.timing import TimingProfile

TEMPERATURE = 0.6
TURN_TOKENS = 8
GOALS = {"slm": 0.97, "u": 0.92, "ui": 0.90}
# No uncertainty exceeds 1, so every draft is skipped, after everything that the decision needs has been computed.
SKIP_ALL = PolicySettings(theta_u=1.1)


class _Silent:
    """A base station that is never asked anything."""

    max_context: int | None = None

    def open(self, prefix_ids: Sequence[int], key: bytes) -> int:
        return 0

    def ready(self) -> Cost:
        return Cost()

    def upload(self, upload: Upload) -> int:
        raise AssertionError("every draft is skipped here")

    def verdict(self, round_number: int) -> Verdict:
        raise AssertionError("every draft is skipped here")

    def reachable(self) -> bool:
        return True

    def arrived(self, round_number: int) -> bool:
        raise AssertionError("every draft is skipped here")

    def close(self) -> None:
        """Nothing is open."""


class Floor:
    """The bare loop."""

    def __init__(self, threads: int) -> None:
        lib = self._lib = library()
        self._runtime = LlamaRuntime(
            resolve("bundled", Role.DRAFTER).path, RuntimeSettings(n_ctx=2048, n_threads=threads)
        )
        self._sampler = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
        lib.llama_sampler_chain_add(self._sampler, lib.llama_sampler_init_temp(TEMPERATURE))
        lib.llama_sampler_chain_add(self._sampler, lib.llama_sampler_init_dist(0))

    def run(self, prompt: list[int], tokens: int) -> Iterator[int]:
        """Decode and sample `tokens` tokens after a prompt, whatever they are."""
        runtime, lib = self._runtime, self._lib
        runtime.truncate(0, 0)
        wanted = [False] * (len(prompt) - 1) + [True]
        runtime.decode(prompt, list(range(len(prompt))), 0, wanted)
        for position in range(len(prompt), len(prompt) + tokens - 1):
            token = lib.llama_sampler_sample(self._sampler, runtime._context, -1)
            runtime.decode_one(token, position)
            yield token
        yield lib.llama_sampler_sample(self._sampler, runtime._context, -1)


def loops(tokens: int, threads: int) -> dict[str, Callable[[int], Iterator[object]]]:
    """Return name → a function that starts an answer of `tokens` tokens for a repetition."""
    drafters = Drafters(resolve("bundled", Role.DRAFTER), DrafterSettings(threads=threads))
    prompt = ChatFormat(drafters.tokenizer).first_turn("Explain how a bicycle stays upright, in some detail.")
    floor = Floor(threads)
    ledger, clock, timing = Ledger(), SimulatedClock(), TimingProfile()
    found: dict[str, Callable[[int], Iterator[object]]] = {"floor": lambda repetition: floor.run(prompt, tokens)}
    for name in GOALS:
        rule = policy(name, SKIP_ALL)
        drafter = drafters.for_policy(rule)
        settings = DecodeSettings(Sampling(TEMPERATURE), tokens)
        decoder = Decoder(
            drafter, codec("dense32", drafter.vocabulary_size), rule, settings, clock, ledger, timing, _Silent
        )

        def write(repetition: int, decoder: Decoder = decoder) -> Iterator[object]:
            conversation = Conversation(session_key(repetition, 0))
            conversation.extend(list(prompt))
            return decoder.answer(conversation)

        found[name] = write
    return found


def _turns(answers: Mapping[str, Iterator[object]]) -> dict[str, float]:
    """Let each loop write a few tokens; return the seconds of each, nothing once one of them has ended."""
    took_s = {}
    for name, answer in answers.items():
        started_s = time.perf_counter()
        written = sum(1 for _ in itertools.islice(answer, TURN_TOKENS))
        took_s[name] = time.perf_counter() - started_s
        if written < TURN_TOKENS:
            return {}
    return took_s


def main() -> None:
    """Measure and print; --json writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=15)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    # As the commands do.
    keep_large_blocks()
    running = loops(options.tokens, options.threads)
    rates: dict[str, list[float]] = {name: [] for name in running}
    for repetition in range(-1, options.repetitions):
        answers = {name: write(repetition) for name, write in running.items()}
        for answer in answers.values():
            # The prompt and the first token: not part of a loop.
            next(answer)
        while took_s := _turns(answers):
            if repetition >= 0:
                for name, seconds in took_s.items():
                    rates[name].append(TURN_TOKENS / seconds)
    print(f"{'loop':8} {'tokens/s':>24} {'ratio to floor':>24}   goal")
    figures = {}
    for name, own in rates.items():
        ratio = Spread.of([rate / floor for rate, floor in zip(own, rates["floor"], strict=True)])
        goal = GOALS.get(name)
        print(f"{name:8} {Spread.of(own):>24.1f} {ratio:>24.3f}   {'' if goal is None else f'≥ {goal}'}")
        figures[name] = {"tok_s": Spread.of(own).median, "ratio": ratio.median, "low": ratio.low, "high": ratio.high}
    if options.json:
        Path(options.json).write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
