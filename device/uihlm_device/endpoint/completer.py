"""What the HTTP application asks of whatever writes the answers: a request in, text as it comes out, and what it cost.

The application knows nothing of drafters, streams or llama.cpp; a completer knows nothing of HTTP and JSON.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from uihlm_device.endpoint.metering import AnswerJoules
from uihlm_device.tokens import Origin
from uihlm_device.turn import Turn
from uihlm_proto.errors import InvalidRequestError
from uihlm_wireless.energy import Joules


class Speaker(enum.StrEnum):
    """Whose message it is, in the words of chat templates."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation."""

    speaker: Speaker
    text: str


# A conversation to go on with, a text to continue, or its ids.
Prompt = tuple[Message, ...] | str | tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """One request. What is None is the server's own setting.

    Attributes:
        prompt: what to answer, or to continue.
        max_tokens: length limit of the answer; the stop token counts as one.
        temperature, top_k, top_p: of the sampling contract.
        seed: of every token; None is the server's, or one made for this request.
        stop: texts that end the answer, and are no part of it.
        scored: whether the LLM's log-probability of every token is wanted.
    """

    prompt: Prompt
    max_tokens: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    scored: bool = False


class TooLongError(InvalidRequestError):
    """A prompt that leaves the answer no room."""


@dataclass(frozen=True, slots=True)
class Written:
    """A piece of the answer: whole characters, never empty, no part of a stop text."""

    text: str


@dataclass(frozen=True, slots=True)
class TokenScore:
    """One token of an answer that was scored.

    Attributes:
        piece: its bytes, perhaps half a character.
        log_prob: the LLM's log-probability at temperature 1 of this token after all before it, nats.
        origin: who wrote it.
        x_d, y_d: drafter's and LLM's probability of the draft at its place, under the sampling contract, where known.
    """

    piece: bytes
    log_prob: float
    origin: Origin
    x_d: float | None
    y_d: float | None


class Ending(enum.StrEnum):
    """Why an answer ended."""

    STOP = "stop"
    LENGTH = "length"


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of an answer, and what it cost.

    Attributes:
        ending: why.
        prompt_tokens: ids before the answer.
        reused_tokens: those of them that the drafter's cache held already.
        seed: that gives this answer again.
        turn: counts, bits and seconds.
        joules: modelled: the given watts × busy time.
        measured: what meters read beside that.
        waited_s: for a drafter that was free.
        lost_links: streams that were lost and opened again, or gone on without.
        scores: of every token that is shown; None unless asked for.
    """

    ending: Ending
    prompt_tokens: int
    reused_tokens: int
    seed: int
    turn: Turn
    joules: Joules
    measured: AnswerJoules
    waited_s: float
    lost_links: int
    scores: tuple[TokenScore, ...] | None


@dataclass(frozen=True, slots=True)
class Card:
    """What is served.

    Attributes:
        name: the one model that requests may name.
        policy, codec: how its tokens are written.
        drafter, llm: the two models in words.
        max_context: ids that prompt and answer may have together on the device.
        fingerprint: changes with everything that may change the tokens of a seed.
        scores: whether there is an LLM to score answers.
    """

    name: str
    policy: str
    codec: str
    drafter: str
    llm: str
    max_context: int
    fingerprint: str
    scores: bool


@dataclass(frozen=True, slots=True)
class Load:
    """Answers being written, and requests that wait for a drafter."""

    writing: int
    waiting: int


class Completer(Protocol):
    """Whatever writes the answers."""

    @property
    def card(self) -> Card:
        """What is served."""

    @property
    def load(self) -> Load:
        """How busy it is."""

    def complete(self, asked: Asked) -> AsyncGenerator[Written | Finished]:
        """Write one answer: pieces as they come, then one Finished. Closed half-way, it stops writing at once.

        Raises:
            TooLongError: if the prompt leaves no room.
            InvalidRequestError, ModelError: what cannot be answered.
            ExhaustedError: if too many wait already; it says when to come again.
            UihlmError: what the base station refused, or that it cannot be reached.
        """
