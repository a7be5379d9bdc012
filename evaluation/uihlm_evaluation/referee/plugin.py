"""The pytest plugin `uihlm.referee`: a fixture that judges a decode loop, and two flags.

    def test_my_loop_is_lossless(referee):
        referee(my_decode)                        # fails with the verdict
        verdict = referee.judge(my_decode)        # or look at it

pytest loads this module in every run where uihlm is installed, so it imports nothing heavy; `-p no:uihlm.referee` leaves
it out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from uihlm_evaluation.referee.sample import Decode
    from uihlm_evaluation.referee.stage import FloatArray
    from uihlm_evaluation.referee.verdict import Verdict

_WORDS = pytest.StashKey[list[tuple[str, str]]]()


@dataclass(frozen=True, slots=True)
class Referee:
    """Judges decode loops.

    Attributes:
        tokens: how many a loop writes.
        seed: of models, prompts and answers.
        words: what was said, for the end of the run.
    """

    tokens: int
    seed: int
    words: list[str] = field(default_factory=list)

    def judge(
        self,
        decode: Decode,
        tokens: int | None = None,
        seed: int | None = None,
        drafted: Callable[[FloatArray], FloatArray] | None = None,
    ) -> Verdict:
        """Return the verdict on a loop, `decode(x, y, prompt, max_tokens, seed)`.

        Args:
            decode: the loop; see `uihlm_evaluation.referee.sample.Decode`.
            tokens, seed: other ones than the flags say.
            drafted: what the loop makes of x `[V]` before it draws a draft, as a top-k does.

        Raises:
            RefereeError: if the loop breaks its contract.
        """
        from uihlm_evaluation.referee.verdict import judge

        verdict = judge(decode, self.tokens if tokens is None else tokens, self.seed if seed is None else seed, drafted)
        self.words.append(str(verdict))
        return verdict

    def __call__(
        self,
        decode: Decode,
        tokens: int | None = None,
        seed: int | None = None,
        drafted: Callable[[FloatArray], FloatArray] | None = None,
    ) -> Verdict:
        """Fail the test if what a loop writes is not y-distributed, else return the verdict; see `judge`."""
        verdict = self.judge(decode, tokens, seed, drafted)
        if not verdict:
            pytest.fail(str(verdict), pytrace=False)
        return verdict


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the flags."""
    group = parser.getgroup("referee", "uihlm: is a decode loop's output distributed as y?")
    group.addoption(
        "--referee-tokens",
        type=int,
        default=20_000,
        metavar="N",
        help="Tokens that each decode loop writes for its verdict.  [default: 20000]",
    )
    group.addoption(
        "--referee-seed",
        type=int,
        default=0,
        metavar="N",
        help="Seed of the models, prompts and answers.  [default: 0]",
    )


@pytest.fixture
def referee(request: pytest.FixtureRequest) -> Referee:
    """Judges a decode loop: `referee(decode)` fails the test unless the output is distributed as y."""
    words: list[tuple[str, str]] = request.config.stash.setdefault(_WORDS, [])
    said = _Said(request.node.nodeid, words)
    return Referee(request.config.getoption("--referee-tokens"), request.config.getoption("--referee-seed"), said)


class _Said(list[str]):
    """Words of one test, kept for the end of the run."""

    def __init__(self, test: str, words: list[tuple[str, str]]) -> None:
        super().__init__()
        self._test, self._words = test, words

    def append(self, word: str) -> None:
        """Keep a word."""
        super().append(word)
        self._words.append((self._test, word))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say every verdict once more, power and all, also those of tests that passed."""
    words = config.stash.get(_WORDS, [])
    if words:
        terminalreporter.section("referee")
    for test, word in words:
        terminalreporter.write_line(f"{test}: {word}")
