"""Does the plan foretell what happens?   python -m benchmarks.plan DATA.json --profile runs/pair

The bundled pair answers real prompts (Alpaca format, others than the profile was measured on) in every way that a plan
compares, on a virtual clock that is charged the profile's times, at 24 places: round trip × uplink rate × load. Beside each
figure stands what `uihlm-device plan` says of it from the profile alone; the mean length of an answer is given to it.

A loop that waits runs once and is played on every link; what does not runs on each (benchmarks/uplink/tape.py). Under load the
clock is charged forwards of so many sessions by the batch curve, as in the plan; a device pays its share of their joules.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.uplink.bench import Bench, Ran, Variant
from uihlm_evaluation.calibration.plan_figures import PlanFigures, SkipFigures
from uihlm_evaluation.calibration.profile import load_profile
from uihlm_evaluation.planning.bundled import bundled_profile, figures_of
from uihlm_evaluation.planning.equations import Conditions, Model, Prediction, loaded
from uihlm_evaluation.planning.map import at_rate
from uihlm_evaluation.planning.plan import Objective, Plan, cost
from uihlm_evaluation.planning.sizes import Sizes
from uihlm_evaluation.planning.ways import LLM, SLM, Family, Way, ways
from uihlm_evaluation.runs.configuration import RunConfig
from uihlm_proto.codecs import codec
from uihlm_wireless.settings import LinkSettings, profile

RTTS_S = (0.0, 0.020, 0.050, 0.150)
# 16 bits take 4 ms and 16 µs: a tree of 16 drafts 64 ms and 256 µs.
RATES_BIT_S = (4e3, 1e6)
LOADS = (1, 4, 16)
MEASURES = ("tok_s", "joules", "forwards")


@dataclass(frozen=True, slots=True)
class Held:
    """What a way came to at a place, and what the plan says; fields as in `Prediction`."""

    way: Way
    rtt_s: float
    rate_bit_s: float
    sessions: int
    measured: dict[str, float]
    planned: dict[str, float]

    def error(self, measure: str) -> float:
        """Return the plan's error, a share of what was measured; 0 where both are nothing."""
        true = self.measured[measure]
        return self.planned[measure] / true - 1.0 if true else self.planned[measure]


def main() -> None:
    """Measure and print; --json writes every figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="prompts in the Alpaca format")
    parser.add_argument("--profile", help="with a plan's figures; the shipped one if left out")
    parser.add_argument("--prompts", type=int, default=10)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    found = load_profile(Path(options.profile)) if options.profile else bundled_profile()
    figures = at_default_threshold(figures_of(found))
    bench = Bench(options.data, options.prompts, options.tokens, options.threads, ("auto", "auto"), figures.timing)
    held = measured(bench, figures)
    print(table(held))
    print(choices(held))
    if options.json:
        document = {"figures": asdict(figures), "held": [asdict(entry) for entry in held]}
        Path(options.json).write_text(json.dumps(document, indent=1), encoding="utf-8")


def at_default_threshold(figures: PlanFigures) -> PlanFigures:
    """Return the figures with policy `u` at the default threshold alone, between the measured ones by a straight line."""
    theta_u = RunConfig().rules.theta_u
    thetas, rates, risks = zip(*((p.theta_u, p.upload_rate, p.risk) for p in figures.skipping), strict=True)
    rate, risk = (float(np.interp(theta_u, thetas, values)) for values in (rates, risks))
    return replace(figures, u_draft_s=figures.draft_s, skipping=(SkipFigures(theta_u, rate, risk),))


def measured(bench: Bench, figures: PlanFigures) -> list[Held]:
    """Run every way and hold it against the plan at every place."""
    model = Model(figures, Sizes(codec("coupled", figures.vocabulary_size)))
    held = []
    with bench.serving():
        for way in ways(figures, 1.0):
            print(way, end=" · ", file=sys.stderr, flush=True)
            variant = Variant(str(way), "coupled", way.draft_length, way.in_flight, way.tree, way.policy, way.run_on)
            waits = way.family is not Family.FLIGHTS
            bench.timing = figures.timing
            ran = bench.run(variant) if waits else None
            for rtt_s, rate_bit_s, sessions in itertools.product(RTTS_S, RATES_BIT_S, LOADS):
                link = at_rate(profile("paper"), rate_bit_s, rtt_s)
                bench.timing = loaded(figures, sessions)
                if ran is not None:
                    true = came_to(ran, *ran.on(link, bench.timing), figures.slowdown(sessions) / sessions, link)
                else:
                    own = bench.run(variant, link)
                    true = came_to(own, own.elapsed_s, own.airtime_s, 1.0 / sessions, link)
                tokens = true.pop("tokens")
                planned = model.predict(way, Conditions(link, sessions, round(tokens)))
                said = {name: float(getattr(planned, name)) for name in MEASURES}
                held.append(Held(way, rtt_s, rate_bit_s, sessions, true, said))
    print(file=sys.stderr)
    return held


def came_to(
    ran: Ran, elapsed_s: list[float], airtime_s: list[float], share: float, link: LinkSettings
) -> dict[str, float]:
    """Return tokens of an answer, tokens a second, joules and forwards a token; `share` of the forwards is this device's."""
    records = [record for answer in ran.records for record in answer]
    draft_s, forward_s = sum(r.draft_s for r in records), sum(r.forward_s for r in records)
    assert link.radio is not None, "every place has an uplink"
    joules = replace(RunConfig().joules, transmit_w=link.radio.transmit_power_w)
    return {
        "tokens": len(records) / len(ran.records),
        "tok_s": len(records) / sum(elapsed_s),
        "joules": joules.energy_j(sum(airtime_s), draft_s, share * forward_s).total_j / len(records),
        "forwards": sum(r.llm_forwards for r in records) / len(records),
    }


