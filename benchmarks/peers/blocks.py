"""What blocks of drafts reach of their bound (benchmarks/peers/bound.py), turn by turn.

In a turn the LLM alone and blocks have written one prompt, and the bare forwards behind the bound were timed:

    reached = seconds of a token of the LLM alone · tokens a round ÷ seconds of a round
    bound   = speed-up(L) with c, g and e of this turn's forwards

so that a machine whose speed moves within a minute moves both. Acceptance and tokens a round are those of all turns: one
answer's are chance.

The bound is that of blocks of one length, all of whose drafts stand alike often. Blocks that end with a draft in doubt
(`--draft-p-min`) need not keep to it: they are held against it too, each answer with the tokens that it wrote.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.findings import Finding, ratios
from benchmarks.peers.bound import bound, speed_up
from benchmarks.peers.measured import (
    BLOCKS,
    EARLY_LENGTH,
    EARLY_P_MIN,
    LENGTHS,
    BlockAnswers,
    Blocks,
    Measured,
    block_name,
    early_name,
)
from benchmarks.peers.ours import Judged


@dataclass(frozen=True, slots=True)
class Costs:
    """Forwards in units of the LLM's forward of one position.

    Attributes:
        one_s: that forward's seconds.
        draft: c, the drafter's, by drafts a block.
        gain: g at L + 1 positions, by drafts a block.
        last: e, what a second position before the first draft adds to the drafter's forwards of a round, by drafts a block.
    """

    one_s: float
    draft: Mapping[int, float]
    gain: Mapping[int, float]
    last: Mapping[int, float]

    @classmethod
    def of(cls, times_s: Mapping[tuple[str, int], float]) -> Costs:
        """Return those of bare forwards (`forward_times`)."""
        one_s = times_s["alone", 1]
        return cls(
            one_s,
            {length: times_s["draft", length] / one_s for length in LENGTHS},
            {length: (length + 1) * one_s / times_s["verify", length] for length in LENGTHS},
            {length: length * (times_s["later", length] - times_s["draft", length]) / one_s for length in LENGTHS},
        )

    def speed_up(self, alpha: float, length: int, last: bool) -> float:
        """Return what blocks of `length` gain at the most; `last` says whether the last draft of one that stood is run."""
        return speed_up(alpha, length, self.draft[length], self.gain[length], self.last[length] if last else 0.0)


def reached(answers: BlockAnswers, token_s: Sequence[float], clock: str) -> list[float]:
    """Return answer by answer how many times as fast blocks write as one that takes `token_s` a token."""
    together = Judged.all(answers)
    tokens = together.tokens / together.rounds
    return [own_s * tokens * own.rounds / own.seconds[clock] for own, own_s in zip(answers, token_s, strict=True)]


def found_of_blocks(measured: Measured, blocks: Blocks, clock: str) -> tuple[list[Finding], dict[str, Any]]:
    """Return the findings on blocks, and what their bound is made of."""
    times_s = {key: float(np.median([turn[key] for turn in measured.forwards_s])) for key in measured.forwards_s[0]}
    whole, turns = Costs.of(times_s), [Costs.of(turn) for turn in measured.forwards_s]
    findings: list[Finding] = []
    rows: list[dict[str, Any]] = []
    for codec, lengths in BLOCKS.items():
        judged = {length: Judged.all(blocks[block_name(codec, length)]) for length in lengths}
        # Of the very rounds that are timed: another sample's acceptance would add its noise to the ratio.
        alphas = {length: own.acceptance for length, own in judged.items()}
        plain, most = bound(alphas, whole.draft, whole.gain)
        best, exact = bound(alphas, whole.draft, whole.gain, whole.last)
        # Those that are written in every turn.
        short = min(lengths)
        loop = reached(blocks[block_name(codec, short)], measured.alone_s, clock)
        bare = reached(blocks[block_name(codec, short)], [turn.one_s for turn in turns], clock)
        exacts = [turn.speed_up(alphas[best], best, last=True) for turn in turns]
        plains = [turn.speed_up(alphas[plain], plain, last=False) for turn in turns]
        # How many tokens a round of these leaves is no chance: it is long where drafts are good.
        early = [
            own_s * own.tokens / own.seconds[clock]
            for own, own_s in zip(blocks[early_name(codec)], measured.alone_s, strict=True)
        ]
        name, up_to = f"blocks, {codec}:", f"L ≤ {EARLY_LENGTH}, ended below {EARLY_P_MIN},"
        findings += [
            _once(f"{name} bound at α = {alphas[plain]:.3f}, c = {whole.draft[plain]:.3f}, L = {plain}", most),
            _once(f"{name} bound with the last draft run, e = {whole.last[best]:.3f}, L = {best}", exact),
            Finding.of(f"{name} L = {short} ÷ LLM alone in llama.cpp, without prefill", loop),
            ratios(f"{name} that ÷ the bound with the last draft run", loop, exacts, 0.95),
            ratios(f"{name} that ÷ the bound without the last draft", loop, plains),
            Finding.of(f"{name} {up_to} ÷ LLM alone in llama.cpp, without prefill", early),
            ratios(f"{name} {up_to} ÷ the bound with the last draft run", early, exacts, 0.95),
            Finding.of(f"{name} L = {short} ÷ LLM forwards without a sampler", bare),
            ratios(f"{name} that ÷ the bound with the last draft run, both without a sampler", bare, exacts),
            ratios(
                f"{name} L = {short} ÷ LLM alone in llama.cpp, whole answers",
                measured.rates[block_name(codec, short)],
                measured.rates["llama.cpp"],
            ),
        ]
        rows += [
            {
                "codec": codec,
                "length": length,
                "acceptance": alphas[length],
                "gain": whole.gain[length],
                "bound": whole.speed_up(alphas[length], length, last=False),
                "reached": whole.one_s * own.tokens / own.seconds[clock],
                "tokens_a_round": own.tokens / own.rounds,
                "draft_ms_a_round": 1e3 * own.draft_s / own.rounds,
                "forward_ms_a_round": 1e3 * own.forward_s / own.rounds,
            }
            for length, own in judged.items()
        ]
    bare_ms = {f"{name} {count}": 1e3 * seconds for (name, count), seconds in times_s.items()}
    return findings, {
        "drafter_cost": whole.draft,
        "last_draft_cost": whole.last,
        "blocks": rows,
        "bare_forward_ms": bare_ms,
    }


def _once(what: str, value: float) -> Finding:
    return Finding(what, value, value, value)
