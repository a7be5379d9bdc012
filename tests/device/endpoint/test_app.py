"""The HTTP application over a scripted completer: forms, statuses, and clients that leave."""

from __future__ import annotations

import pytest

from endpoints import ScriptedCompleter, call, finished
from uihlm_device.endpoint.app import application
from uihlm_device.endpoint.completer import Ending, TokenScore, TooLongError, Written
from uihlm_device.endpoint.gate import MAX_BODY_BYTES, Gate
from uihlm_device.tokens import Origin
from uihlm_models.errors import ModelError
from uihlm_proto.bearer import Token
from uihlm_proto.errors import (
    AccessError,
    ExhaustedError,
    InvalidRequestError,
    MismatchError,
    ProtocolError,
    UnavailableError,
)
from uihlm_proto.token_set import TokenSet

CHAT, TEXT, MODELS = "/v1/chat/completions", "/v1/completions", "/v1/models"
HELLO = {"model": "uihlm", "messages": [{"role": "user", "content": "Hello"}]}
ANSWER = (Written("Wie "), Written("geht’s?"), finished())
KEY = "k" * 32


def ask(body=HELLO, path=CHAT, events=ANSWER, gate=None, **named):
    completer = ScriptedCompleter(*events)
    reply = call(application(completer, gate or Gate()), "POST", path, body, **named)
    assert completer.open == 0
    return reply


