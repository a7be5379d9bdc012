"""Peers in a process of their own, as whoever picked them would run them.

In one process with others they would not be what they are: every thread that runs forwards has a team of OpenMP threads, which
spin but briefly where there are two of them, and forwards of one's own are handed to the thread of an engine that is there
(models/uihlm_models/llama/turns.py).
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from multiprocessing.connection import Connection as Pipe
from typing import Any, Self

from benchmarks.clocks import clocks
from benchmarks.peers.alone import Alone
from benchmarks.peers.assisted import Assisted, loaded
from benchmarks.peers.bare_stream import BareStream
from benchmarks.peers.measured import (
    BLOCKS,
    EARLY_LENGTH,
    EARLY_P_MIN,
    INTERVAL,
    BlockAnswers,
    Measured,
    Stopwatch,
    block_name,
    early_name,
    interval_name,
)
from benchmarks.peers.ours import Ours, opened
from benchmarks.peers.peer import Peer
from benchmarks.peers.unary import Unary
from uihlm_basestation.engines.loading import EngineSettings, load_engine
from uihlm_cli.runs.memory import keep_large_blocks
from uihlm_device.drafters.loading import Drafters, DrafterSettings
from uihlm_device.rules.policies import PolicySettings, policy
from uihlm_models.presets import Role
from uihlm_models.sources import resolve

_ALONE = "llama.cpp"


def _bare(stack: contextlib.ExitStack, threads: int) -> dict[str, Peer]:
    return {_ALONE: Alone(resolve("bundled", Role.TARGET).path, threads)}


def _bare_stream(stack: contextlib.ExitStack, threads: int) -> dict[str, Peer]:
    return {"bare stream": stack.enter_context(BareStream(Alone(resolve("bundled", Role.TARGET).path, threads)))}


def _ours(stack: contextlib.ExitStack, threads: int) -> dict[str, Peer]:
    drafters = Drafters(resolve("bundled", Role.DRAFTER), DrafterSettings(threads=threads))
    drafter: Any = drafters.for_policy(policy("hlm", PolicySettings()))
    engine: Any = load_engine(resolve("bundled", Role.TARGET), EngineSettings(threads=threads))
    # Every peer writes as many tokens as it is asked for.
    drafter.stop_ids = engine.stop_ids = frozenset()
    stream = stack.enter_context(opened(engine))
    return {
        "llm": Ours(stream, drafter, "llm"),
        interval_name(): Ours(stream, drafter, "llm", interval=INTERVAL),
        "hlm": Ours(stream, drafter),
        "hlm, dense32": Ours(stream, drafter, codec="dense32"),
        **{
            block_name(codec, length): Ours(stream, drafter, codec=codec, length=length)
            for codec, lengths in BLOCKS.items()
            for length in lengths
        },
        **{
            early_name(codec): Ours(stream, drafter, codec=codec, length=EARLY_LENGTH, p_min=EARLY_P_MIN)
            for codec in BLOCKS
        },
    }


def _unary(stack: contextlib.ExitStack, threads: int, keeps_caches: bool = True) -> dict[str, Peer]:
    slm, llm = (resolve("bundled", role).path for role in (Role.DRAFTER, Role.TARGET))
    name = "unary, caches kept" if keeps_caches else "unary, as described"
    return {name: stack.enter_context(Unary(slm, llm, threads, keeps_caches))}


def _transformers(stack: contextlib.ExitStack, threads: int) -> dict[str, Peer]:
    import torch

    slm, llm = (resolve("bundled", role).path for role in (Role.DRAFTER, Role.TARGET))
    torch.set_num_threads(threads or torch.get_num_threads())
    large, small = loaded(llm), loaded(slm)
    return {
        "transformers, LLM alone": Assisted(large),
        "transformers, assisted": Assisted(large, small),
        "transformers, assisted, 2 drafts": Assisted(large, small, drafts=2),
        "transformers, assisted, 4 drafts": Assisted(large, small, drafts=4),
    }


GROUPS: dict[str, Callable[[contextlib.ExitStack, int], dict[str, Peer]]] = {
    "bare": _bare,
    "ours": _ours,
    "bare stream": _bare_stream,
    "unary": _unary,
}
# One answer of theirs takes as long as ten of the others.
SLOW_GROUPS = {"unary, as described": partial(_unary, keeps_caches=False), "transformers": _transformers}


class Here:
    """A group in this process."""

    def __init__(self, name: str, options: argparse.Namespace) -> None:
        """Open the peers of the group `name`."""
        self._threads = options.threads
        self._stack = contextlib.ExitStack()
        self._peers = (GROUPS | SLOW_GROUPS)[name](self._stack, options.threads)
        self._watch = Stopwatch(clocks(options.threads))
        self._slm: Alone | None = None

    def names(self) -> list[str]:
        """Return what its peers are called."""
        return list(self._peers)

    def warm(self, prompt: Sequence[int]) -> None:
        """Let each write a little, and forget it."""
        for peer in self._peers.values():
            peer.write(prompt, 8, 0)
            if isinstance(peer, Ours):
                peer.answers.clear()
            elif isinstance(peer, Alone):
                peer.token_s.clear()

    def write(self, name: str, prompt: Sequence[int], tokens: int, number: int) -> None:
        """Let a peer write an answer to prompt `number`."""
        self._watch.write(name, self._peers[name], prompt, tokens, number)

    def forwards(self, prefix: Sequence[int], turns: int) -> None:
        """Time bare forwards of both models after some ids."""
        llm: Any = self._peers[_ALONE]
        self._slm = self._slm or Alone(resolve("bundled", Role.DRAFTER).path, self._threads)
        self._watch.forwards(llm, self._slm, prefix, turns)

    def told(self) -> tuple[dict[str, Measured], dict[str, BlockAnswers]]:
        """Return what each clock says, and what answers in blocks had to say of their rounds, by peer."""
        llm: Any = self._peers.get(_ALONE)
        blocks = {name: peer.answers for name, peer in self._peers.items() if isinstance(peer, Ours)}
        return self._watch.measured([] if llm is None else llm.token_s), blocks


class Group:
    """A group in a process of its own: its methods are those of `Here`. A context manager."""

    def __init__(self, name: str, options: argparse.Namespace) -> None:
        """Start the process; its first answer comes when its peers are open."""
        context = multiprocessing.get_context("spawn")
        self._pipe, end = context.Pipe()
        self._process = context.Process(target=_serve, args=(end, name, options), daemon=True)
        self._process.start()
        end.close()

    def __enter__(self) -> Self:
        """Return it."""
        return self

    def __exit__(self, *exception: object) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join(10.0)
        self._process.kill()

    def __call__(self, method: str, *arguments: object) -> Any:
        """Call a method of `Here` there; its error is raised here."""
        self._pipe.send((method, arguments))
        answer, error = self._pipe.recv()
        if error is not None:
            raise error
        return answer


def _serve(pipe: Pipe, name: str, options: argparse.Namespace) -> None:
    # As the commands do.
    keep_large_blocks()
    with contextlib.suppress(EOFError):
        here: Here | None = None
        while True:
            method, arguments = pipe.recv()
            try:
                here = here or Here(name, options)
                pipe.send((getattr(here, method)(*arguments), None))
            except Exception as error:
                pipe.send((None, error))


Told = tuple[Mapping[str, Measured], Mapping[str, BlockAnswers]]


def merged(told: Sequence[Told]) -> tuple[dict[str, Measured], dict[str, BlockAnswers]]:
    """Return what several groups told as if one had."""
    measured: dict[str, Measured] = {}
    blocks: dict[str, BlockAnswers] = {}
    for by_clock, own in told:
        blocks |= own
        for clock, one in by_clock.items():
            measured[clock] = measured[clock].plus(one) if clock in measured else one
    return measured, blocks
