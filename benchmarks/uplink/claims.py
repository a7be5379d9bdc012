"""What the uplink's figures are to show, each held against its goal, with a 95 % bootstrap interval over prompts."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from uihlm_evaluation.quality.bootstrap import mean_interval, paired_difference, prompt_draws
from uihlm_proto.codecs import codec
from uihlm_proto.sampling import Sampling
from uihlm_wireless.timing import TimingProfile

if TYPE_CHECKING:
    from benchmarks.uplink.bench import Bench
    from benchmarks.uplink.figures import Figures
    from uihlm_device.tokens import TokenRecord

CODECS = ("dense32", "dense16", "lattice:k=16,l=128", "lattice:k=64,l=1024", "coupled")


@dataclass(frozen=True, slots=True)
class Claim:
    """A figure, its interval, and the goal it is held against."""

    text: str
    value: float
    low: float
    high: float
    goal: str
    holds: bool

    def __str__(self) -> str:
        """Return it as a line."""
        mark = "holds" if self.holds else "MISSED"
        return f"{mark:7} {self.text}: {self.value:.3g} [{self.low:.3g}, {self.high:.3g}], goal {self.goal}"


def coding_ms(vocabulary_size: int, temperature: float = 0.6) -> dict[str, float]:
    """Return what quantising, drawing, writing and reading one distribution takes, milliseconds, median, by codec."""
    rng = np.random.default_rng(0)
    # Spiky as a language model is: a few tokens carry most of the mass.
    logits = (rng.normal(size=vocabulary_size) * 2.0).astype(np.float32)
    logits[rng.choice(vocabulary_size, 40, replace=False)] += np.linspace(18.0, 6.0, 40).astype(np.float32)
    x = Sampling(temperature).distribution(logits)
    found = {}
    for name in CODECS:
        uplink, took_s = codec(name, vocabulary_size), []
        for position in range(60):
            started_s = time.perf_counter()
            uplink.decode(uplink.draft(x, bytes(16), position).encode())
            took_s.append(time.perf_counter() - started_s)
        found[name] = 1e3 * float(np.median(took_s))
    return found


def quality(bench: Bench, answers: Mapping[str, Sequence[list[TokenRecord]]]) -> dict[str, dict[str, float]]:
    """Return BERTScore F1 of each way's answers against the references, and its difference to the LLM alone, paired."""
    from uihlm_evaluation.quality.metrics import TextMetrics

    metrics, references = TextMetrics(), [example.output for example in bench.examples]
    scores = {
        name: [
            100.0 * (score.bertscore_f1 or 0.0)
            for score in metrics.score([bench.text(records) for records in answer], references)
        ]
        for name, answer in answers.items()
    }
    found = {}
    for name, own in scores.items():
        mean, difference = mean_interval(own), paired_difference(own, scores["llm"])
        found[name] = {
            "mean": mean.mean,
            "low": mean.low,
            "high": mean.high,
            "to_llm": difference.mean,
            "to_llm_low": difference.low,
            "to_llm_high": difference.high,
        }
    return found


def closed_forms(timing: TimingProfile, acceptance: float, rtt_s: float) -> list[tuple[str, float, float]]:
    """Return (name, speed-up of chains in flight over a loop that waits, share of it to reach) of two closed forms.

    With t_d a draft, t_v a forward, R the round trip, α the acceptance, a waiting loop takes t_d + t_v + R a token. In flight,
    a draft that stands takes only t_d, one that falls t_v + R more. But one LLM judges one draft in t_v, so where that is
    longer than t_d, drafts queue for it: no window is faster than the second form.
    """
    assert timing.draft_s is not None and timing.forward_s is not None
    draft_s, away_s = timing.draft_s, timing.forward_s + rtt_s
    falls_s = (1.0 - acceptance) * away_s
    return [
        ("the closed form", (draft_s + away_s) / (draft_s + falls_s), 0.9),
        ("its bound with one LLM", (draft_s + away_s) / (max(draft_s, timing.forward_s) + falls_s), 0.95),
    ]


