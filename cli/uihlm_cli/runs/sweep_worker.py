"""One worker of a sweep: a device with its own models and base station, opened wherever the sweep wants it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from uihlm_device.stream.access import PLAIN, Access
from uihlm_evaluation.runs.configuration import RunConfig
from uihlm_evaluation.runs.rows import Row
from uihlm_evaluation.sweeps.compute_times import ComputeTimes
from uihlm_evaluation.sweeps.side_by_side import Answer
from uihlm_wireless.joules.counters import WindowMeter
from uihlm_wireless.timing import TimingProfile


@dataclass(frozen=True, slots=True)
class SweepWorker:
    """Opens a worker (`uihlm_evaluation.sweeps.side_by_side.OpenWorker`); plain values, so that it crosses to a process.

    Attributes:
        config: of the run; its threads are this worker's.
        rows: those it answers under.
        times: what compute is charged; None measures it, and then shares nothing between rows.
        server: base station to ask; None starts one here.
        timeout_s: wait for any one answer.
        access: how the base station is reached.
        meter: what measures joules; then a row shares nothing with others, which would have paid for it. It crosses to no
            process: for a worker in this one.
    """

    config: RunConfig
    rows: Sequence[Row]
    times: ComputeTimes | None
    server: str | None
    timeout_s: float
    access: Access = PLAIN
    meter: WindowMeter | None = None

    @contextlib.contextmanager
    def __call__(self) -> Iterator[Answer]:
        """Yield what answers one prompt under the row of a label."""
        from uihlm_cli.assembly import opened_device
        from uihlm_cli.runs.memory import keep_large_blocks
        from uihlm_device.rules.policies import policy
        from uihlm_evaluation.runs.runner import Bench, answer

        keep_large_blocks()
        times = self.times
        # The link charges forwards, whatever the row.
        forwards = None if times is None else TimingProfile(None, times.forward_s, times.position_s)
        config = self.config if forwards is None else replace(self.config, timing=forwards)
        sharing = times is not None and self.meter is None
        with opened_device(config, self.server, self.timeout_s, shared_paths=sharing, access=self.access) as device:
            decoders = {}
            for row in self.rows:
                rule = policy(row.policy, row.rules)
                timing = self.config.timing if times is None else times.of(row)
                settings = replace(config.decode, gamma=row.gamma)
                decoders[row.label] = device.assemble(device.drafter_for(rule), rule, settings, timing)
            agreement = device.agreement() if config.agreement and times is not None else None
            turns, decode = device.chat_format.first_turn, device.tokenizer.decode
            bench = Bench(decoders, device.clock, device.ledger, turns, decode, agreement, self.meter)
            yield lambda label, example: answer(bench, label, example, config)
