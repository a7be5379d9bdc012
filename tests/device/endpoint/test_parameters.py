"""What a request's fields come to, and which are refused; nothing is passed over that would change the answer."""

from __future__ import annotations

import pytest

from uihlm_device.endpoint.completer import Message, Speaker
from uihlm_device.endpoint.parameters import chat_parameters, text_parameters
from uihlm_device.endpoint.refusals import Refusal

HELLO = [{"role": "user", "content": "Hello"}]


def chat(**fields):
    return chat_parameters({"model": "uihlm", "messages": HELLO, **fields})


def refused(**fields) -> dict:
    with pytest.raises(Refusal) as caught:
        chat(**fields)
    assert caught.value.status == 400
    return caught.value.body["error"]


def test_every_field_reaches_what_is_asked():
    parameters = chat(
        max_tokens=7, temperature=1, top_k=3, top_p=0.5, seed=-4, stop=["a", "b"], stream=True,
        stream_options={"include_usage": True},
    )  # fmt: skip
    asked = parameters.asked
    assert asked.prompt == (Message(Speaker.USER, "Hello"),)
    assert (asked.max_tokens, asked.temperature, asked.top_k, asked.top_p) == (7, 1.0, 3, 0.5)
    assert (asked.seed, asked.stop, asked.scored) == (-4, ("a", "b"), False)
    assert (parameters.model, parameters.stream, parameters.usage) == ("uihlm", True, True)


def test_what_is_left_out_or_null_is_the_servers():
    asked = chat(max_tokens=None, temperature=None, stop=None, seed=None, tools=None).asked
    assert (asked.max_tokens, asked.temperature, asked.top_p, asked.seed, asked.stop) == (None, None, None, None, ())


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_both_names_of_the_length_limit_count(name):
    assert chat(**{name: 9.0}).asked.max_tokens == 9


def test_roles_and_parts_become_messages():
    parts = [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": parts, "name": "ada"},
        {"role": "assistant", "content": "Yes.", "refusal": None, "tool_calls": []},
        {"role": "user", "content": "And?"},
    ]
    prompt = chat(messages=messages).asked.prompt
    assert [message.speaker.value for message in prompt] == ["system", "user", "assistant", "user"]
    assert [message.text for message in prompt] == ["Be brief.", "one two", "Yes.", "And?"]


@pytest.mark.parametrize(
    "fields, param",
    [
        ({"n": 2}, "n"),
        ({"n": True}, "n"),
        ({"top_logprobs": 5, "logprobs": True}, "top_logprobs"),
        ({"presence_penalty": 0.1}, "presence_penalty"),
        ({"frequency_penalty": False}, "frequency_penalty"),
        ({"logit_bias": {"5": -100}}, "logit_bias"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"temperature": 1e999}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_p": 1.5}, "top_p"),
        ({"top_k": -1}, "top_k"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": 3, "max_completion_tokens": 4}, "max_completion_tokens"),
        ({"seed": 2**63}, "seed"),
        ({"seed": "1"}, "seed"),
        ({"stop": ""}, "stop"),
        ({"stop": ["a", 1]}, "stop"),
        ({"stop": ["a"] * 17}, "stop"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"extra": 1}}, "stream_options.extra"),
        ({"stream": True, "logprobs": True}, "logprobs"),
        ({"min_p": 0.1}, "min_p"),
        ({"model": ""}, "model"),
        ({"model": None}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": "Hello"}, "messages"),
        ({"messages": ["Hello"]}, "messages[0]"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "messages[0].role"),
        ({"messages": [*HELLO, {"role": "user"}]}, "messages[1].content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content"),
        ({"messages": [{"role": "assistant", "content": "", "tool_calls": [1]}]}, "messages[0].tool_calls"),
    ],
)
def test_what_cannot_be_given_is_refused_by_name(fields, param):
    error = refused(**fields)
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"
    assert param.rpartition(".")[2].partition("[")[0] in error["message"]


def test_a_field_that_asks_for_nothing_passes():
    idle = chat(
        n=1, presence_penalty=0, frequency_penalty=0.0, logit_bias={}, tools=[], tool_choice="auto", user="ada",
        response_format={"type": "text"}, top_logprobs=0, parallel_tool_calls=False, metadata={"a": "b"},
    )  # fmt: skip
    assert idle == chat()


@pytest.mark.parametrize(
    "prompt, expected",
    [("Once", "Once"), (["Once"], "Once"), ([5, 6], (5, 6)), ([[5, 6]], (5, 6))],
)
def test_a_text_prompt_has_any_of_its_forms(prompt, expected):
    assert text_parameters({"model": "uihlm", "prompt": prompt}).asked.prompt == expected


@pytest.mark.parametrize("prompt", [None, [], ["a", "b"], [[1], [2]], [True], [1.5], 7, {"a": 1}])
def test_other_prompts_are_refused(prompt):
    with pytest.raises(Refusal, match="several requests") as caught:
        text_parameters({"model": "uihlm", "prompt": prompt})
    assert caught.value.body["error"]["param"] == "prompt"


def test_text_scores_are_of_the_written_tokens_alone():
    assert text_parameters({"model": "m", "prompt": "a", "logprobs": 0}).asked.scored
    assert not text_parameters({"model": "m", "prompt": "a"}).asked.scored
    with pytest.raises(Refusal, match="only the written tokens"):
        text_parameters({"model": "m", "prompt": "a", "logprobs": 2})


@pytest.mark.parametrize("value", [10**400, -(10**400), float("nan"), float("inf")])
def test_numbers_beyond_all_bounds_are_refused_in_words(value):
    assert "temperature is a number" in refused(temperature=value)["message"]
