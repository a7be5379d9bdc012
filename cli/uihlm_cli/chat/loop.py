"""The turn loop of a chat: read, answer or obey, show; one conversation at a time, whose only history is ids."""

from __future__ import annotations

from uihlm_cli.assembly import Device
from uihlm_cli.chat.metering import ChatMeter
from uihlm_cli.chat.pilot import Pilot
from uihlm_cli.chat.settings import AUTO, Settings
from uihlm_cli.chat.slash_commands import Action, Cancelled, CommandError, Entry, Reader
from uihlm_cli.chat.view import View
from uihlm_cli.errors import FAILURES, exit_code
from uihlm_cli.interrupts import Interrupts
from uihlm_cli.options.meters import OpenMeter
from uihlm_device.conversation import Conversation
from uihlm_device.decoder import Decoder
from uihlm_device.rules.risk import RiskPolicy
from uihlm_device.turn import Turn
from uihlm_evaluation.planning.plan import Objective
from uihlm_proto.randomness import session_key


class Chat:
    """A device, the settings of the moment, and the conversation under way."""

    def __init__(
        self, device: Device, settings: Settings, view: View, system: str | None, meter: OpenMeter | None = None
    ) -> None:
        """Load the drafter that the policy needs and begin the first conversation.

        Raises:
            ModelError: if the drafter cannot be loaded.
        """
        self._device = device
        self._settings = settings
        self._view = view
        self._system = system
        self._number = 0
        self._totals = Turn()
        self._meter = ChatMeter(meter, settings.config.joules)
        # Whether the last answer ended by itself, and the round of the last Open that was billed.
        self._stopped = False
        self._billed_opening: int | None = None
        self._pilot: Pilot | None = None
        self._decoder = self._new_decoder()
        self._conversation = self._begin()

    def once(self, prompt: str) -> int:
        """Answer one message and return the exit code."""
        try:
            if self._answer(prompt):
                raise KeyboardInterrupt
        finally:
            self._conversation.end_session()
        return 0

    def run(self, interactive: bool) -> int:
        """Answer what is typed or piped in until it ends, and return the exit code.

        Args:
            interactive: whether somebody types: what went wrong was seen then, and does not show in the exit code.

        Raises:
            KeyboardInterrupt: at a second Ctrl-C in a row; at the first, where nobody types.
        """
        reader = Reader(self._view.prompt, interactive)
        code = 0
        stopped = False
        try:
            while True:
                try:
                    entry = self._read(reader, stopped or not interactive)
                    if entry is None:
                        stopped = True
                        continue
                    if entry.action is Action.EXIT:
                        break
                    stopped = self._do(entry)
                except Cancelled:
                    if not interactive:
                        raise KeyboardInterrupt from None
                    stopped = False
                    self._view.note("")
                except (CommandError, *FAILURES) as error:
                    stopped = False
                    self._view.error(str(error))
                    code = code or exit_code(error)
                if stopped and not interactive:
                    raise KeyboardInterrupt
        finally:
            self._conversation.end_session()
        return 0 if interactive else code

    def _read(self, reader: Reader, is_last: bool) -> Entry | None:
        """Return what is typed; None after a Ctrl-C, which ends the chat if it is the last one allowed."""
        try:
            return reader.read()
        except KeyboardInterrupt:
            if is_last:
                raise
            self._view.note("\nCtrl-C again leaves")
            return None

    def _do(self, entry: Entry) -> bool:
        """Do one thing typed; return whether an answer was stopped."""
        match entry.action:
            case Action.SAY:
                return self._answer(entry.text)
            case Action.HELP:
                self._view.help()
            case Action.CLEAR:
                self._restart("new conversation")
            case Action.SYSTEM:
                self._set_system(entry.text)
            case Action.SET:
                self._set(entry.text)
            case Action.STATS:
                turn = self._totals
                joules = self._settings.config.joules.energy_j(turn.airtime_s, turn.draft_s, turn.forward_s)
                size = self._device.tokenizer.vocabulary_size
                measured = self._meter.chat(turn)
                self._view.stats(turn, size, joules, self._number, len(self._conversation.ids), measured)
                if self._pilot is not None:
                    self._view.note(self._pilot.told)
            case Action.EXIT:
                pass
        return False

    def _answer(self, text: str) -> bool:
        """Answer one message; return whether Ctrl-C stopped it.

        Text so far stays in the history. A message that got none is taken back, so that it can be sent again.

        Raises:
            UihlmError, ModelError: whatever kept the answer from its end.
            KeyboardInterrupt: at a second Ctrl-C.
        """
        conversation, device = self._conversation, self._device
        before = len(conversation.ids)
        if before:
            conversation.extend(device.chat_format.next_turn(text, self._stopped))
        else:
            conversation.extend(device.chat_format.first_turn(text, self._system))
        turn = Turn(answers=1)
        note: str | None = None
        measured = self._meter.begin()
        started_s = device.clock.now()
        records = (self._pilot or self._decoder).answer(conversation)
        with Interrupts() as interrupts:
            try:
                for record in records:
                    turn.add(record)
                    turn.elapsed_s = device.clock.now() - started_s
                    self._view.token(record.token, record.origin, record.stop)
                    self._stopped = record.stop
                    if interrupts.count:
                        break
                else:
                    if not self._stopped:
                        whole = turn.tokens == self._settings.config.decode.max_tokens
                        note = "cut off by max_tokens" if whole else "cut off: the context is full"
                    if self._pilot is not None:
                        self._decoder = self._pilot.decoder
                    self._count_opening(turn)
                    if isinstance(rule := self._decoder.policy, RiskPolicy):
                        audit = conversation.audit
                        rule.answered(turn.tokens, audit.risk_sum if audit.audited == turn.skipped else None)
            except KeyboardInterrupt:
                interrupts.raised()
            except FAILURES:
                note = "broken off"
                raise
            finally:
                # The stream of a dropped answer is closed; the next answer opens another.
                records.close()
                measured()
                turn.add_audit(conversation.audit)
                self._view.end_answer()
                if interrupts.count:
                    note = "stopped"
                self._finish(turn, before, note)
        if interrupts.count > 1:
            raise KeyboardInterrupt
        return interrupts.count > 0

    def _finish(self, turn: Turn, before: int, note: str | None) -> None:
        """Count an answer, whole or not, and show what it cost; without a token, take its message back."""
        if turn.tokens:
            self._totals = self._totals.plus(turn)
            self._view.turn(turn, self._device.tokenizer.vocabulary_size, note, self._meter.answer(turn))
            return
        self._conversation.end_session()
        self._conversation = Conversation(self._conversation.key, self._conversation.ids[:before])
        if note == "stopped":
            self._view.note("\nstopped before the first token; the message was taken back")

    def _count_opening(self, turn: Turn) -> None:
        """Add what this answer's Open cost, if it opened a stream."""
        conversation = self._conversation
        opening = conversation.open_round
        if opening is None or opening == self._billed_opening:  # rounds are unique within a connection
            return
        try:
            self._decoder.settle_open(conversation)
        except FAILURES:
            conversation.end_session()
            raise
        self._billed_opening = opening
        if conversation.open_cost is not None:
            turn.add_opening(conversation.open_cost, self._device.ledger.pop(opening))

    def _begin(self) -> Conversation:
        """Return a new conversation, with a key of its own."""
        key = session_key(self._settings.seed, self._number)
        self._number += 1
        self._stopped = False
        return Conversation(key)

    def _restart(self, text: str) -> None:
        self._conversation.end_session()
        self._conversation = self._begin()
        self._view.note(text)

    def _set_system(self, text: str) -> None:
        if not text:
            self._view.note(self._system if self._system is not None else "the model's own system prompt")
            return
        self._system = None if text == "-" else text
        self._restart("new conversation with this system prompt")

    def _set(self, text: str) -> None:
        """Change a setting from the next answer on, or list them."""
        if not text:
            self._view.settings(self._settings.list())
            return
        before, values = self._settings.config, self._settings.values()
        setting = self._settings.change(text)
        after = self._settings.config
        try:
            decoder = self._new_decoder()
        except Exception:
            # Half a change would be listed, and stand in the way of every later one.
            self._settings.restore(values)
            raise
        self._view.note(f"{setting.name} = {setting.value}")
        seed_changed = before.selection.seed != after.selection.seed
        if seed_changed or before.decode.sampling != after.decode.sampling:
            # Both are part of what a stream's two ends agreed on when it was opened.
            self._conversation.end_session()
        if seed_changed:
            self._conversation.key = session_key(self._settings.seed, self._number - 1)
        self._decoder = decoder

    def _new_decoder(self) -> Decoder:
        config, settings = self._settings.config, self._settings
        if settings.policy == AUTO:
            objective = Objective(settings.flag("objective"))
            if self._pilot is None:
                self._pilot = Pilot(self._device, config, objective, settings.flag("profile"))
            self._pilot.change(config, objective)
            return self._pilot.decoder
        self._pilot = None
        return self._device.decoder(self._settings.policy, config.rules, config.decode)
