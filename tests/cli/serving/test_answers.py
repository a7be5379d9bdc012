"""`uihlm-device serve` on fake weights: its tokens are those of `chat` and `eval`, whoever asks beside them."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import openai
import pytest
from click.testing import CliRunner

from endpoints import served, slowly, wordy
from fake_pair import installed
from uihlm_cli.device import main

PROMPT = "Name a river"
LENGTH = 24
KNOBS = {
    "hlm": ["--policy", "hlm"],
    "tree": ["--policy", "hlm", "--tree", "6"],
    "blocks": ["--policy", "hlm", "--draft-length", "3", "--in-flight", "2", "--codec", "lattice"],
    "ui": ["--policy", "ui", "--k", "1", "--theta-u", "0.3", "--codec", "dense32"],
    "random": ["--policy", "random", "--rate", "0.5"],
    "slm": ["--policy", "slm"],
    "llm": ["--policy", "llm"],
}


@pytest.fixture
def weights(monkeypatch, tmp_path):
    weights = installed(monkeypatch, tmp_path)
    weights.speaks = wordy
    return weights


def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=30)


def ask(url: str, prompt: str = PROMPT, seed: int = 3, **named) -> openai.types.chat.ChatCompletion:
    messages = [{"role": "user", "content": prompt}]
    return client(url).chat.completions.create(
        model="uihlm", messages=messages, seed=seed, **{"max_tokens": LENGTH, **named}
    )


def text_of(reply) -> str:
    return reply.choices[0].message.content


def chatted(*arguments: str) -> str:
    result = CliRunner().invoke(main, ["chat", *arguments])
    assert result.exit_code == 0, result.stderr
    return result.stdout.removesuffix("\n")


@pytest.mark.parametrize("knobs", KNOBS.values(), ids=KNOBS)
def test_an_answer_is_what_chat_answers(knobs, weights, monkeypatch):
    said = chatted(PROMPT, "--seed", "3", "--max-tokens", str(LENGTH), *knobs)
    with served(monkeypatch, *knobs) as endpoint:
        assert text_of(ask(endpoint.url)).removesuffix("\n") == said
        assert text_of(ask(endpoint.url, seed=4)).removesuffix("\n") != said


def test_an_answer_is_what_eval_writes(weights, monkeypatch, tmp_path):
    (tmp_path / "one.jsonl").write_text(json.dumps({"instruction": PROMPT, "output": "The Po"}) + "\n")
    knobs = ["--codec", "lattice", "--max-tokens", str(LENGTH)]
    run = [
        "eval",
        "--dataset",
        str(tmp_path / "one.jsonl"),
        "--output",
        str(tmp_path / "run"),
        "--no-metrics",
        "--seed",
        "3",
    ]
    result = CliRunner().invoke(main, [*run, "--policy", "ui", "--policy", "hlm", *knobs])
    assert result.exit_code == 0, result.stderr
    lines = (tmp_path / "run" / "samples.jsonl").read_text().splitlines()
    written = {sample["policy"]: sample["text"] for sample in map(json.loads, lines)}
    for policy in ("ui", "hlm"):
        with served(monkeypatch, "--policy", policy, "--codec", "lattice") as endpoint:
            assert text_of(ask(endpoint.url)) == written[policy]


def test_settings_of_a_request_are_those_of_the_flags(weights, monkeypatch):
    said = chatted(PROMPT, "--seed", "3", "--max-tokens", "9", "--temperature", "1.5", "--top-p", "0.9", "--top-k", "3")
    with served(monkeypatch) as endpoint:
        reply = ask(endpoint.url, max_tokens=9, temperature=1.5, top_p=0.9, extra_body={"top_k": 3})
    assert text_of(reply).removesuffix("\n") == said


def test_a_stream_says_what_the_whole_answer_says(weights, monkeypatch):
    with served(monkeypatch) as endpoint:
        whole = ask(endpoint.url)
        chunks = list(ask(endpoint.url, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == text_of(whole)
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason


def test_a_stop_text_ends_the_answer_and_is_not_shown(weights, monkeypatch):
    with served(monkeypatch) as endpoint:
        whole = text_of(ask(endpoint.url))
        stop = whole[7:10]
        cut = ask(endpoint.url, stop=["\u2603", stop])
        streamed = list(ask(endpoint.url, stop=stop, stream=True))
    assert text_of(cut) == whole[: whole.index(stop)]
    assert cut.choices[0].finish_reason == "stop"
    assert cut.usage.completion_tokens == whole.index(stop) + 3
    assert "".join(chunk.choices[0].delta.content or "" for chunk in streamed) == text_of(cut)


def test_a_request_without_a_seed_gets_one_that_gives_its_answer_again(weights, monkeypatch):
    with served(monkeypatch) as endpoint:
        first, second = ask(endpoint.url, seed=None), ask(endpoint.url, seed=None)
        seeds = [reply.usage.uihlm["seed"] for reply in (first, second)]
        assert seeds[0] != seeds[1]
        assert text_of(ask(endpoint.url, seed=seeds[0])) == text_of(first)
    with served(monkeypatch, "--seed", "5") as endpoint:
        assert ask(endpoint.url, seed=None).usage.uihlm["seed"] == 5


def test_a_later_turn_reuses_the_drafters_cache_and_says_the_same_without(weights, monkeypatch):
    def turns(url: str, first: bool) -> openai.types.chat.ChatCompletion:
        messages = [{"role": "user", "content": PROMPT}]
        if first:
            # Another conversation beside it must not take its cache.
            ask(url)
            ask(url, "zzzzzz")
        messages += [{"role": "assistant", "content": answer}, {"role": "user", "content": "Longer"}]
        return client(url).chat.completions.create(model="uihlm", messages=messages, seed=3, max_tokens=LENGTH)

    with served(monkeypatch, "--parallel", "2") as endpoint:
        answer = text_of(ask(endpoint.url))
        warm = turns(endpoint.url, first=True)
    with served(monkeypatch) as endpoint:
        cold = turns(endpoint.url, first=False)
    assert text_of(warm) == text_of(cold)
    assert cold.usage.uihlm["reused_tokens"] == 0
    assert warm.usage.uihlm["reused_tokens"] > len(PROMPT)


def test_another_prompt_is_drafted_on_its_own_ids(weights, monkeypatch):
    knobs = ["--policy", "slm", "--parallel", "1"]
    with served(monkeypatch, *knobs) as endpoint:
        fresh = text_of(ask(endpoint.url, "Name a mountain or a hill"))
    with served(monkeypatch, *knobs) as endpoint:
        ask(endpoint.url, "Name a river or a lake, please")
        assert text_of(ask(endpoint.url, "Name a mountain or a hill")) == fresh


def test_scores_are_the_llms_own_log_probabilities(weights, monkeypatch):
    with served(monkeypatch, "--policy", "random") as endpoint:
        reply = ask(endpoint.url, logprobs=True)
        stopped = ask(endpoint.url, logprobs=True, stop=text_of(reply)[5:7])
    content = reply.choices[0].logprobs.content
    assert "".join(item.token for item in content) == text_of(reply)
    assert {item.uihlm["origin"] for item in content} >= {"local", "accepted"}
    engine, ids = weights.engines[0], list(f"[{PROMPT}]>".encode())
    for item in content:
        z = engine._logits(ids).astype(float)
        token = item.bytes[0]
        expected = z[token] - z.max() - np.log(np.exp(z - z.max()).sum())
        assert item.logprob == pytest.approx(expected, abs=1e-4)
        ids.append(token)
    assert "".join(item.token for item in stopped.choices[0].logprobs.content) == text_of(stopped)


def test_where_no_llm_is_asked_nobody_scores(weights, monkeypatch):
    with served(monkeypatch, "--policy", "slm") as endpoint:
        with pytest.raises(openai.BadRequestError, match="asks no LLM"):
            ask(endpoint.url, logprobs=True)
        assert ask(endpoint.url).usage.uihlm["upload_rate"] == 0.0
    assert not weights.engines


def test_usage_adds_up_to_what_the_answer_took(weights, monkeypatch):
    with served(monkeypatch) as endpoint:
        usage = ask(endpoint.url).usage
    split = usage.uihlm
    assert usage.prompt_tokens == len(f"[{PROMPT}]>")
    assert split["uploaded"] == usage.completion_tokens == split["llm_forwards"]
    # V = 128: an id is 7 bits, in whole bytes on the wire.
    assert split["payload_bits"] == 8 * usage.completion_tokens
    assert split["acceptance_rate"] == 1 - split["rejected"] / split["uploaded"]
    assert split["energy_j"] == pytest.approx(5.0 * split["draft_s"] + 300.0 * split["bs_busy_s"])


def test_ten_at_once_each_get_the_answer_they_would_get_alone(weights, monkeypatch):
    weights.before_draft = slowly(0.001)
    with served(monkeypatch, "--parallel", "3") as endpoint:
        alone = [text_of(ask(endpoint.url, f"Question {n}", seed=n)) for n in range(10)]
        with ThreadPoolExecutor(10) as pool:
            together = list(pool.map(lambda n: text_of(ask(endpoint.url, f"Question {n}", seed=n)), range(10)))
    assert together == alone
    assert len(set(alone)) == 10