def claims(
    found: Mapping[str, Mapping[str, Figures]],
    timing: TimingProfile,
    coded_ms: Mapping[str, float],
    same: Mapping[str, float],
) -> list[Claim]:
    """Return every claim but those on quality with its verdict."""

    def ratio(text: str, way: str, over: str, link: str, goal: float) -> Claim:
        value, low, high = _speed_up(found[way][link], found[over][link])
        return Claim(text.format(way=way), value, low, high, f"≥ {goal:g}", value >= goal)

    def best(link: str, *, chains: bool) -> str:
        ways = [
            name for name in found if name.startswith(("L=", "in flight") if chains else ("L=", "in flight", "tree"))
        ]
        return max(ways, key=lambda name: found[name][link].tok_s)

    dense, coupled = found["dense32"]["RTT 0"].acceptance, found["coupled"]["RTT 0"].acceptance
    assert dense is not None and coupled is not None
    kept, on_air = coupled / dense, found["coupled"]["paper"].airtime_share
    made = [
        Claim("coupled accepts, of what dense32 does", kept, kept, kept, "≥ 0.9", kept >= 0.9),
        ratio("paper link: coupled over dense16, tokens/s", "coupled", "dense16", "paper", 120.0),
        Claim("paper link: airtime of compute, payload", on_air, on_air, on_air, "≤ 0.05", on_air <= 0.05),
        ratio("50 ms: {way} over waiting L=1", best("RTT 50 ms", chains=False), "coupled", "RTT 50 ms", 2.0),
        ratio("150 ms: {way} over waiting L=1", best("RTT 150 ms", chains=False), "coupled", "RTT 150 ms", 2.5),
        ratio("150 ms: {way}, the best chain", best("RTT 150 ms", chains=True), "coupled", "RTT 150 ms", 2.0),
    ]
    for link, rtt_s in (("RTT 10 ms", 0.01), ("RTT 50 ms", 0.05), ("RTT 150 ms", 0.15)):
        closed, bound = closed_forms(timing, coupled, rtt_s)
        # Where the LLM runs on it is never waited for whole: the bound is of one that waits.
        for way, forms in (("in flight 16", (closed, bound)), ("in flight 16, runs on", (closed,))):
            value, low, high = _speed_up(found[way][link], found["coupled"][link])
            for text, most, goal in forms:
                name = f"{link}: {way} over waiting, of {text}, {most:.2f}"
                made.append(Claim(name, value / most, low / most, high / most, f"≥ {goal}", value / most >= goal))
    for name, ms in coded_ms.items():
        made.append(Claim(f"coding one distribution, {name}, ms", ms, ms, ms, "≤ 1", ms <= 1.0))
    exact = [name for name in same if name == "coupled" or name.startswith(("L=", "in flight", "tree"))]
    share = float(np.mean([same[name] for name in exact]))
    least = min(same[name] for name in exact)
    made.append(
        Claim("coupled answers that are the LLM's own, token by token", share, least, 1.0, "≥ 0.95", share >= 0.95)
    )
    return made


def quality_claims(scores: Mapping[str, Mapping[str, float]]) -> list[Claim]:
    """Return for each way that was scored whether its quality is that of the LLM alone."""
    made = []
    for name, score in scores.items():
        if name == "llm":
            continue
        value, low, high = (score[key] for key in ("to_llm", "to_llm_low", "to_llm_high"))
        made.append(Claim(f"BERTScore F1 of {name} less the LLM's", value, low, high, "0 inside", low <= 0.0 <= high))
    return made


def _speed_up(own: Figures, other: Figures) -> tuple[float, float, float]:
    """Return the ratio of tokens a second with its interval; both wrote the same prompts."""
    tokens, elapsed_s = np.array([own.tokens, other.tokens], float), np.array([own.elapsed_s, other.elapsed_s])
    draws = prompt_draws(len(own.tokens))
    rates = (draws @ tokens.T) / (draws @ elapsed_s.T)
    low, high = np.percentile(rates[:, 0] / rates[:, 1], (2.5, 97.5))
    return own.tok_s / other.tok_s, float(low), float(high)
