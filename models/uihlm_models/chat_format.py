"""A conversation as ids, by the model's own chat template; history is never tokenised twice.

    first_turn = ids( template([system,] user) + generation prompt )
    next_turn  = ids( what the template writes after an answer, up to the next generation prompt )

The second is found by rendering a conversation whose answer is a sentinel and taking what follows it. Ids that stand in
a cache therefore stay what they are, whatever the tokenizer would make of their text.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from typing import Any

from uihlm_models.errors import ModelError
from uihlm_models.tokenizer import Tokenizer

_SENTINEL = "UIHLM-ANSWER-6f1c0e"
# Any text will do: only what comes after the sentinel is kept.
_EARLIER_USER = "Hello."


class ChatFormat:
    """Renders turns with one tokenizer's chat template."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Compile the template, sandboxed: it came with the weights.

        Raises:
            ModelError: if the model carries no chat template, it cannot be parsed, or Jinja is missing.
        """
        if tokenizer.chat_template is None:
            raise ModelError("the model carries no chat template: choose a chat or instruct model")
        self._tokenizer = tokenizer
        try:
            from jinja2 import TemplateError
            from jinja2.sandbox import ImmutableSandboxedEnvironment
        except ImportError as error:
            raise ModelError("chat templates need jinja2: run `pip install 'uihlm[device]'`") from error
        self._template_error: type[Exception] = TemplateError
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _generation_tag()]
        )
        # What Hugging Face's renderer offers, which templates are written against.
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = self._raise
        environment.globals["strftime_now"] = _strftime_now
        try:
            self._template: Any = environment.from_string(tokenizer.chat_template)
        except TemplateError as error:
            raise ModelError(f"the model's chat template cannot be parsed: {error}") from error

    def first_turn(self, user: str, system: str | None = None) -> list[int]:
        """Return the ids of a conversation's start, up to where the answer begins.

        Args:
            user: the first user turn.
            system: the system prompt; None leaves the template's own default.

        Raises:
            ModelError: if the template refuses (some know no system role).
        """
        messages = [] if system is None else [("system", system)]
        return self.conversation([*messages, ("user", user)])

    def conversation(self, messages: Sequence[tuple[str, str]]) -> list[int]:
        """Return the ids of a whole conversation that is known as text, up to where the next answer begins.

        Args:
            messages: role (system, user, assistant) and text of each.

        Raises:
            ModelError: if the template refuses (some want the roles in turns).
        """
        return self._tokenizer.encode(self._render(messages))

    def next_turn(self, user: str, stopped: bool) -> list[int]:
        """Return the ids to append after an answer, up to where the next one begins.

        Args:
            user: the next user turn.
            stopped: whether the answer ended with its stop token, which is then not repeated.

        Raises:
            ModelError: if the template refuses, or does not write an earlier answer as it is.
        """
        sentinel = _SENTINEL
        while sentinel in user:
            sentinel += "x"
        text = self._render([("user", _EARLIER_USER), ("assistant", sentinel), ("user", user)])
        if text.count(sentinel) != 1:
            raise ModelError("the model's chat template leaves out or repeats earlier answers: chats of one turn only")
        ids = self._tokenizer.encode(text.partition(sentinel)[2])
        if not stopped:
            return ids
        # The user's text comes later than the close of the answer, so the first stop token is that close.
        closes = [i for i, token in enumerate(ids) if token in self._tokenizer.stop_ids]
        return ids[closes[0] + 1 :] if closes else ids

    def _render(self, messages: Sequence[tuple[str, str]]) -> str:
        try:
            text: str = self._template.render(
                messages=[{"role": role, "content": content} for role, content in messages],
                add_generation_prompt=True,
                bos_token=self._tokenizer.bos_text,
                eos_token=self._tokenizer.eos_text,
                tools=None,
                documents=None,
            )
        # A template is a program: it may also fail as one; what the sandbox forbids shows as one of these.
        except (self._template_error, ArithmeticError, TypeError, ValueError, LookupError, AttributeError) as error:
            raise ModelError(f"the model's chat template refuses this conversation: {error}") from error
        return text

    def _raise(self, message: str) -> None:
        raise self._template_error(message)


def _generation_tag() -> type[Any]:
    """Return what reads `{% generation %}`, by which templates mark an answer for training: only its body counts."""
    from jinja2.ext import Extension

    class Generation(Extension):  # type: ignore[misc]
        tags = {"generation"}  # noqa: RUF012 (Jinja's own way to say it)

        def parse(self, parser: Any) -> Any:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    return Generation


def _to_json(value: object, ensure_ascii: bool = False, indent: int | None = None) -> str:
    """Return JSON without Jinja's HTML escapes, which would end up in the prompt."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)


def _strftime_now(pattern: str) -> str:
    return datetime.datetime.now().strftime(pattern)
