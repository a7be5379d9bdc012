"""What would one pick instead?   python -m benchmarks.peers

The bundled pair writes the same prompts at the same temperature in every way there is, prompt by prompt in turn and in
processes of their own (benchmarks/peers/group.py), each answer as long as the others (stop tokens end none), its prefill
counted in:

    llama.cpp      the LLM alone, bare loop over the library
    llm            the LLM alone through our stream, one token a message and several (--stream-interval)
    bare stream    the least that such a stream can be (benchmarks/peers/bare_stream.py): what bounds `llm`
    hlm …          ours: every draft verified; `coupled` (an id a draft), `dense32` (the distribution), blocks of L drafts
    transformers   assisted generation, as documented and with short blocks; and the LLM alone, in Torch
    unary          a baseline of ours in the manner of a published replication, as described and with caches kept

Ratios of tokens a second, prompt by prompt, medians; the first four, the shortest blocks and those that end with a draft in
doubt, of which a few per cent are asked, write each prompt --times times, in turn. Blocks are held against what they could
gain at the most (benchmarks/peers/bound.py), with acceptance, drafter cost and batch gain of this very run. With --threads 1
seconds of the processor are told too: other work on the machine does not stretch them.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks import findings as report
from benchmarks.findings import Finding, ratios
from benchmarks.peers.blocks import found_of_blocks
from benchmarks.peers.measured import LENGTHS, interval_name
from benchmarks.peers.measuring import measure
from uihlm_evaluation.prompts.datasets import SHIPPED


def found(rates: Mapping[str, Sequence[float]]) -> list[Finding]:
    """Return the findings on peers."""
    findings = [Finding.of(f"{name}: tokens/s", own, "tok/s") for name, own in rates.items() if own]
    findings.append(ratios("llm through the stream ÷ LLM alone in llama.cpp", rates["llm"], rates["llama.cpp"], 0.95))
    several = interval_name()
    findings.append(ratios(f"{several} ÷ LLM alone in llama.cpp", rates[several], rates["llama.cpp"], 0.95))
    bound = "the bound of one token a message: a bare stream ÷ LLM alone in llama.cpp"
    findings.append(ratios(bound, rates["bare stream"], rates["llama.cpp"]))
    findings.append(ratios("llm ÷ that bound", rates["llm"], rates["bare stream"], 0.95))
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


def main() -> None:
    """Measure and print; --json writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=SHIPPED, help="prompts, as --dataset (default: those shipped with uihlm)")
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--slow-prompts", type=int, default=3, help="that the slow peers write; 0 leaves them out")
    parser.add_argument("--slow-tokens", type=int, default=16)
    parser.add_argument("--times", type=int, default=3, help="turns of a prompt in which the nearest write it")
    parser.add_argument(
        "--turns", type=int, default=5, help="forwards of each size behind the bound, beside each of those"
    )
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="fewer prompts: a look, not a measurement")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    if options.quick:
        options.prompts, options.slow_prompts, options.turns = 4, min(2, options.slow_prompts), 2
    least = 2 * (max(LENGTHS) + 1)
    if options.tokens < least:
        parser.error(f"--tokens {options.tokens}: a whole round after the first of the longest blocks takes {least}")
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
