"""What would one pick instead?   python -m benchmarks.peers

The bundled pair writes the same prompts at the same temperature in every way there is, prompt by prompt in turn, each answer
as long as the others (stop tokens end none), its prefill counted in:

    llama.cpp      the LLM alone, bare loop over the library
    llm            the LLM alone through our stream
    hlm …          ours: every draft verified; `coupled` (an id a draft), `dense32` (the distribution), blocks of L drafts
    transformers   assisted generation, as documented and with short blocks; and the LLM alone, in Torch
    unary          a baseline of ours in the manner of a published replication, as described and with caches kept

Ratios of tokens a second, prompt by prompt, medians; the first two, which are nearest to each other, write each prompt three
times, in turn. Blocks are held against what they could gain at the most (benchmarks/peers/bound.py), with acceptance, drafter
cost and batch gain of this very run. With --threads 1 seconds of the
processor are told too: other work on the machine does not stretch them.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks import findings as report
from benchmarks.clocks import clocks
from benchmarks.findings import Finding, ratios
from benchmarks.peers.alone import Alone, forward_times
from benchmarks.peers.assisted import Assisted, loaded
from benchmarks.peers.bound import bound, speed_up
from benchmarks.peers.ours import Ours, opened
from benchmarks.peers.peer import Peer
from benchmarks.peers.unary import Unary
from uihlm_basestation.engines.loading import EngineSettings, load_engine
from uihlm_cli.runs.memory import keep_large_blocks
from uihlm_device.drafters.loading import Drafters, DrafterSettings
from uihlm_device.rules.policies import PolicySettings, policy
from uihlm_evaluation.prompts.datasets import SHIPPED, load
from uihlm_models.chat_format import ChatFormat
from uihlm_models.presets import Role
from uihlm_models.sources import resolve

# Drafts a block, by codec: both judges, since acceptance differs.
BLOCKS = {"coupled": (2, 3, 4), "dense32": (2, 3, 4)}
LENGTHS = sorted({length for those in BLOCKS.values() for length in those})
# Both write a prompt this often, in turn.
NEAREST, TIMES = ("llama.cpp", "llm"), 3
# Written in fewer prompts: one answer of theirs takes as long as ten of the others.
SLOW = ("transformers", "unary, as described")


@dataclass(frozen=True, slots=True)
class Measured:
    """By one clock.

    Attributes:
        rates: tokens a second of every peer, by prompt.
        times_s: seconds of a forward, by (model, positions).
        alone_s: seconds of a token of the LLM's own loop, without prefill.
    """

    rates: dict[str, list[float]]
    times_s: Mapping[tuple[str, int], float]
    alone_s: float


Blocks = Mapping[tuple[str, int], Ours]


def _block_name(codec: str, length: int) -> str:
    return f"hlm, {codec}, blocks of {length}"


def _slow(name: str) -> bool:
    return name.startswith(SLOW)


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
    alone, drafting = Alone(llm.path, threads), Alone(slm.path, threads)
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
            "hlm": Ours(stream, drafter),
            "hlm, dense32": Ours(stream, drafter, codec="dense32"),
            **{_block_name(*key): block for key, block in blocks.items()},
            "unary, caches kept": stack.enter_context(Unary(slm.path, llm.path, threads, keeps_caches=True)),
        }
        if options.slow_prompts:
            import torch

            torch.set_num_threads(threads or torch.get_num_threads())
            large, small = loaded(llm.path), loaded(slm.path)
            peers |= {
                "unary, as described": stack.enter_context(Unary(slm.path, llm.path, threads, keeps_caches=False)),
                "transformers, LLM alone": Assisted(large),
                "transformers, assisted": Assisted(large, small),
                "transformers, assisted, 2 drafts": Assisted(large, small, drafts=2),
                "transformers, assisted, 4 drafts": Assisted(large, small, drafts=4),
            }
        rates: dict[str, dict[str, list[float]]] = {clock: {name: [] for name in peers} for clock in read}
        for name, peer in peers.items():
            if not _slow(name):
                peer.write(prompts[0], 8, 0)
        turns = [*NEAREST * TIMES, *(name for name in peers if name not in NEAREST)]
        counts = {"llm": [1, *(length + 1 for length in LENGTHS)], "slm": [1, 2]}
        bare = {"llm": alone, "slm": drafting}
        times_s: dict[str, dict[tuple[str, int], list[float]]] = {clock: {} for clock in read}
        for number, prompt in enumerate(prompts):
            print(f"prompt {number + 1} of {len(prompts)}", end="\r", file=sys.stderr, flush=True)
            spent_s = {clock: dict.fromkeys(peers, 0.0) for clock in read}
            for name in turns:
                if _slow(name) and number >= options.slow_prompts:
                    continue
                tokens = options.slow_tokens if _slow(name) else options.tokens
                began_s = {clock: now() for clock, now in read.items()}
                written = peers[name].write(prompt, tokens, number)
                for clock, now in read.items():
                    spent_s[clock][name] += now() - began_s[clock]
                if written != tokens:
                    raise RuntimeError(f"{name} wrote {written} of {tokens} tokens: its figure would not compare")
            for clock, of_peer in spent_s.items():
                for name, seconds in of_peer.items():
                    tokens = options.slow_tokens if _slow(name) else options.tokens
                    if seconds:
                        rates[clock][name].append(turns.count(name) * tokens / seconds)
            # Beside the answers, not after them: the machine's speed moves.
            for clock, now in read.items():
                own = forward_times(bare, prompt, counts, max(2, options.turns // len(prompts)), now)
                for key, value in own.items():
                    times_s[clock].setdefault(key, []).append(value)
        print(file=sys.stderr)
    medians = {clock: {key: float(np.median(values)) for key, values in own.items()} for clock, own in times_s.items()}
    alone_s = {clock: alone.later_s[clock] / alone.later_tokens for clock in read}
    return {clock: Measured(rates[clock], medians[clock], alone_s[clock]) for clock in read}, blocks


def found(rates: Mapping[str, Sequence[float]]) -> list[Finding]:
    """Return the findings on peers."""
    findings = [Finding.of(f"{name}: tokens/s", own, "tok/s") for name, own in rates.items() if own]
    findings.append(ratios("llm through the stream ÷ LLM alone in llama.cpp", rates["llm"], rates["llama.cpp"], 0.95))
    assisted = [name for name in rates if name.startswith("transformers, assisted") and rates[name]]
    if assisted:
        best = max(assisted, key=lambda name: float(np.median(rates[name])))
        few = len(rates[best])
        findings += [
            ratios(f"hlm ÷ best of {best}", rates["hlm"][:few], rates[best], 2.0),
            ratios(f"hlm, dense32 ÷ best of {best}", rates["hlm, dense32"][:few], rates[best], 2.0),
            ratios("hlm ÷ unary, as described", rates["hlm"][:few], rates["unary, as described"], 3.0),
        ]
    findings += [
        ratios("hlm ÷ unary, caches kept", rates["hlm"], rates["unary, caches kept"]),
        ratios("hlm ÷ LLM alone in llama.cpp", rates["hlm"], rates["llama.cpp"]),
    ]
    return findings


def _once(what: str, value: float) -> Finding:
    return Finding(what, value, value, value)


def found_of_blocks(measured: Measured, blocks: Blocks, clock: str) -> tuple[list[Finding], dict[str, Any]]:
    """Return the findings on blocks, and what their bound is made of."""
    rates, times_s = measured.rates, measured.times_s
    one_s = times_s["llm", 1]
    c = times_s["slm", 1] / one_s
    e = times_s["slm", 2] / one_s - c
    gains = {length: (length + 1) * one_s / times_s["llm", length + 1] for length in LENGTHS}
    findings: list[Finding] = []
    rows: list[dict[str, Any]] = []
    for codec, lengths in BLOCKS.items():
        judged = {length: blocks[codec, length].judged for length in lengths}
        accepted = sum(own.accepted for own in judged.values())
        alpha = accepted / sum(own.accepted + own.rejected for own in judged.values())
        # Without prefill, and against forwards alone: what the bound speaks of.
        reached = {length: one_s * own.later_tokens / own.later_s[clock] for length, own in judged.items()}
        own_gains = {length: gains[length] for length in lengths}
        best_length, most = bound(alpha, c, own_gains)
        exact_length, exact = bound(alpha, c, own_gains, e)
        quickest = max(reached, key=lambda length: reached[length])
        against_loop = reached[quickest] * measured.alone_s / one_s
        findings += [
            _once(f"blocks, {codec}: bound at α = {alpha:.3f}, c = {c:.3f}, L = {best_length}", most),
            _once(f"blocks, {codec}: bound with the last draft run, e = {e:.3f}, L = {exact_length}", exact),
            _once(f"blocks, {codec}: L = {quickest} ÷ LLM alone in llama.cpp, without prefill", against_loop),
            replace(
                _once(f"blocks, {codec}: that ÷ the bound with the last draft run", against_loop / exact), goal=0.95
            ),
            _once(f"blocks, {codec}: L = {quickest} ÷ LLM forwards without a sampler", reached[quickest]),
            _once(f"blocks, {codec}: that ÷ the bound without the last draft", reached[quickest] / most),
            ratios(
                f"blocks, {codec}: L = {quickest} ÷ LLM alone in llama.cpp, whole answers",
                rates[_block_name(codec, quickest)],
                rates["llama.cpp"],
            ),
        ]
        rows += [
            {
                "codec": codec,
                "length": length,
                "acceptance": judged[length].acceptance,
                "gain": gains[length],
                "bound": speed_up(alpha, length, c, gains[length]),
                "reached": reached[length],
                "tokens_a_round": judged[length].tokens / judged[length].rounds,
                "draft_ms_a_round": 1e3 * judged[length].draft_s / judged[length].rounds,
                "forward_ms_a_round": 1e3 * judged[length].forward_s / judged[length].rounds,
            }
            for length in lengths
        ]
    bare_ms = {f"{name} {count}": 1e3 * seconds for (name, count), seconds in times_s.items()}
    return findings, {"drafter_cost": c, "last_draft_cost": e, "blocks": rows, "bare_forward_ms": bare_ms}


def main() -> None:
    """Measure and print; --json writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=SHIPPED, help="prompts, as --dataset (default: those shipped with uihlm)")
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--slow-prompts", type=int, default=3, help="that the slow peers write; 0 leaves them out")
    parser.add_argument("--slow-tokens", type=int, default=16)
    parser.add_argument("--turns", type=int, default=15, help="forwards of each size behind the bound")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="fewer prompts: a look, not a measurement")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    if options.quick:
        options.prompts, options.slow_prompts, options.turns = 4, min(2, options.slow_prompts), 5
    measured, blocks = measure(options)
    findings: list[Finding] = []
    more: dict[str, Any] = {}
    for clock, own in measured.items():
        on_blocks, more[clock] = found_of_blocks(own, blocks, clock)
        here = [*found(own.rates), *on_blocks]
        more[clock]["tok_s"] = own.rates
        # The goals are the wall's.
        findings += here if clock == "wall" else [replace(one, what=f"{clock}: {one.what}", goal=None) for one in here]
    print(report.table(findings))
    for clock, own_more in more.items():
        names = list(own_more["blocks"][0])
        print(
            f"\n| {clock}: "
            + " | ".join(name.replace("_", " ") for name in names)
            + " |\n"
            + "|---:" * len(names)
            + "|"
        )
        for row in own_more["blocks"]:
            cells = [f"{value:.2f}" if isinstance(value, float) else str(value) for value in row.values()]
            print("| " + " | ".join(cells) + " |")
    if options.json:
        report.write(options.json, findings, more)


if __name__ == "__main__":
    main()
