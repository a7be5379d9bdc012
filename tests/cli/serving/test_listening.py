"""Where `uihlm-device serve` listens and to whom: flags that do not go together, TLS, keys."""

from __future__ import annotations

import ssl

import openai
import pytest
from click.testing import CliRunner

from certificates import Authority
from endpoints import served, wordy
from fake_pair import installed
from uihlm_cli.device import main

KEY = "k" * 32


@pytest.fixture
def weights(monkeypatch, tmp_path):
    weights = installed(monkeypatch, tmp_path)
    weights.speaks = wordy
    return weights


def refused(*arguments: str) -> str:
    result = CliRunner().invoke(main, ["serve", "--port", "0", *arguments])
    assert result.exit_code == 2, result.output
    return " ".join(result.stderr.split())


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--host", "0.0.0.0"], "--api-tls-cert"),
        (["--clock", "simulated"], "--parallel 1"),
        (["--server", "bs:1", "--llm", "bundled"], "--llm names the LLM"),
        (["--tree", "4", "--policy", "ui"], "--tree needs"),
        (["--outage-s", "3"], "--on-outage"),
        (["--parallel", "0"], "--parallel"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(flags, words, weights):
    assert words in refused(*flags)


def test_a_certificate_needs_its_key(tmp_path, weights):
    pem = Authority(tmp_path, "ca").issue("localhost").certificate
    assert "go together" in refused("--api-tls-cert", str(pem))
    assert "asks for TLS" in refused("--api-tls-client-ca", str(pem))


@pytest.mark.parametrize("text", ["", "short\n", "has a space in its middle\n"])
def test_a_file_without_keys_is_refused(text, tmp_path, weights):
    (tmp_path / "keys").write_text(text)
    result = CliRunner().invoke(main, ["serve", "--api-key-file", str(tmp_path / "keys")])
    assert result.exit_code == 1
    assert "keys" in result.stderr
    assert text.strip() not in result.stderr or not text.strip()


def test_a_port_that_is_taken_is_said_so(weights, monkeypatch):
    with served(monkeypatch) as endpoint:
        port = endpoint.url.rpartition(":")[2].removesuffix("/v1")
        result = CliRunner().invoke(main, ["serve", "--port", port])
    assert result.exit_code == 1
    assert f"cannot listen on 127.0.0.1:{port}" in result.stderr


def test_a_key_may_come_from_the_environment(weights, monkeypatch):
    monkeypatch.setenv("UIHLM_API_KEY", KEY)
    with served(monkeypatch) as endpoint:
        assert openai.OpenAI(base_url=endpoint.url, api_key=KEY, max_retries=0).models.list().data
        with pytest.raises(openai.AuthenticationError):
            openai.OpenAI(base_url=endpoint.url, api_key="another" * 3, max_retries=0).models.list()


def test_the_answer_comes_through_tls(weights, monkeypatch, tmp_path):
    authority = Authority(tmp_path, "ca")
    own = authority.issue("localhost")
    flags = ["--host", "localhost", "--api-tls-cert", str(own.certificate), "--api-tls-key", str(own.key)]
    with served(monkeypatch, *flags) as endpoint:
        url = endpoint.url.replace("http://127.0.0.1", "https://localhost")
        trusting = openai.DefaultHttpxClient(verify=ssl.create_default_context(cafile=authority.pem))
        with openai.OpenAI(base_url=url, api_key="none", http_client=trusting, max_retries=0) as client:
            reply = client.chat.completions.create(
                model="uihlm", messages=[{"role": "user", "content": "Name a river"}], max_tokens=4, seed=1
            )
        assert reply.usage.completion_tokens == 4
        with pytest.raises(openai.APIConnectionError):
            openai.OpenAI(base_url=url, api_key="none", max_retries=0).models.list()
