"""The device's flags for TLS and tokens, wherever `--server` is taken; and a results folder without a secret."""

import click
import pytest
from click.testing import CliRunner

import fake_pair
from certificates import Authority
from stations import standing
from uihlm_basestation.trust.settings import TlsFiles, Trust
from uihlm_cli.device import main
from uihlm_cli.options.access import access_of, access_options
from uihlm_device.stream.access import PLAIN, Access
from uihlm_proto.bearer import Token
from uihlm_proto.token_set import TokenSet

SECRET = "d3vice-s3cret-" * 3


def access(*arguments, **environment):
    """What the flags add up to, and what was said on stderr."""
    found = []

    @click.command(context_settings={"auto_envvar_prefix": "UIHLM_TEST"})
    @click.option("--server")
    @access_options
    def command(**values):
        found.append(access_of(values))

    runner = CliRunner(env={"UIHLM_TOKEN": None, **environment})
    result = runner.invoke(command, [str(argument) for argument in arguments], standalone_mode=True)
    return (found or [None])[0], result


@pytest.fixture
def token_file(tmp_path):
    file = tmp_path / "token"
    file.write_text(f"{SECRET}\n")
    file.chmod(0o600)
    return file


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"))


def test_the_flags_add_up(token_file, authority):
    own = authority.issue("device-1")
    server = ["--server", "bs.example:1"]
    found, result = access(*server, "--tls")
    assert found == Access(tls=True) and result.stderr == ""
    found, _ = access(*server, "--tls-ca", authority.pem, "--token-file", token_file)
    assert found == Access(True, authority.pem, token=Token(SECRET))
    found, _ = access(*server, "--tls-ca", authority.pem, "--tls-cert", own.certificate, "--tls-key", own.key)
    assert found == Access(True, authority.pem, own.certificate, own.key)
    found, _ = access(*server, UIHLM_TEST_TLS="1", UIHLM_TOKEN=SECRET)
    assert found == Access(tls=True, token=Token(SECRET))
    assert access("--server", "localhost:1", "--server-application", "cell")[0] == Access(application="cell")


def test_without_a_named_base_station_there_is_nothing_to_show():
    assert access(UIHLM_TOKEN=SECRET)[0] == PLAIN


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--tls"], "for a base station that --server names"),
        (["--token-file", "FILE"], "for a base station that --server names"),
        (["--server-application", "cell"], "for a base station that --server names"),
        (["--server", "127.0.0.1:1", "--tls-cert", "FILE"], "--tls-cert and --tls-key go together"),
        (["--server", "127.0.0.1:1", "--tls-key", "FILE"], "--tls-cert and --tls-key go together"),
        (["--server", "bs.example:1", "--token-file", "FILE"], "the token would go to bs.example:1 unencrypted"),
    ],
)
def test_what_does_not_go_together_exits_2(flags, sentence, token_file):
    found, result = access(*(token_file if flag == "FILE" else flag for flag in flags))
    assert (found, result.exit_code) == (None, 2)
    assert sentence in result.stderr and SECRET not in result.stderr


def test_insecure_is_said_and_then_told(token_file):
    found, result = access("--server", "bs.example:1", "--token-file", token_file, "--insecure")
    assert found.token == Token(SECRET)
    assert "note: the way to bs.example:1 is not encrypted" in result.stderr
    assert access("--server", "localhost:1", "--token-file", token_file)[1].stderr == ""


def test_a_device_shows_one_token(token_file):
    token_file.write_text(f"{SECRET}\n{SECRET[::-1]}\n")
    found, result = access("--server", "localhost:1", "--token-file", token_file)
    assert found is None
    assert "2 tokens are given, a device shows one" in str(result.exception) and SECRET not in str(result.exception)


@pytest.mark.parametrize("command", ["chat", "eval", "sweep", "calibrate", "trace"])
def test_every_command_that_takes_a_server_takes_them(command):
    flags = {flag for parameter in main.get_command(None, command).params for flag in parameter.opts}
    if "--server" in flags:
        assert {"--tls", "--tls-ca", "--tls-cert", "--tls-key", "--token-file", "--insecure"} <= flags
    else:
        assert command not in ("chat", "eval", "sweep", "calibrate")


@pytest.mark.parametrize("command", ["chat", "eval", "sweep"])
def test_a_run_over_mtls_with_a_token_leaves_no_secret_behind(command, monkeypatch, tmp_path, token_file, authority):
    weights = fake_pair.installed(monkeypatch, tmp_path)
    own, device = authority.issue("127.0.0.1"), authority.issue("device-2")
    trust = Trust(TlsFiles(own.certificate, own.key, authority.pem), TokenSet([Token(SECRET)]))
    with standing(weights.engine(), trust=trust) as station:
        arguments = {
            "chat": ["chat", "hello"],
            "eval": ["eval", "--limit", "2", "--no-metrics", "--max-tokens", "6", "--output", "run"],
            "sweep": ["sweep", "--limit", "2", "--no-metrics", "--max-tokens", "4", "--jobs", "1", "--policy", "hlm",
                      "--no-controls", "--output", "run"],
        }[command]  # fmt: skip
        arguments += ["--server", station.address, "--tls-ca", authority.pem, "--token-file", token_file]
        arguments += ["--tls-cert", device.certificate, "--tls-key", device.key]
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        assert result.exit_code == 0, (result.output, result.exception)
    key = device.key.read_text().splitlines()[1]
    written = [file for file in tmp_path.rglob("*") if file.is_file() and file != token_file]
    assert command == "chat" or any(file.name == "results.json" for file in written)
    assert not any(secret.encode() in file.read_bytes() for file in written for secret in (SECRET, key))
    assert SECRET not in result.output and key not in result.output


def test_a_run_without_the_token_says_what_is_missing(monkeypatch, tmp_path):
    weights = fake_pair.installed(monkeypatch, tmp_path)
    with standing(weights.engine(), trust=Trust(tokens=TokenSet([Token(SECRET)]))) as station:
        result = CliRunner().invoke(main, ["chat", "hello", "--server", str(station.address), "--policy", "hlm"])
    assert result.exit_code == 1
    assert "asks for a bearer token: give it with --token-file, or in the variable UIHLM_TOKEN" in result.stderr
