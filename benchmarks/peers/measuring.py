"""Peers write prompts in turn.

Those that are nearest to each other, by what is asked of them, write each prompt several times in turn, and beside each turn
the bare forwards are timed that the bound of blocks is made of: the machine's own speed moves within a minute.
"""

from __future__ import annotations

import argparse
import contextlib
import sys

from benchmarks.peers.group import GROUPS, SLOW_GROUPS, Group, merged
from benchmarks.peers.measured import NEAREST, Blocks, Measured
from uihlm_device.drafters.loading import Drafters, DrafterSettings
from uihlm_evaluation.prompts.datasets import load
from uihlm_models.chat_format import ChatFormat
from uihlm_models.presets import Role
from uihlm_models.sources import resolve


def measure(options: argparse.Namespace) -> tuple[dict[str, Measured], Blocks]:
    """Let every peer write every prompt, in turn; return what each clock says, and what our answers tell of their rounds."""
    first_turn = ChatFormat(Drafters(resolve("bundled", Role.DRAFTER), DrafterSettings()).tokenizer).first_turn
    prompts = [first_turn(example.user_turn) for example in load(options.data).examples[: options.prompts]]
    with contextlib.ExitStack() as stack:
        names = [*GROUPS, *(SLOW_GROUPS if options.slow_prompts else ())]
        groups = {name: stack.enter_context(Group(name, options)) for name in names}
        of_peer: dict[str, Group] = {}
        for group in groups.values():
            of_peer |= dict.fromkeys(group("names"), group)
            group("warm", prompts[0])
        others = [name for name in of_peer if name not in NEAREST]
        slow = {name for name in others if any(of_peer[name] is groups.get(group) for group in SLOW_GROUPS)}
        for number, prompt in enumerate(prompts):
            print(f"prompt {number + 1} of {len(prompts)}", end="\r", file=sys.stderr, flush=True)
            for _ in range(options.times):
                for name in NEAREST:
                    of_peer[name]("write", name, prompt, options.tokens, number)
                # In the midst of an answer.
                groups["bare"]("forwards", [*prompt, *[prompt[-1]] * (options.tokens // 2)], options.turns)
            for name in others:
                if name not in slow:
                    of_peer[name]("write", name, prompt, options.tokens, number)
                elif number < options.slow_prompts:
                    of_peer[name]("write", name, prompt, options.slow_tokens, number)
        print(file=sys.stderr)
        return merged([group("told") for group in groups.values()])
