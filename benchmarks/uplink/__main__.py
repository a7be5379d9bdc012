"""What does an exact token cost on the air?   python -m benchmarks.uplink DATA.json --prompts 12

Policy `hlm` on the bundled pair over real prompts (Alpaca format), as the way it asks is varied: codec, drafts an upload,
uploads in flight, trees; the LLM alone beside all of them, on every link.

    payload bits, acceptance, tokens a trip, LLM forwards a token, joules a token      counts: exact
    tokens a second                                                                    virtual clock

The clock is charged compute times measured alone at the start, on this machine: t + b·(positions − 1) for a batch of either
model; the prompt's prefill, which all of them share, is left out. A loop that waits runs once and is played on every link
(benchmarks/uplink/tape.py); one that does not runs on each.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from benchmarks.uplink.bench import Bench, Ran, Variant
from benchmarks.uplink.claims import claims, coding_ms, quality, quality_claims
from benchmarks.uplink.figure import draw
from benchmarks.uplink.figures import Figures, figures
from uihlm_cli.runs.memory import keep_large_blocks
from uihlm_device.tokens import TokenRecord
from uihlm_wireless.channel import RadioLink
from uihlm_wireless.settings import AirtimeBasis, LinkSettings, profile
from uihlm_wireless.timing import TimingProfile

# 16.7 kHz at 8.5 dB carry 50 kbit/s.
_THIN = RadioLink(bandwidth_hz=16.7e3, distance_m=1500.0, noise_dbm=-112.52)

LINKS = {
    "RTT 0": LinkSettings(radio=None),
    "RTT 10 ms": LinkSettings(radio=None, rtt_s=0.010),
    "RTT 50 ms": LinkSettings(radio=None, rtt_s=0.050),
    "RTT 150 ms": LinkSettings(radio=None, rtt_s=0.150),
    "paper": profile("paper"),
    "paper, wire": replace(profile("paper"), airtime=AirtimeBasis.WIRE),
    "50 kbit/s": LinkSettings(radio=_THIN, rtt_s=0.050),
}
VARIANTS = (
    Variant("llm", policy="llm"),
    *(Variant(name, name) for name in ("dense32", "dense16")),
    *(Variant(f"lattice {k}", f"lattice:k={k},l={size}") for k, size in ((8, 64), (16, 128), (32, 512), (64, 1024))),
    Variant("coupled"),
    Variant("coupled, runs on", run_on=True),
    *(Variant(f"L={length}", draft_length=length) for length in range(2, 9)),
    *(Variant(f"in flight {window}", in_flight=window) for window in (2, 4, 16)),
    *(Variant(f"in flight {window}, runs on", in_flight=window, run_on=True) for window in (2, 4, 16)),
    *(Variant(f"L={length} in flight 2", draft_length=length, in_flight=2) for length in (2, 4)),
    *(Variant(f"tree {nodes}", tree=nodes) for nodes in (4, 8, 16, 64)),
    *(Variant(f"tree {nodes} in flight {window}", tree=nodes, in_flight=window) for nodes, window in ((8, 4), (4, 8))),
)
# Whose text is held against the LLM's: with --only these, over more prompts.
SCORED = ("llm", "dense32", "dense16", "lattice 64", "coupled")


def table(found: dict[str, dict[str, Figures]]) -> str:
    """Return the figures as Markdown."""
    heads = [
        "way",
        "payload bit",
        "wire B",
        "accepted",
        "tokens/trip",
        "LLM forwards",
        "LLM positions",
        "J (paper link)",
    ]
    lines = ["| " + " | ".join([*heads, *(f"tok/s {name}" for name in LINKS)]) + " |"]
    lines.append("|---" + "|---:" * (len(heads) - 1 + len(LINKS)) + "|")
    for name, on in found.items():
        first = on["RTT 0"]
        cells = [
            name,
            f"{first.payload_bit:,.1f}",
            f"{first.wire_byte:,.0f}",
            "–" if first.acceptance is None else f"{first.acceptance:.3f}",
            "–" if first.tokens_a_trip is None else f"{first.tokens_a_trip:.2f}",
            f"{first.llm_forwards:.2f}",
            f"{first.llm_positions:.2f}",
            f"{on['paper'].joules:.2f}",
            *(f"{figure.tok_s:.3g}" for figure in on.values()),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print; --json writes every figure, --figures the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="prompts in the Alpaca format")
    parser.add_argument("--prompts", type=int, default=12)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--weights", default="auto", help="the LLM's weight type, as --dtype of `uihlm-bs serve`")
    parser.add_argument("--drafter-weights", default="auto", help="the drafter's weight type")
    parser.add_argument(
        "--only", action="append", metavar="WAY", help="these ways alone; repeats; no speed is claimed then"
    )
    parser.add_argument(
        "--time-only", action="store_true", help="measure the compute times and write no more than those"
    )
    parser.add_argument("--times", metavar="FILE", help="compute times of an earlier run's --json in place of new ones")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--figures", metavar="DIR")
    options = parser.parse_args()
    keep_large_blocks()
    known = json.loads(Path(options.times).read_text(encoding="utf-8"))["charged"] if options.times else None
    timing = TimingProfile(**known) if known else None
    weights = options.drafter_weights, options.weights
    bench = Bench(options.data, options.prompts, options.tokens, options.threads, weights, timing)
    if options.time_only:
        print(json.dumps({"charged": asdict(bench.timing)}))
        return
    coded_ms = coding_ms(bench.drafter.vocabulary_size)
    ran: dict[str, Ran] = {}
    found: dict[str, dict[str, Figures]] = {}
    with bench.serving():
        for variant in VARIANTS:
            if options.only and variant.name not in options.only:
                continue
            print(variant.name, end=" ", file=sys.stderr, flush=True)
            on = {}
            if variant.in_flight == 1:
                own = ran[variant.name] = bench.run(variant)
                for name, settings in LINKS.items():
                    on[name] = figures(own, settings, *own.on(settings, bench.timing))
            else:
                for name, settings in LINKS.items():
                    own = ran[variant.name] = bench.run(variant, settings)
                    on[name] = figures(own, settings, own.elapsed_s, own.airtime_s)
            found[variant.name] = on
    print(file=sys.stderr)
    charged = asdict(bench.timing)
    print("charged, ms: " + ", ".join(f"{name[:-2]} {1e3 * value:.2f}" for name, value in charged.items()))
    print("coding one distribution, ms: " + ", ".join(f"{name} {ms:.2f}" for name, ms in coded_ms.items()))
    print(table(found))
    document: dict[str, object] = {
        "charged": charged,
        "coding_ms": coded_ms,
        "variants": {name: {link: asdict(f) for link, f in on.items()} for name, on in found.items()},
    }
    if ran.keys() >= set(SCORED):
        scores = quality(bench, {name: ran[name].records for name in SCORED})
        document["quality"] = scores
        made = quality_claims(scores)
        if not options.only:
            same = {
                name: float(np.mean([_ids(a) == _ids(b) for a, b in zip(own.records, ran["llm"].records, strict=True)]))
                for name, own in ran.items()
            }
            document["same_answers"] = same
            made = [*claims(found, bench.timing, coded_ms, same), *made]
        document["claims"] = [str(claim) for claim in made]
        print(*made, sep="\n")
    if options.figures and not options.only:
        draw(found, Path(options.figures))
    if options.json:
        Path(options.json).write_text(json.dumps(document, indent=1), encoding="utf-8")


def _ids(records: list[TokenRecord]) -> list[int]:
    return [record.token for record in records]


if __name__ == "__main__":
    main()
