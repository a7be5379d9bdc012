"""The LLM alone in llama.cpp: its low-level API, fused attention, its own sampler; nothing in between."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.clocks import CLOCKS
from benchmarks.peers.peer import TEMPERATURE
from uihlm_models.llama.binding import library
from uihlm_models.llama.runtime import LlamaRuntime, RuntimeSettings


class Alone:
    """A bare loop over a GGUF (`Peer`).

    Attributes:
        token_s: of each answer written, seconds of a token after the first one, so without the prefill, by clock.
    """

    def __init__(self, path: Path, threads: int) -> None:
        self.token_s: list[dict[str, float]] = []
        lib = self._lib = library()
        self.runtime = LlamaRuntime(path, RuntimeSettings(n_ctx=2048, n_threads=threads))
        self._sampler = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
        lib.llama_sampler_chain_add(self._sampler, lib.llama_sampler_init_temp(TEMPERATURE))
        lib.llama_sampler_chain_add(self._sampler, lib.llama_sampler_init_dist(0))

    def prefill(self, prompt: Sequence[int]) -> None:
        """Forget what was, and run a prompt."""
        self.runtime.truncate(0, 0)
        self.runtime.decode(prompt, range(len(prompt)), 0, [False] * (len(prompt) - 1) + [True])

    def write(self, prompt: Sequence[int], tokens: int, seed: int) -> int:
        """Write an answer; see `Peer`."""
        self.prefill(prompt)
        token = self._lib.llama_sampler_sample(self._sampler, self.runtime._context, -1)
        began_s = {clock: now() for clock, now in CLOCKS.items()}
        for position in range(len(prompt), len(prompt) + tokens - 1):
            self.runtime.decode_one(token, position)
            token = self._lib.llama_sampler_sample(self._sampler, self.runtime._context, -1)
        if tokens > 1:
            self.token_s.append({clock: (now() - began_s[clock]) / (tokens - 1) for clock, now in CLOCKS.items()})
        return tokens

    def write_one(self, token: int, position: int) -> int:
        """Run a token at a position, forgetting what was there, and draw the next."""
        self.runtime.truncate(0, position)
        self.runtime.decode_one(token, position)
        return int(self._lib.llama_sampler_sample(self._sampler, self.runtime._context, -1))

    def forward_s(
        self, start: int, positions: int, clock: Callable[[], float] = time.perf_counter, rows: int | None = None
    ) -> float:
        """Return the seconds of one forward of so many positions after the first `start`.

        The last `rows` of them have logits; None is all. Each takes a product with the whole vocabulary.
        """
        self.runtime.truncate(0, start)
        wanted = np.arange(positions) >= (0 if rows is None else positions - rows)
        began_s = clock()
        self.runtime.decode([7] * positions, np.arange(start, start + positions, dtype=np.int32), 0, wanted)
        return clock() - began_s


def forward_times(
    llm: Alone,
    slm: Alone,
    prompt: Sequence[int],
    lengths: Sequence[int],
    turns: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[tuple[str, int], float]:
    """Return the median seconds of bare forwards after a prompt, each where it stands in its own loop.

    A forward is quicker after one of the same model, some of whose weights the caches still hold: by a twentieth for the
    bundled pair. So the LLM's single positions follow each other, and a block's forwards follow each other as in its round.
    llama.cpp keeps the graph of the last batch and makes another one where a batch has another shape: so a round is timed after
    one like it.

    Args:
        llm: loop over the large model.
        slm: loop over the small one.
        prompt: ids to run first.
        lengths: drafts a block.
        turns: how often each is timed.
        clock: in seconds.

    Returns:
        ("alone", 1): the LLM's forward of one position; ("verify", L): of L + 1 positions, after L drafts; ("draft", L): one
        of L drafts in a row, on average; ("later", L): the same where the first runs two positions, of which the last alone
        has logits: a draft that nobody has run stands before the token to go on from.
    """
    start = len(prompt)
    times: dict[tuple[str, int], list[float]] = {}
    for loop in (llm, slm):
        loop.prefill(prompt)
    for turn in range(turns + 1):
        llm.forward_s(start, 1)
        own = {("alone", 1): llm.forward_s(start, 1, clock)}
        for length in lengths:
            for _ in range(2):
                own["draft", length] = sum(slm.forward_s(start, 1, clock) for _ in range(length)) / length
                own["verify", length] = llm.forward_s(start, length + 1, clock)
            later_s = [slm.forward_s(start, 2, clock, 1), *(slm.forward_s(start, 1, clock) for _ in range(length - 1))]
            own["later", length] = sum(later_s) / length
        if turn:
            for key, value in own.items():
                times.setdefault(key, []).append(value)
    return {key: float(np.median(values)) for key, values in times.items()}
