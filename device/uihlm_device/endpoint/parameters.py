"""From the JSON of a request to what is asked: every field is read, refused with a reason, or known to change nothing.

A field that cannot be given is refused and not passed over: a program that asks for JSON alone, for tools or for a penalty
would otherwise take an answer for what it is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from uihlm_device.endpoint.completer import Asked, Message, Prompt, Speaker
from uihlm_device.endpoint.fields import Fields
from uihlm_device.endpoint.refusals import Refusal

Json = Mapping[str, Any]

_SPEAKERS = {
    "system": Speaker.SYSTEM,
    "developer": Speaker.SYSTEM,
    "user": Speaker.USER,
    "assistant": Speaker.ASSISTANT,
}
_MOST_MESSAGES = 4096
_MOST_STOPS = 16
_HOTTEST = 2.0

# What changes nothing about the tokens, whatever it says.
_HARMLESS = frozenset(
    {"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "parallel_tool_calls"}
)
# What would change them, and cannot be had: each with the values that ask for nothing, and why not.
_ONE = "each request has one answer: ask again, with another seed"
_TOOLS = "the model is not asked for calls of tools"
_PENALTY = (
    "drafter and LLM would have to agree on it, and the stream's sampling contract has temperature, top_k and top_p"
)
_REFUSED: dict[str, tuple[tuple[Any, ...], str]] = {
    "n": ((1,), _ONE),
    "best_of": ((1,), _ONE),
    "top_logprobs": (
        (0,),
        "the LLM's other candidates do not travel to the device: only the written tokens are scored",
    ),
    "echo": ((False,), "the prompt is not part of the answer"),
    "suffix": (("",), "the model continues texts, it does not fill them in"),
    "presence_penalty": ((0,), _PENALTY),
    "frequency_penalty": ((0,), _PENALTY),
    "logit_bias": (({},), _PENALTY),
    "tools": (([],), _TOOLS),
    "functions": (([],), _TOOLS),
    "tool_choice": (("none", "auto"), _TOOLS),
    "function_call": (("none", "auto"), _TOOLS),
    "response_format": (({"type": "text"},), "nothing holds the model to a form: it writes text"),
    "modalities": ((["text"],), "the model writes text alone"),
    "audio": ((), "the model writes text alone"),
    "prediction": ((), "the drafter is the prediction here"),
    "reasoning_effort": (("none",), "the model has no such setting"),
    "verbosity": (("medium",), "the model has no such setting"),
    "web_search_options": ((), "the model searches nothing"),
}


@dataclass(frozen=True, slots=True)
class Parameters:
    """One request.

    Attributes:
        model: the name it asks for.
        asked: what is to be written.
        stream: whether the answer is sent piece by piece.
        usage: whether a stream ends with what it cost.
    """

    model: str
    asked: Asked
    stream: bool
    usage: bool


def chat_parameters(body: Json) -> Parameters:
    """Return what a request for a chat completion asks; Refusal, 400, if it cannot be given."""
    fields = Fields(body, _HARMLESS, _REFUSED)
    prompt = _conversation(fields.take("messages"))
    scored = fields.boolean("logprobs")
    return _parameters(fields, prompt, scored, ("max_completion_tokens", "max_tokens"))


def text_parameters(body: Json) -> Parameters:
    """Return what a request for a text completion asks; Refusal, 400, if it cannot be given."""
    fields = Fields(body, _HARMLESS, _REFUSED)
    prompt = _text(fields.take("prompt"))
    wanted = fields.whole("logprobs", 0, 5)
    if wanted:
        raise Refusal.bad("logprobs", f"logprobs is 0 here, got {wanted}: {_REFUSED['top_logprobs'][1]}")
    return _parameters(fields, prompt, wanted is not None, ("max_tokens",))


def _parameters(fields: Fields, prompt: Prompt, scored: bool, lengths: tuple[str, ...]) -> Parameters:
    stream = fields.boolean("stream")
    options = Fields(fields.mapping("stream_options"), frozenset({"include_obfuscation"}), {}, "stream_options.")
    usage = options.boolean("include_usage")
    options.end()
    if usage and not stream:
        raise Refusal.bad("stream_options", "stream_options is for streams: give stream: true with it")
    if scored and stream:
        raise Refusal.bad(
            "logprobs",
            "the LLM scores an answer once it is whole, so a stream has no logprobs: leave stream out, or logprobs",
        )
    given = {name: fields.whole(name, 1, 2**31 - 1) for name in lengths}
    most = {length for length in given.values() if length is not None}
    if len(most) > 1:
        raise Refusal.bad(lengths[0], f"{' and '.join(lengths)} say different things: give one of them")
    parameters = Parameters(
        model=fields.text("model"),
        asked=Asked(
            prompt=prompt,
            max_tokens=most.pop() if most else None,
            temperature=fields.number("temperature", 0.0, _HOTTEST),
            top_k=fields.whole("top_k", 0, 2**31 - 1),
            top_p=fields.number("top_p", 0.0, 1.0, above=True),
            seed=fields.whole("seed", -(2**63), 2**63 - 1),
            stop=_stops(fields.take("stop")),
            scored=scored,
        ),
        stream=stream,
        usage=usage,
    )
    fields.end()
    return parameters


def _stops(value: Any) -> tuple[str, ...]:
    stops = [] if value is None else value if isinstance(value, list) else [value]
    if len(stops) > _MOST_STOPS or not all(isinstance(stop, str) and stop for stop in stops):
        raise Refusal.bad("stop", f"stop is a text, or a list of at most {_MOST_STOPS} texts, none of them empty")
    return tuple(stops)


def _conversation(value: Any) -> tuple[Message, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= _MOST_MESSAGES:
        raise Refusal.bad("messages", f"messages is a list of 1 … {_MOST_MESSAGES} messages")
    return tuple(_message(message, f"messages[{number}]") for number, message in enumerate(value))


def _message(value: Any, where: str) -> Message:
    if not isinstance(value, dict):
        raise Refusal.bad(where, f"{where} is no object with role and content")
    role = value.get("role")
    speaker = _SPEAKERS.get(role) if isinstance(role, str) else None
    if speaker is None:
        raise Refusal.bad(f"{where}.role", f"{where}.role is one of {', '.join(_SPEAKERS)}, got {role!r}")
    if value.get("tool_calls") or value.get("function_call"):
        raise Refusal.bad(f"{where}.tool_calls", f"{where}.tool_calls cannot be given: {_TOOLS}")
    return Message(speaker, _content(value.get("content"), f"{where}.content"))


def _content(value: Any, where: str) -> str:
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise Refusal.bad(where, f"{where} is a text, or a list of parts of type text")
    texts = []
    for part in value:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise Refusal.bad(where, f"{where} holds a part that is no text: the model reads text alone")
        texts.append(part["text"])
    return "".join(texts)


def _text(value: Any) -> Prompt:
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str | list):
        value = value[0]
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(type(token) is int for token in value):
        return tuple(value)
    raise Refusal.bad("prompt", "prompt is one text, or the ids of one; several prompts are several requests")
