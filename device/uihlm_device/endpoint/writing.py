"""One answer, written in a thread of its own: from ids to text, with a way to stop it from outside.

    token → its bytes → whole characters → what no stop text can begin with → shown

An answer that nobody waits for any more stops at its next token, or at once where it waits for the base station: its
streams are ended, so that the session there is free again.
"""

from __future__ import annotations

import codecs
import contextlib
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from uihlm_device.conversation import Conversation
from uihlm_device.decode_settings import DecodeSettings
from uihlm_device.decoder import Decoder
from uihlm_device.drafters.drafter import Drafter
from uihlm_device.endpoint.completer import Asked, Ending, Finished, TokenScore, Written
from uihlm_device.endpoint.metering import AnswerMeter
from uihlm_device.endpoint.pieces import starts
from uihlm_device.endpoint.places import Place
from uihlm_device.endpoint.stop_strings import StopStrings
from uihlm_device.stream.session import Stream
from uihlm_device.tokens import TokenRecord
from uihlm_device.turn import Turn
from uihlm_models.chat_format import ChatFormat
from uihlm_models.tokenizer import Tokenizer
from uihlm_proto.errors import ProtocolError, UihlmError, UnavailableError
from uihlm_proto.randomness import session_key
from uihlm_proto.sampling import Sampling
from uihlm_wireless.clock import Clock
from uihlm_wireless.energy import JouleProfile
from uihlm_wireless.ledger import Ledger

_LOG = logging.getLogger(__name__)

# Of a seed, the endpoint writes what `chat` answers first and `eval` to its first prompt.
_FIRST = 0

Opened = Callable[[Stream], None]
Score = Callable[[Sequence[int], Sequence[int]], Sequence[float]]


class LeftError(UihlmError):
    """Nobody waits for this answer any more."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What answers are written with.

    Attributes:
        tokenizer, chat_format: the drafter model's.
        clock, ledger: of the one link that all answers share.
        decoder: makes a decoder from a drafter and settings, and tells of every stream it opens.
        decode: the settings that requests vary.
        joules: watts of the energy profile.
        score: the LLM's log-probabilities; None where no LLM is asked.
        meter: of each answer's joules.
    """

    tokenizer: Tokenizer
    chat_format: ChatFormat
    clock: Clock
    ledger: Ledger
    decoder: Callable[[Drafter, DecodeSettings, Opened], Decoder]
    decode: DecodeSettings
    joules: JouleProfile
    score: Score | None
    meter: AnswerMeter = field(default_factory=AnswerMeter)

    def settings(self, asked: Asked) -> DecodeSettings:
        """Return the settings of one request; InvalidRequestError for a sampling contract that there is not."""
        own = self.decode.sampling
        sampling = Sampling(
            own.temperature if asked.temperature is None else asked.temperature,
            own.top_k if asked.top_k is None else asked.top_k,
            own.top_p if asked.top_p is None else asked.top_p,
        )
        return replace(self.decode, sampling=sampling, max_tokens=asked.max_tokens or self.decode.max_tokens)


class Leaving:
    """Whether the one who asked has left; from any thread."""

    def __init__(self) -> None:
        self._left = threading.Event()
        self._streams: list[Stream] = []

    def leave(self) -> None:
        """Say so, and end what the answer may be waiting for."""
        self._left.set()
        for stream in list(self._streams):
            stream.abandon()

    def opened(self, stream: Stream) -> None:
        """Note a stream; LeftError if it is of no use any more."""
        self._streams.append(stream)
        self.check()

    def check(self) -> None:
        """Raise LeftError if nobody waits."""
        if self._left.is_set():
            raise LeftError("nobody waits for this answer any more")