def test_a_chat_completion_is_one_object():
    reply = ask()
    assert (reply.status, reply.json["object"], reply.json["model"]) == (200, "chat.completion", "uihlm")
    assert reply.json["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Wie geht’s?", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    assert reply.json["id"].startswith("chatcmpl-")


def test_usage_says_what_the_split_cost():
    usage = ask().json["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (3, 4, 7)
    split = usage["uihlm"]
    assert (split["uploaded"], split["upload_rate"], split["acceptance_rate"]) == (4, 1.0, 0.75)
    assert (split["llm_forwards"], split["llm_forwards_per_token"], split["model_bits"]) == (4, 1.0, 64)
    assert (split["seed"], split["policy"], split["codec"]) == (7, "hlm", "coupled")
    assert split["energy_j"] == split["device_j"] + split["transmit_j"] + split["basestation_j"] == 3.5


def test_a_text_completion_is_one_object():
    reply = ask({"model": "uihlm", "prompt": "Once"}, TEXT, (Written("upon"), finished(ending=Ending.LENGTH)))
    assert reply.json["object"] == "text_completion"
    assert reply.json["choices"] == [{"index": 0, "text": "upon", "logprobs": None, "finish_reason": "length"}]


def test_a_chat_stream_ends_with_the_reason_the_usage_and_done():
    reply = ask({**HELLO, "stream": True, "stream_options": {"include_usage": True}})
    assert reply.headers["content-type"].startswith("text/event-stream")
    *chunks, bill, done = reply.events
    assert done == "[DONE]"
    assert [chunk["choices"][0]["delta"] for chunk in chunks] == [
        {"role": "assistant", "content": ""},
        {"content": "Wie "},
        {"content": "geht’s?"},
        {},
    ]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, None, "stop"]
    assert (bill["choices"], bill["usage"]["total_tokens"]) == ([], 7)
    assert len({chunk["id"] for chunk in [*chunks, bill]}) == 1


def test_a_stream_has_usage_only_where_it_was_asked_for():
    assert all("usage" not in event for event in ask({**HELLO, "stream": True}).events[:-1])


def test_a_text_stream_is_text():
    events = ask({"model": "uihlm", "prompt": "a", "stream": True}, TEXT).events
    assert [event["choices"][0]["text"] for event in events[:-1]] == ["Wie ", "geht’s?", ""]


def test_scores_say_who_wrote_each_token():
    scores = (
        TokenScore(b"Gr\xc3", -0.5, Origin.ACCEPTED, 0.25, 0.5),
        TokenScore(b"\xbc\xc3\x9fe", -1.5, Origin.LOCAL, 0.75, None),
        TokenScore(b"!", -2.0, Origin.RESAMPLED, 0.1, 0.05),
    )
    events = (Written("Grüße!"), finished(scores=scores))
    content = ask({**HELLO, "logprobs": True}, events=events).json["choices"][0]["logprobs"]["content"]
    assert [(item["logprob"], item["bytes"], item["top_logprobs"]) for item in content] == [
        (score.log_prob, list(score.piece), []) for score in scores
    ]
    assert content[0]["uihlm"] == {"origin": "accepted", "x_d": 0.25, "y_d": 0.5}
    text = ask({"model": "uihlm", "prompt": "a", "logprobs": 0}, TEXT, events).json["choices"][0]["logprobs"]
    assert (text["text_offset"], text["token_logprobs"]) == ([0, 2, 5], [-0.5, -1.5, -2.0])


@pytest.mark.parametrize(
    "error, status, code",
    [
        (InvalidRequestError("no"), 400, None),
        (TooLongError("long"), 400, "context_length_exceeded"),
        (ExhaustedError("full", 7.2), 429, "rate_limit_exceeded"),
        (UnavailableError("gone"), 503, "unavailable"),
        (MismatchError("other"), 502, "base_station"),
        (AccessError("token"), 502, "base_station"),
        (ProtocolError("odd"), 502, "base_station"),
        (ModelError("broken"), 500, "model"),
        (RuntimeError("secret path"), 500, "internal_error"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_an_error_before_the_first_piece_has_its_status(error, status, code, stream):
    reply = ask({**HELLO, "stream": stream}, events=(error,))
    assert (reply.status, reply.error["code"]) == (status, code)
    assert "secret" not in reply.error["message"]
    if status == 429:
        assert reply.headers["retry-after"] == "8"


def test_an_error_after_the_first_piece_ends_the_stream_without_done():
    reply = ask({**HELLO, "stream": True}, events=(Written("Wie"), UnavailableError("the link is lost")))
    assert reply.status == 200
    assert reply.whole
    assert reply.events[-1]["error"]["message"] == "the link is lost"
    assert "[DONE]" not in reply.events


def test_another_model_is_not_found():
    reply = ask({**HELLO, "model": "gpt-4o"})
    assert (reply.status, reply.error["code"], reply.error["param"]) == (404, "model_not_found", "model")


@pytest.mark.parametrize(
    "body, status",
    [
        (b"{", 400),
        (b"[]", 400),
        (b"\xff", 400),
        (b'{"model": NaN}', 400),
        (b'{"model": "\\ud800"}', 400),
        (b'{"seed": ' + b"9" * 5000 + b"}", 400),
        (b"[" * 100_000, 400),
        (b" " * (MAX_BODY_BYTES + 1), 413),
    ],
)
def test_bodies_that_are_no_request(body, status):
    reply = ask(body)
    assert reply.status == status
    assert reply.error["type"] == "invalid_request_error"


def test_a_length_that_is_too_large_is_refused_unread():
    assert ask(b"", headers={"content-length": str(MAX_BODY_BYTES + 1)}).status == 413


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_a_body_must_say_that_it_is_json(kind):
    assert ask(headers={"content-type": kind}).status == 415


@pytest.mark.parametrize(
    "shown, status",
    [
        (f"Bearer {KEY}", 200),
        (f"bearer {KEY}", 200),
        ("", 401),
        ("Bearer " + "x" * 32, 401),
        (f"Basic {KEY}", 401),
    ],
)
def test_a_key_opens_the_endpoint_and_nothing_else_does(shown, status):
    gate = Gate(TokenSet([Token("j" * 32), Token(KEY)], "this endpoint", "give it"), loopback=False)
    reply = ask(gate=gate, headers={"authorization": shown, "host": "device.example"})
    assert reply.status == status
    if status == 401:
        assert (reply.error["code"], reply.headers["www-authenticate"]) == ("invalid_api_key", "Bearer")
        assert KEY not in str(reply.json)


def test_models_need_the_key_and_health_does_not():
    app = application(ScriptedCompleter(), Gate(TokenSet([Token(KEY)])))
    assert call(app, "GET", MODELS).status == 401
    assert call(app, "GET", "/health").json == {"status": "ok", "writing": 0, "waiting": 0}


@pytest.mark.parametrize(
    "host, status",
    [("127.0.0.1:8080", 200), ("localhost", 200), ("[::1]:8080", 200), ("attacker.example:8080", 403), ("", 403)],
)
def test_on_loopback_the_name_in_host_is_this_machines(host, status):
    assert call(application(ScriptedCompleter(), Gate()), "GET", MODELS, headers={"host": host}).status == status


def test_where_other_machines_ask_any_name_will_do():
    app = application(ScriptedCompleter(), Gate(loopback=False))
    assert call(app, "GET", MODELS, headers={"host": "device.example"}).status == 200


def test_models_are_listed_and_described():
    app = application(ScriptedCompleter(), Gate())
    listed = call(app, "GET", MODELS).json
    assert [model["id"] for model in listed["data"]] == ["uihlm"]
    assert call(app, "GET", f"{MODELS}/uihlm").json == listed["data"][0]
    assert call(app, "GET", f"{MODELS}/a/b").status == 404


def test_other_pages_and_methods_are_errors_of_the_same_form():
    app = application(ScriptedCompleter(), Gate())
    assert call(app, "GET", "/v1/embeddings").error["message"] == "there is no /v1/embeddings here"
    assert call(app, "GET", CHAT).status == 405


@pytest.mark.parametrize("body", [HELLO, {**HELLO, "stream": True}])
def test_a_client_that_leaves_closes_the_answer_at_once(body):
    endless = ScriptedCompleter(*[Written("and ")] * 10_000, pause_s=0.002)
    reply = call(application(endless, Gate()), "POST", CHAT, body, leaves=4 if "stream" in body else 0)
    assert (endless.open, len(endless.asked), reply.whole) == (0, 1, False)


@pytest.mark.parametrize("body", [HELLO, {**HELLO, "stream": True}])
def test_an_answer_that_outlasts_the_grace_is_told_that_the_endpoint_ends(body):
    endless = ScriptedCompleter(*[Written("and ")] * 10_000, pause_s=0.002)
    stream = "stream" in body
    reply = call(application(endless, Gate()), "POST", CHAT, body, cancelled=4 if stream else 0)
    assert endless.open == 0
    assert reply.whole
    error = reply.events[-1]["error"] if stream else reply.error
    assert "shutting down" in error["message"]
    assert reply.status == (200 if stream else 503)
