"""Measuring what a plan needs: a few prompts are answered in each way, and the batch curve is taken from the LLM alone.

    acceptance, draft_s, forward_s     one draft an upload        position_s     blocks and trees, against forward_s
    trees, draft_position_s            a tree of each size        u_draft_s      policy u
    load                               n streams of `llm` at once: n · rate of one ÷ rate of all

One computation at a time, save for the batch curve: that is of both ends as they are, so it holds what the base station's own
work adds. Seconds are lower quartiles, because a machine is never quite alone.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from uihlm_device.conversation import Conversation
from uihlm_device.decode_settings import DecodeSettings
from uihlm_device.decoder import Decoder
from uihlm_device.rules.policies import PolicySettings
from uihlm_device.tokens import TokenRecord
from uihlm_evaluation.calibration.plan_figures import LoadFigures, PlanFigures, SkipFigures, TreeFigures
from uihlm_proto.errors import InvalidRequestError
from uihlm_proto.randomness import session_key

FloatArray = npt.NDArray[np.floating[Any]]

TREES = (4, 8, 16)
_BLOCK = 4
# Shares of tokens that `u` may upload along its curve, about evenly spread.
_THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 20))


@dataclass(frozen=True, slots=True)
class Rig:
    """What is measured.

    Attributes:
        decoder: makes a decoder for a policy by name under codec `coupled`, on a virtual clock that is charged what was
            measured, without a link.
        prompts: ids.
        decode: sampling and length.
        theta_u: of policy `u`.
        vocabulary_size: V.
        seed: of the tokens.
        trees: whether the drafter grows trees.
        sessions: loads of the batch curve, from 1 on; no more than the base station keeps caches for, or it runs prompts again.
        show: told what is measured next.
    """

    decoder: Callable[[str, PolicySettings, DecodeSettings], Decoder]
    prompts: Sequence[Sequence[int]]
    decode: DecodeSettings
    theta_u: float
    vocabulary_size: int
    seed: int
    trees: bool
    sessions: Sequence[int]
    show: Callable[[str], None]

    def decoder_of(self, name: str, draft_length: int = 1, tree: int = 0) -> Decoder:
        """Return a decoder for a way of asking."""
        settings = replace(self.decode, draft_length=draft_length, tree=tree)
        return self.decoder(name, PolicySettings(self.theta_u), settings)

    def conversation(self, index: int) -> Conversation:
        """Return the conversation of a prompt."""
        conversation = Conversation(session_key(self.seed, index))
        conversation.extend(list(self.prompts[index]))
        return conversation

    def answers(self, decoder: Decoder) -> list[list[TokenRecord]]:
        """Answer every prompt, one after another."""
        found = []
        for index in range(len(self.prompts)):
            conversation = self.conversation(index)
            try:
                found.append(list(decoder.answer(conversation)))
            finally:
                conversation.end_session()
        return found


def measure(rig: Rig, skipping: Sequence[SkipFigures], measured: str) -> PlanFigures:
    """Measure a pair; `measured` says when and on what.

    Raises:
        InvalidRequestError: if the answers are too short to say anything.
    """
    rig.show("one draft an upload")
    singles = rig.answers(rig.decoder_of("hlm"))
    records = [record for answer in singles for record in answer]
    judged = sum(record.uploaded for record in records)
    rejected = sum(record.origin.value == "resampled" for record in records)
    drafts_s = [record.draft_s for answer in singles for record in answer[1:]]
    forwards = _forwards(singles)
    forward_s = _quartile([seconds for positions, seconds in forwards if positions == 1])
    draft_s = _quartile(drafts_s)
    rig.show(f"blocks of {_BLOCK}")
    forwards += _forwards(rig.answers(rig.decoder_of("hlm", draft_length=_BLOCK)))
    rig.show("policy u")
    u_answers = rig.answers(rig.decoder_of("u"))
    u_draft_s = _quartile([record.draft_s for answer in u_answers for record in answer[1:]])
    trees, further_s = [], []
    for nodes in TREES if rig.trees else ():
        rig.show(f"trees of {nodes}")
        tree, tree_draft_s, answers = _tree(rig, nodes)
        trees.append(tree)
        forwards += _forwards(answers)
        further = tree.drafter_nodes - tree.drafter_calls
        if further > 0.5:
            further_s.append(max(0.0, tree_draft_s - tree.drafter_calls * draft_s) / further)
    longer = [(seconds - forward_s) / (positions - 1) for positions, seconds in forwards if positions >= _BLOCK]
    return PlanFigures(
        measured=measured,
        prompts=len(rig.prompts),
        tokens=len(records),
        vocabulary_size=rig.vocabulary_size,
        acceptance=1.0 - rejected / judged,
        draft_s=draft_s,
        u_draft_s=u_draft_s,
        draft_position_s=min(further_s, default=draft_s),
        forward_s=forward_s,
        position_s=max(0.0, _quartile(longer)),
        trees=tuple(trees),
        skipping=tuple(skipping),
        load=_load(rig, singles),
    )


def skipping_curve(u: FloatArray, reject_prob: FloatArray) -> tuple[SkipFigures, ...]:
    """Return what policy `u` uploads and risks along its thresholds, from a trace's u and rejection probability, `[T]`."""
    points = []
    for theta_u in _THRESHOLDS:
        skipped = u <= theta_u
        risk = float(np.where(skipped, reject_prob, 0.0).mean(dtype=np.float64))
        points.append(SkipFigures(theta_u, float(1.0 - skipped.mean(dtype=np.float64)), risk))
    return tuple(points)


