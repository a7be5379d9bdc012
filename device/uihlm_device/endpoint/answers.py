"""From what a completer tells to the JSON that clients of OpenAI's interface read, whole or piece by piece.

What that interface has no place for stands under `uihlm`: in `usage` what the answer cost, in each scored token who wrote it.
"""

from __future__ import annotations

import abc
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

from uihlm_device.endpoint.completer import Card, Finished, Load, TokenScore
from uihlm_device.endpoint.pieces import starts

Json = dict[str, Any]


class Form(abc.ABC):
    """How one answer is written down.

    Attributes:
        whole, piece: names of the objects.
        prefix: of the answer's id.
    """

    whole: str
    piece: str
    prefix: str

    def __init__(self, card: Card) -> None:
        """Begin an answer: it has an id and a time."""
        self._card = card
        self._head = {"id": self.prefix + secrets.token_hex(12), "created": int(time.time())}

    def answer(self, text: str, finished: Finished) -> Json:
        """Return a whole answer."""
        choice = self._choice(text, finished)
        return self._object(self.whole, [choice]) | {"usage": usage(self._card, finished)}

    def opening(self) -> Json | None:
        """Return what a stream begins with, if anything."""
        return None

    @abc.abstractmethod
    def chunk(self, text: str) -> Json:
        """Return one piece of a stream."""

    @abc.abstractmethod
    def last(self, finished: Finished) -> Json:
        """Return the piece that says why the answer ended."""

    def bill(self, finished: Finished) -> Json:
        """Return the piece that follows it where usage was asked for."""
        return self._object(self.piece, []) | {"usage": usage(self._card, finished)}

    @abc.abstractmethod
    def _choice(self, text: str, finished: Finished) -> Json:
        """Return the one choice of a whole answer."""

    def _object(self, name: str, choices: list[Json]) -> Json:
        return {
            **self._head,
            "object": name,
            "model": self._card.name,
            "system_fingerprint": self._card.fingerprint,
            "choices": choices,
        }


class ChatForm(Form):
    """A chat completion."""

    whole, piece, prefix = "chat.completion", "chat.completion.chunk", "chatcmpl-"

    def opening(self) -> Json:
        """Return the piece that names the speaker."""
        return self._delta({"role": "assistant", "content": ""}, None)

    def chunk(self, text: str) -> Json:
        """Return one piece of text."""
        return self._delta({"content": text}, None)

    def last(self, finished: Finished) -> Json:
        """Return the piece that says why the answer ended."""
        return self._delta({}, finished.ending.value)

    def _delta(self, delta: Json, reason: str | None) -> Json:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return self._object(self.piece, [choice])

    def _choice(self, text: str, finished: Finished) -> Json:
        return {
            "index": 0,
            "message": {"role": "assistant", "content": text, "refusal": None},
            "logprobs": _chat_scores(finished.scores),
            "finish_reason": finished.ending.value,
        }


class TextForm(Form):
    """A text completion, whole and in pieces of one form."""

    whole = piece = "text_completion"
    prefix = "cmpl-"

    def chunk(self, text: str) -> Json:
        """Return one piece of text."""
        return self._text(text, None)

    def last(self, finished: Finished) -> Json:
        """Return the piece that says why the answer ended."""
        return self._text("", finished.ending.value)

    def _text(self, text: str, reason: str | None) -> Json:
        return self._object(self.piece, [{"index": 0, "text": text, "logprobs": None, "finish_reason": reason}])

    def _choice(self, text: str, finished: Finished) -> Json:
        scores = _text_scores(finished.scores)
        return {"index": 0, "text": text, "logprobs": scores, "finish_reason": finished.ending.value}


def usage(card: Card, finished: Finished) -> Json:
    """Return what an answer cost: tokens as everywhere, the split's own counts under `uihlm`."""
    turn, joules, measured = finished.turn, finished.joules, finished.measured
    return {
        "prompt_tokens": finished.prompt_tokens,
        "completion_tokens": turn.tokens,
        "total_tokens": finished.prompt_tokens + turn.tokens,
        "uihlm": {
            "policy": card.policy,
            "codec": card.codec,
            "seed": finished.seed,
            "uploaded": turn.uploaded,
            "rejected": turn.rejected,
            "upload_rate": turn.upload_rate,
            "acceptance_rate": turn.acceptance_rate,
            "skipped_risk": turn.skipped_risk,
            "outage_tokens": turn.outage,
            "lost_links": finished.lost_links,
            "llm_forwards": turn.llm_forwards,
            "llm_positions": turn.llm_positions,
            "llm_forwards_per_token": turn.llm_forwards / turn.tokens if turn.tokens else None,
            "model_bits": turn.model_bits,
            "payload_bits": turn.payload_bits,
            "wire_bytes": turn.wire_bytes,
            "draft_s": turn.draft_s,
            "bs_busy_s": turn.forward_s,
            "link_s": turn.link_s,
            "airtime_s": turn.airtime_s,
            "waited_s": finished.waited_s,
            "elapsed_s": turn.elapsed_s,
            "reused_tokens": finished.reused_tokens,
            "energy_j": joules.total_j,
            "device_j": joules.device_j,
            "transmit_j": joules.transmit_j,
            "basestation_j": joules.basestation_j,
            "measured_j": measured.ends.total_j,
            "measured_device_j": measured.ends.device_j,
            "measured_basestation_j": measured.ends.basestation_j,
            "measured_machine_j": measured.ends.machine_j,
            "measured_note": measured.note,
            "started_unix_s": measured.started_unix_s,
            "ended_unix_s": measured.ended_unix_s,
        },
    }


def model(card: Card, since: int) -> Json:
    """Return the one model that is served."""
    return {
        "id": card.name,
        "object": "model",
        "created": since,
        "owned_by": "uihlm",
        "uihlm": {
            "policy": card.policy,
            "codec": card.codec,
            "drafter": card.drafter,
            "llm": card.llm,
            "max_context": card.max_context,
        },
    }


def health(load: Load) -> Json:
    """Return how busy the endpoint is."""
    return {"status": "ok", "writing": load.writing, "waiting": load.waiting}


def _chat_scores(scores: Sequence[TokenScore] | None) -> Json | None:
    if scores is None:
        return None
    content = [
        {
            "token": _text_of(score.piece),
            "logprob": score.log_prob,
            "bytes": list(score.piece),
            "top_logprobs": [],
            "uihlm": _who(score),
        }
        for score in scores
    ]
    return {"content": content, "refusal": None}


def _text_scores(scores: Sequence[TokenScore] | None) -> Json | None:
    if scores is None:
        return None
    return {
        "tokens": [_text_of(score.piece) for score in scores],
        "token_logprobs": [score.log_prob for score in scores],
        "top_logprobs": None,
        "text_offset": list(starts(score.piece for score in scores)),
        "uihlm": [_who(score) for score in scores],
    }


def _who(score: TokenScore) -> Mapping[str, Any]:
    return {"origin": score.origin.value, "x_d": score.x_d, "y_d": score.y_d}


def _text_of(piece: bytes) -> str:
    return piece.decode("utf-8", "replace")
