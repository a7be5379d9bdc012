"""A device, a base station, and what a run asks of them; the models are fakes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import fakes
from fakes import FakeDrafter, FakeEngine, contextual
from uihlm_device.decode_settings import DecodeSettings
from uihlm_device.rules.policies import PolicySettings
from uihlm_evaluation.prompts.datasets import Example
from uihlm_evaluation.runs.configuration import RunConfig, Selection
from uihlm_evaluation.runs.runner import Bench, Progress, run
from uihlm_evaluation.runs.samples import Sample
from uihlm_proto.sampling import Sampling
from uihlm_wireless.settings import LinkSettings

V = 32
STOP = 3
EXAMPLES = [Example(index, "ask " * (index + 1), "", f"answer {index}") for index in (4, 7, 9)]
LINK = LinkSettings(rtt_s=0.5)


class Rig:
    """A device, a base station, and what was asked of them."""

    def __init__(self, address: object, engine: FakeEngine) -> None:
        self.engine = engine
        self.drafter = FakeDrafter(contextual(V, 1), V, [STOP])
        self.device = fakes.Bench(address, self.drafter, link=LINK)
        self.turns: list[str] = []
        self.before_turn: Callable[[str], None] = lambda text: None
        self.progress: list[Progress] = []

    def _first_turn(self, text: str) -> list[int]:
        self.before_turn(text)
        self.turns.append(text)
        return [5 + len(text) % 20, *range(10, 10 + len(text) // 4)]

    def run(
        self,
        output: Path,
        *policies: str,
        resume: bool = False,
        examples: list[Example] = EXAMPLES,
        seed: int = 0,
        **settings: object,
    ) -> list[Sample]:
        rules = PolicySettings(theta_u=0.9, rate=0.6)
        config = RunConfig(Selection(seed=seed), policies, DecodeSettings(Sampling(), 6), rules, link=LINK, **settings)
        decoders = {name: self.device.decoder(name, 6, rules) for name in policies}
        bench = Bench(decoders, self.device.clock, self.device.ledger, self._first_turn, lambda ids: f"{ids}")
        return run(bench, config, examples, output, resume, self.progress.append)


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def steady(samples: list[Sample]) -> list[Sample]:
    """Samples without what the base station's stopwatch measured."""
    return [dataclasses.replace(s, forward_s=0.0, queue_s=0.0, bs_busy_s=0.0) for s in samples]
