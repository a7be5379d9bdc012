"""Workers for tests of side-by-side runs: at module level, because they cross to other processes."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass

from uihlm_device.tokens import Origin, TokenRecord
from uihlm_evaluation.prompts.datasets import Example
from uihlm_evaluation.runs.samples import Sample, Stop
from uihlm_evaluation.sweeps.side_by_side import Answer
from uihlm_proto.errors import UnavailableError


def sample(label: str, example: Example, tokens: int, text: str = "") -> Sample:
    """A sample in which only what tests look at is filled in."""
    return Sample(
        label, example.index, text, example.output, tokens, 0, 0, Stop.EOS, 0, 0, 0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0, 0, 0.0
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Echo:
    """Answers with its process id; the prompt `die` ends the process, `lost` loses the base station."""

    pause_s: float = 0.0

    @contextlib.contextmanager
    def __call__(self) -> Iterator[Answer]:
        """Open nothing."""

        def answer(label: str, example: Example) -> tuple[Sample, list[TokenRecord]]:
            if example.instruction == "die":
                # What was answered before is on its way.
                time.sleep(0.5)
                os._exit(9)
            if example.instruction == "lost":
                raise UnavailableError("the base station is gone")
            time.sleep(self.pause_s)
            return sample(label, example, 1, str(os.getpid())), [TokenRecord(0, example.index, None, Origin.LOCAL)]

        yield answer