def table(held: list[Held]) -> str:
    """Return the errors of each way over the places, as Markdown."""
    lines = [
        "| way | tok/s, error % | J/token, error % | LLM forwards, error % | places within 10 % |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, group in itertools.groupby(held, lambda entry: entry.way):
        own = list(group)
        cells = [
            f"{100 * min(errors):+.1f} … {100 * max(errors):+.1f}"
            for errors in ([entry.error(measure) for entry in own] for measure in MEASURES)
        ]
        within = sum(all(abs(entry.error(measure)) <= 0.1 for measure in MEASURES) for entry in own)
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {within} of {len(own)} |")
    return "\n".join(lines)


def choices(held: list[Held]) -> str:
    """Return how often the plan's choice is the measured best, and what the choice costs where it is not."""
    lines = []
    for objective, (risk, who) in itertools.product(Objective, ((0.0, "lossless ways"), (1.0, "u as well"))):
        right, losses, alone = 0, [], 0
        places = itertools.groupby(sorted(held, key=_place), _place)
        for _, group in places:
            entries = [entry for entry in group if entry.way != SLM and (risk or entry.way.policy != "u")]
            true = {entry.way: cost(_prediction(entry, entry.measured), objective) for entry in entries}
            planned = Plan([_prediction(entry, entry.planned) for entry in entries], objective, risk)
            way = planned.best.way
            alone += way == LLM
            right += way == min(true, key=lambda way: true[way])
            losses.append(_loss(true[way], min(true.values())))
        text = f"{objective.value}, {who}: the measured best at {right} of {len(losses)} places, `llm` at {alone}; "
        lines.append(f"* {text}where not, worse by at most {100 * max(losses):.1f} %")
    return "\n".join(lines)


def _loss(chosen: float, least: float) -> float:
    """Return how much worse the choice is, a share; beside a best that costs nothing, all that costs is worse without end."""
    if least > 0.0:
        return chosen / least - 1.0
    return math.inf if chosen > 0.0 else 0.0


def _place(entry: Held) -> tuple[float, float, int]:
    return entry.rtt_s, entry.rate_bit_s, entry.sessions


def _prediction(entry: Held, values: dict[str, float]) -> Prediction:
    return Prediction(entry.way, values["tok_s"], values["joules"], values["forwards"], 0.0, 0.0, 0.0)


if __name__ == "__main__":
    main()
