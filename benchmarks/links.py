"""The frontier on other links:   python -m benchmarks.links RUN --trace walk.csv --trace drive.up

Prices a saved run of `eval` or `sweep` on named links and on traces (`rebill`), and says of each which rows are on the
frontier of quality against tokens a second, and of quality against joules a token: those that no other row beats in both.

Quality is the saved run's BERTScore F1, which no link changes. Give the run fixed compute times, so that links alone differ.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from uihlm_evaluation.results.policy_result import PolicyResult
from uihlm_evaluation.results.rebill import rebill
from uihlm_evaluation.results.saved import SavedRun
from uihlm_wireless.channel import RadioLink
from uihlm_wireless.settings import LinkSettings, profile
from uihlm_wireless.trace_file import LinkTrace


@dataclass(frozen=True, slots=True)
class Priced:
    """A row of the run on one link."""

    row: str
    quality: float
    tok_s: float
    joule: float
    link_s: float

    @classmethod
    def of(cls, result: PolicyResult, link_s: float) -> Priced:
        """Return a result a token; `link_s` is the link's seconds in all."""
        if result.bertscore_f1 is None or result.throughput_tok_s is None or result.energy_j is None:
            raise SystemExit(f"row {result.row} has no BERTScore, speed or joules: run it with --metrics")
        tokens = result.tokens
        return cls(
            result.row,
            result.bertscore_f1.mean,
            result.throughput_tok_s,
            result.energy_j / tokens,
            link_s / tokens,
        )


def frontier(rows: Sequence[Priced], gain: Callable[[Priced], float]) -> list[str]:
    """Return the rows that none beats in quality and in `gain`, the best in quality first."""
    kept = [
        row
        for row in rows
        if not any(
            other.quality >= row.quality
            and gain(other) >= gain(row)
            and (other.quality, gain(other)) != (row.quality, gain(row))
            for other in rows
        )
    ]
    return [row.row for row in sorted(kept, key=lambda row: (-row.quality, -gain(row)))]


def priced(run: SavedRun, link: LinkSettings) -> list[Priced]:
    """Return the run's rows on a link."""
    watts = replace(run.config.joules, transmit_w=(link.radio or RadioLink()).transmit_power_w)
    with tempfile.TemporaryDirectory() as folder:
        results = rebill(run, replace(run.config, link=link, joules=watts), Path(folder) / "run")
        billed = SavedRun.read(Path(folder) / "run")
    return [
        Priced.of(result, sum(sample.link_s for (label, _), sample in billed.samples.items() if label == result.row))
        for result in results
    ]


def main() -> None:
    """Price and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a saved run")
    parser.add_argument("--link", action="append", default=[], help="named link; repeats  [default: paper]")
    parser.add_argument("--trace", action="append", default=[], type=Path, help="trace, looped; repeats")
    parser.add_argument("--rtt-s", type=float, default=0.0, help="round-trip time under the traces, s")
    parser.add_argument("--json", type=Path, help="every figure")
    options = parser.parse_args()
    run = SavedRun.read(options.run)
    links = {name: profile(name) for name in options.link or ["paper"]}
    for path in options.trace:
        links[path.stem] = LinkSettings(trace=LinkTrace.of(path), rtt_s=options.rtt_s)
    found = {name: priced(run, link) for name, link in links.items()}
    rows = [row.row for row in next(iter(found.values()))]
    print("| link | Mbit/s | " + " | ".join(f"{row}, tok/s" for row in rows) + " | best quality and speed |")
    print("|---|---:" + "|---:" * len(rows) + "|---|")
    for name, link in links.items():
        radio_bit_s = link.radio.rate_bit_s() if link.radio is not None else float("inf")
        rate_bit_s = link.trace.load().mean_rate_bit_s if link.trace is not None else radio_bit_s
        cells = [f"{row.tok_s:.3g}" for row in found[name]]
        best = ", ".join(frontier(found[name], lambda row: row.tok_s))
        print(f"| {name} | {rate_bit_s / 1e6:.3g} | " + " | ".join(cells) + f" | {best} |")
    print("\n| link | " + " | ".join(f"{row}, J" for row in rows) + " | best quality and joules |")
    print("|---" + "|---:" * len(rows) + "|---|")
    for name, own in found.items():
        best = ", ".join(frontier(own, lambda row: -row.joule))
        print(f"| {name} | " + " | ".join(f"{row.joule:.3g}" for row in own) + f" | {best} |")
    if options.json:
        document = {
            name: {row.row: {"tok_s": row.tok_s, "joule": row.joule, "link_s": row.link_s} for row in own}
            for name, own in found.items()
        }
        options.json.write_text(json.dumps(document, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
