"""Peers write prompts in turn, and clocks say how long that took them.

Those that are nearest to each other, by what is asked of them, write each prompt several times in turn, and beside each turn
the bare forwards are timed that the bound of blocks is made of: the machine's own speed moves within a minute.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.clocks import clocks
from benchmarks.peers.alone import Alone, forward_times
from benchmarks.peers.assisted import Assisted, loaded
from benchmarks.peers.bare_stream import BareStream
from benchmarks.peers.ours import Ours, opened
from benchmarks.peers.peer import Peer
from benchmarks.peers.unary import Unary
from uihlm_basestation.engines.loading import EngineSettings, load_engine
from uihlm_cli.runs.memory import keep_large_blocks
from uihlm_device.drafters.loading import Drafters, DrafterSettings
from uihlm_device.rules.policies import PolicySettings, policy
from uihlm_evaluation.prompts.datasets import load
from uihlm_models.chat_format import ChatFormat
from uihlm_models.presets import Role
from uihlm_models.sources import resolve

# Drafts a block, by codec: both judges, since acceptance differs.
BLOCKS = {"coupled": (2, 3, 4), "dense32": (2, 3, 4)}
LENGTHS = sorted({length for those in BLOCKS.values() for length in those})
# Written in fewer prompts: one answer of theirs takes as long as ten of the others.
SLOW = ("transformers", "unary, as described")


def block_name(codec: str, length: int) -> str:
    """Return what blocks of so many drafts are called among the peers."""
    return f"hlm, {codec}, blocks of {length}"


# Held against each other within a few per cent: the LLM alone, and the blocks that the bound is highest for on CPUs.
NEAREST = ("llama.cpp", "llm", "bare stream", *(block_name(codec, min(lengths)) for codec, lengths in BLOCKS.items()))

Blocks = Mapping[tuple[str, int], Ours]


@dataclass(frozen=True, slots=True)
class Measured:
    """By one clock.

    Attributes:
        rates: tokens a second of every peer, by prompt.
        forwards_s: seconds of bare forwards (`forward_times`), turn by turn.
        alone_s: seconds of a token of the LLM's own loop, without prefill, turn by turn.
    """

    rates: dict[str, list[float]]
    forwards_s: Sequence[Mapping[tuple[str, int], float]]
    alone_s: Sequence[float]


class Stopwatch:
    """What some clocks say of answers and of bare forwards."""

    def __init__(self, read: Mapping[str, Callable[[], float]]) -> None:
        self._read = read
        # By clock, peer and prompt: tokens and seconds.
        self._answers: dict[str, dict[str, dict[int, tuple[int, float]]]] = {clock: {} for clock in read}
        self._forwards: dict[str, list[Mapping[tuple[str, int], float]]] = {clock: [] for clock in read}

    def write(self, name: str, peer: Peer, prompt: Sequence[int], tokens: int, number: int) -> None:
        """Let a peer write an answer to prompt `number`."""
        began_s = {clock: now() for clock, now in self._read.items()}
        written = peer.write(prompt, tokens, number)
        ended_s = {clock: now() for clock, now in self._read.items()}
        if written != tokens:
            raise RuntimeError(f"{name} wrote {written} of {tokens} tokens: its figure would not compare")
        for clock in self._read:
            own = self._answers[clock].setdefault(name, {})
            before, before_s = own.get(number, (0, 0.0))
            own[number] = before + tokens, before_s + ended_s[clock] - began_s[clock]

    def forwards(self, llm: Alone, slm: Alone, prefix: Sequence[int], turns: int) -> None:
        """Time the bare forwards behind the bound of blocks, after some ids."""
        for clock, now in self._read.items():
            self._forwards[clock].append(forward_times(llm, slm, prefix, LENGTHS, turns, now))

    def measured(self, clock: str, alone: Alone) -> Measured:
        """Return what one clock says; `alone` has told it about itself."""
        rates = {
            name: [tokens / seconds for tokens, seconds in own.values()] for name, own in self._answers[clock].items()
        }
        return Measured(rates, self._forwards[clock], [token_s[clock] for token_s in alone.token_s])


def measure(options: argparse.Namespace) -> tuple[dict[str, Measured], Blocks]:
    """Let every peer write every prompt, in turn; return what each clock says, and the peers that sent blocks."""
    keep_large_blocks()
    slm, llm = resolve("bundled", Role.DRAFTER), resolve("bundled", Role.TARGET)
    threads = options.threads
    read = clocks(threads)
    drafters = Drafters(slm, DrafterSettings(threads=threads))
    first_turn = ChatFormat(drafters.tokenizer).first_turn
    prompts = [first_turn(example.user_turn) for example in load(options.data).examples[: options.prompts]]
    drafter: Any = drafters.for_policy(policy("hlm", PolicySettings()))
    engine: Any = load_engine(llm, EngineSettings(threads=threads))
    # Every peer writes as many tokens as it is asked for.
    drafter.stop_ids = engine.stop_ids = frozenset()
    alone, bare_slm = Alone(llm.path, threads), Alone(slm.path, threads)
    watch = Stopwatch(read)
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(opened(engine))
        blocks = {
            (name, length): Ours(stream, drafter, codec=name, length=length)
            for name, those in BLOCKS.items()
            for length in those
        }
        peers: dict[str, Peer] = {
            "llama.cpp": alone,
            "llm": Ours(stream, drafter, "llm"),
            "bare stream": stack.enter_context(BareStream(alone)),
            "hlm": Ours(stream, drafter),
            "hlm, dense32": Ours(stream, drafter, codec="dense32"),
            **{block_name(*key): block for key, block in blocks.items()},
            "unary, caches kept": stack.enter_context(Unary(slm.path, llm.path, threads, keeps_caches=True)),
        }
        for peer in peers.values():
            peer.write(prompts[0], 8, 0)
            if isinstance(peer, Ours):
                peer.answers.clear()
        alone.token_s.clear()
        if options.slow_prompts:
            peers |= _slow_peers(stack, threads)
        others = [name for name in peers if name not in NEAREST]
        for number, prompt in enumerate(prompts):
            print(f"prompt {number + 1} of {len(prompts)}", end="\r", file=sys.stderr, flush=True)
            for _ in range(options.times):
                for name in NEAREST:
                    watch.write(name, peers[name], prompt, options.tokens, number)
                # In the midst of an answer.
                prefix = [*prompt, *[prompt[-1]] * (options.tokens // 2)]
                watch.forwards(alone, bare_slm, prefix, options.turns)
            for name in others:
                slow = name.startswith(SLOW)
                if not slow or number < options.slow_prompts:
                    watch.write(name, peers[name], prompt, options.slow_tokens if slow else options.tokens, number)
        print(file=sys.stderr)
    return {clock: watch.measured(clock, alone) for clock in read}, blocks


def _slow_peers(stack: contextlib.ExitStack, threads: int) -> dict[str, Peer]:
    """Return the peers that take ten times as long as the others."""
    import torch

    slm, llm = (resolve("bundled", role).path for role in (Role.DRAFTER, Role.TARGET))
    torch.set_num_threads(threads or torch.get_num_threads())
    large, small = loaded(llm), loaded(slm)
    return {
        "unary, as described": stack.enter_context(Unary(slm, llm, threads, keeps_caches=False)),
        "transformers, LLM alone": Assisted(large),
        "transformers, assisted": Assisted(large, small),
        "transformers, assisted, 2 drafts": Assisted(large, small, drafts=2),
        "transformers, assisted, 4 drafts": Assisted(large, small, drafts=4),
    }