@dataclass(frozen=True, slots=True)
class Writing:
    """One answer to be written.

    Attributes:
        parts: what it is written with.
        asked: the request.
        ids: its prompt.
        seed: of its tokens.
        waited_s: for the drafter.
        leaving: says when to stop.
        tell: takes each piece, and the end.
    """

    parts: Parts
    asked: Asked
    ids: list[int]
    seed: int
    waited_s: float
    leaving: Leaving
    tell: Callable[[Written | Finished], None]

    def write(self, place: Place) -> None:
        """Write it with this drafter.

        Raises:
            LeftError: if nobody waits for it any more.
            UihlmError, ModelError: whatever kept it from its end.
        """
        conversation = Conversation(session_key(self.seed, _FIRST), drafter=place.drafter)
        # What is run again at least is the last id: its logits are gone.
        conversation.drafted = min(place.shared(self.ids), len(self.ids) - 1)
        reused = conversation.drafted
        conversation.extend(self.ids)
        place.held = []
        decoder = self.parts.decoder(place.drafter, self.parts.settings(self.asked), self.leaving.opened)
        try:
            with self.parts.meter.over() as window:
                turn, shown, ending, records = self._written(decoder, conversation)
            scores = self._scores(conversation, records, shown) if self.asked.scored else None
            self.tell(
                Finished(
                    ending,
                    len(self.ids),
                    reused,
                    self.seed,
                    turn,
                    self.parts.joules.energy_j(turn.airtime_s, turn.draft_s, turn.forward_s),
                    # Read last: by then a wall meter has written more.
                    window.joules(turn),
                    self.waited_s,
                    conversation.lost_links,
                    scores,
                )
            )
        except UnavailableError:
            # A stream that we ended ourselves fails like any other.
            self.leaving.check()
            raise
        finally:
            place.held = conversation.ids[: conversation.drafted]
            self._end(conversation)

    def _written(self, decoder: Decoder, conversation: Conversation) -> tuple[Turn, int, Ending, list[TokenRecord]]:
        """Write and tell every piece; return the sums, characters shown, why it ended, and the tokens' records."""
        turn, records = Turn(answers=1), list[TokenRecord]()
        characters = codecs.getincrementaldecoder("utf-8")("replace")
        stops = StopStrings(self.asked.stop)
        shown = 0

        def show(text: str) -> int:
            if text:
                self.tell(Written(text))
            return len(text)

        started_s = self.parts.clock.now()
        answer = decoder.answer(conversation)
        with contextlib.closing(answer):
            for record in answer:
                self.leaving.check()
                turn.add(record)
                turn.elapsed_s = self.parts.clock.now() - started_s
                records.append(record)
                piece = b"" if record.stop else self.parts.tokenizer.piece(record.token)
                shown += show(stops.feed(characters.decode(piece)))
                if stops.hit:
                    break
            shown += show(stops.feed(characters.decode(b"", final=True)) + stops.end())
            decoder.settle_open(conversation)
            if conversation.open_round is not None and conversation.open_cost is not None:
                turn.add_opening(conversation.open_cost, self.parts.ledger.pop(conversation.open_round))
        turn.add_audit(conversation.audit)
        ended = stops.hit or (bool(records) and records[-1].stop)
        return turn, shown, Ending.STOP if ended else Ending.LENGTH, records

    def _scores(self, conversation: Conversation, records: Sequence[TokenRecord], shown: int) -> tuple[TokenScore, ...]:
        """Ask the LLM for its opinion of every token that is shown, at least in part."""
        pieces = [b"" if record.stop else self.parts.tokenizer.piece(record.token) for record in records]
        kept = [
            (record, piece)
            for record, piece, start in zip(records, pieces, starts(pieces), strict=True)
            if piece and start < shown
        ]
        if self.parts.score is None or not kept:
            return ()
        first = conversation.answer_start
        target_ids = conversation.ids[first : kept[-1][0].position + 1]
        log_probs = self.parts.score(conversation.ids[:first], target_ids)
        if len(log_probs) != len(target_ids):
            raise ProtocolError(f"the base station scored {len(target_ids)} ids with {len(log_probs)} numbers")
        return tuple(
            TokenScore(piece, log_probs[record.position - first], record.origin, record.x_d, record.y_d)
            for record, piece in kept
        )

    def _end(self, conversation: Conversation) -> None:
        """End the session; whatever fails here comes after the answer, and concerns nobody who reads it."""
        if conversation.open_round is not None:
            with contextlib.suppress(ProtocolError):  # paid, where the answer came to its end
                self.parts.ledger.pop(conversation.open_round)
        try:
            conversation.end_session()
        except UihlmError as error:
            _LOG.warning("the session of an answer could not be ended: %s", error)