def _tree(rig: Rig, nodes: int) -> tuple[TreeFigures, float, list[list[TokenRecord]]]:
    """Return what trees of a size come to, the device seconds of a trip, and the answers."""
    decoder = rig.decoder_of("hlm", tree=nodes)
    answers = rig.answers(decoder)
    rounds = decoder.trees
    if rounds is None or not rounds.rounds:
        raise InvalidRequestError(f"no trees of {nodes} nodes were sent: are the answers empty?")
    tokens = sum(map(len, answers))
    # A round's costs stand on its first token; the first trip of an answer holds the prompt's prefill.
    grown_s = [seconds for answer in answers for seconds in [r.draft_s for r in answer if r.draft_s > 0.0][1:]]
    figures = TreeFigures(
        nodes,
        tokens / rounds.rounds,
        rounds.grower.calls / rounds.rounds,
        rounds.grower.nodes / rounds.rounds,
    )
    return figures, _quartile(grown_s), answers


def _load(rig: Rig, singles: Sequence[Sequence[TokenRecord]]) -> tuple[LoadFigures, ...]:
    """Return the batch curve. Under `coupled` the LLM writes alone what it wrote with drafts: long answers are known."""
    longest = sorted(range(len(singles)), key=lambda index: -len(singles[index]))
    longest = [index for index in longest if 2 * len(singles[index]) >= len(singles[longest[0]])]
    rates = {}
    for sessions in rig.sessions:
        rig.show(f"{sessions} at once")
        chosen = [longest[number % len(longest)] for number in range(sessions)]
        rates[sessions] = _rate_tok_s([functools.partial(_stamps_s, rig, index) for index in chosen])
    return tuple(LoadFigures(n, 1.0 if n == 1 else n * rates[1] / rate) for n, rate in rates.items())


def _stamps_s(rig: Rig, index: int) -> list[float]:
    """Have the LLM write an answer; return when each token was there."""
    conversation = rig.conversation(index)
    try:
        return [time.perf_counter() for _ in rig.decoder_of("llm").answer(conversation)]
    finally:
        conversation.end_session()


def _rate_tok_s(streams: Sequence[Callable[[], list[float]]]) -> float:
    """Run streams at once; return their tokens a second while all of them write."""
    with ThreadPoolExecutor(len(streams)) as threads:
        stamps = [running.result() for running in [threads.submit(stream) for stream in streams]]
    begin, end = max(own[0] for own in stamps), min(own[-1] for own in stamps)
    inside = sum(begin < at <= end for own in stamps for at in own)
    if not inside:
        raise InvalidRequestError(
            f"{len(streams)} answers at once were not long enough to overlap: measure with more --answer-tokens"
        )
    return inside / (end - begin)


def _forwards(answers: Sequence[Sequence[TokenRecord]]) -> list[tuple[int, float]]:
    """Return positions and seconds of each forward; the first of an answer may wait for the prefill."""
    return [(r.llm_positions, r.forward_s) for answer in answers for r in answer[1:] if r.llm_forwards == 1]


def _quartile(seconds: Sequence[float]) -> float:
    if not seconds:
        raise InvalidRequestError("the answers were too short to time anything: take other prompts, or more of them")
    return float(np.percentile(seconds, 25))
