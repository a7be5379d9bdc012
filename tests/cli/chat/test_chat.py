"""`uihlm-device chat`, end to end through the real loop, client and server; only the two models are fakes."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from fakes import FakeDrafter, FakeEngine, serving
from uihlm_cli import assembly
from uihlm_cli.device import main
from uihlm_device.decode_settings import DecodeSettings
from uihlm_device.decoder import Decoder
from uihlm_device.rules.policies import PolicySettings, policy
from uihlm_device.stream.client import Connection
from uihlm_device.stream.contract import Contract
from uihlm_device.turn import Turn
from uihlm_evaluation.runs.configuration import ClockMode, RunConfig
from uihlm_models.chat_format import ChatFormat
from uihlm_models.sources import Kind, ModelSource
from uihlm_proto.codecs import codec
from uihlm_proto.errors import UnavailableError
from uihlm_wireless.clock import EnforcedClock, SimulatedClock
from uihlm_wireless.interceptor import LinkInterceptor
from uihlm_wireless.ledger import Ledger
from uihlm_wireless.link import Link
from uihlm_wireless.timing import TimingProfile

STOP = 3
V = 256
Answers = Callable[[str], str]


class ByteTokenizer:
    """Every byte is a token; byte 3 ends a turn."""

    vocabulary_size = V
    stop_ids = frozenset({STOP})
    bos_text = eos_text = ""
    chat_template = (
        "{% for m in messages %}[{{ m.role }}]{{ m.content }}\x03{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def piece(self, token: int) -> bytes:
        return b"" if token == STOP else bytes([token])

    def decode(self, ids: Sequence[int]) -> str:
        return b"".join(self.piece(i) for i in ids).decode("utf-8", "replace")

    def pieces(self) -> list[str]:
        return [f"<{i}>" for i in range(V)]


def scripted(answers: Answers) -> Callable[[Sequence[int]], np.ndarray]:
    """A model that gives the answer of a conversation so far, byte by byte, whatever it has written itself."""

    def logits(ids: Sequence[int]) -> np.ndarray:
        head, _, written = bytes(ids).rpartition(b"[assistant]")
        rest = (answers(head.decode()).encode() + bytes([STOP]))[len(written) :]
        z = np.full(V, -50.0, np.float32)
        z[rest[0] if rest else STOP] = 50.0
        return z

    return logits


class Bench:
    """What `opened_device` opens instead of models."""

    def __init__(self) -> None:
        self.drafter_says: Answers = lambda head: "hello"
        self.llm_says: Answers | None = None
        self.before_forward: Callable[[Bench], None] = lambda bench: None
        self.unreachable = False
        self.drafter = FakeDrafter(lambda ids: np.zeros(V, np.float32), V)
        self.configs: list[RunConfig] = []
        self.keys: list[bytes] = []

    @contextlib.contextmanager
    def opened(
        self, config: RunConfig, server: str | None, timeout_s: float, **more: object
    ) -> Iterator[assembly.Device]:
        self.configs.append(config)
        bench = self

        class Drafter(FakeDrafter):
            def forward(self, *arguments, **named):
                bench.before_forward(bench)
                return super().forward(*arguments, **named)

        tokenizer = ByteTokenizer()
        self.drafter = Drafter(scripted(self.drafter_says), V, [STOP])
        engine = FakeEngine(scripted(self._llm), V, [STOP])
        clock = SimulatedClock() if config.clock is ClockMode.SIMULATED else EnforcedClock()
        ledger = Ledger()
        timing = TimingProfile(0.01, 0.02)
        link = LinkInterceptor(Link(config.link, clock, timing), ledger)
        uplink = codec(config.codec, V)
        models = assembly.Models(*(ModelSource(Kind.GGUF, Path(n), n) for n in ("fake drafter", "fake LLM")))
        with serving(engine) as address, Connection(server or str(address), V, [link], timeout_s) as connection:

            def decoder(name: str, rules: PolicySettings, decode: DecodeSettings) -> Decoder:
                contract = Contract(self.drafter.fingerprint, decode.sampling, uplink)

                def connect():
                    session = connection.session(contract)
                    opening = session.open
                    session.open = lambda ids, key: (self.keys.append(key), opening(ids, key))[1]
                    return session

                rule = policy(name, rules)
                return Decoder(self.drafter, uplink, rule, decode, clock, ledger, timing, connect)

            none = pytest.fail  # chat makes no decoder of its own
            yield assembly.Device(models, tokenizer, ChatFormat(tokenizer), clock, ledger, decoder, *[none] * 4)

    def _llm(self, head: str) -> str:
        return (self.llm_says or self.drafter_says)(head)

    @property
    def history(self) -> str:
        return bytes(self.drafter.ids).decode("utf-8", "replace")


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    bench = Bench()
    monkeypatch.setattr(assembly, "opened_device", bench.opened)
    return bench


# What a test does not name: a later flag of its own takes the place of one of these.
_PINNED = ("--clock", "simulated", "--policy", "ui", "--codec", "dense32")


def chat(*arguments: str, typed: str = "", **environment: str) -> Result:
    result = CliRunner(env=environment).invoke(main, ["chat", *_PINNED, *arguments], input=typed)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def typing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody types."""
    monkeypatch.setattr("uihlm_cli.chat.command.stdin_is_terminal", lambda: True)


def test_without_flags_the_answer_is_the_llms_own_for_the_price_of_ids(bench):
    plain = CliRunner().invoke(main, ["chat", "--clock", "simulated", "What?"])
    assert plain.exit_code == 0 and plain.stdout == chat("What?", "--policy", "llm").stdout
    assert "uploaded 100%" in plain.stderr and "· 8 bit/tok ·" in plain.stderr


def test_one_shot_prints_the_answer_and_nothing_else(bench):
    result = chat("What?", "--policy", "hlm")
    assert (result.stdout, result.exit_code) == ("hello\n", 0)
    assert bench.history == "[user]What?\x03[assistant]hello"


def test_one_shot_text_is_never_a_command(bench):
    chat("/exit", "--policy", "slm")
    assert bench.history.startswith("[user]/exit\x03")


def test_end_of_turn_line_is_exact(bench):
    bench.llm_says = lambda head: "hallo"
    result = chat("What?", "--policy", "hlm", "--link", "paper")
    # Six tokens, five of them accepted; the prefill judges the first, so five forwards are charged.
    # Airtime 256·32 bit: 47.04 ms an upload.
    assert result.stderr == (
        "[6 tokens · 13.6 tok/s · uploaded 100% · accepted 83% · LLM 1.00 forwards/tok · 8.19 kbit/tok"
        " · link 0.28 s · energy saved ≥ 0%]\n"
    )


def test_answer_without_uploads_has_no_acceptance(bench):
    assert "uploaded 0% · accepted – · LLM 0.00 forwards/tok · 0 bit/tok" in chat("What?", "--policy", "slm").stderr


def test_energy_saved_is_zero_for_hlm_and_that_of_the_upload_term_for_slm():
    # hlm: (126 + 350·0.5 + 100) either way. slm: 1 − 100/226. llm: no draft, nothing to compare.
    hlm = Turn(tokens=10, uploaded=10, rejected=5, model_bits=10 * V * 32)
    assert hlm.energy_saving(V) == pytest.approx(0.0)
    assert Turn(tokens=10).energy_saving(V) == pytest.approx(1 - 100 / 226)
    assert Turn(tokens=10, llm_alone=10).energy_saving(V) is None
    # Half uploaded, two rejected: (63 + 70 + 100) / (126 + 70 + 100).
    half = Turn(tokens=10, uploaded=5, rejected=2, model_bits=5 * V * 32)
    assert half.energy_saving(V) == pytest.approx(1 - 233 / 296)


def test_characters_split_over_tokens_come_out_whole(bench):
    bench.drafter_says = lambda head: "naïve 日本 🙂"
    assert chat("?", "--policy", "slm").stdout == "naïve 日本 🙂\n"


def test_half_a_character_at_the_end_becomes_a_replacement(bench):
    bench.drafter_says = lambda head: "日本"
    assert chat("?", "--policy", "slm", "--max-tokens", "5").stdout == "日\ufffd\n"


def test_answer_that_ends_in_a_newline_gets_no_second_one(bench):
    bench.drafter_says = lambda head: "a\n"
    assert chat("?", "--policy", "slm").stdout == "a\n"


def test_empty_answer_is_an_empty_line(bench):
    bench.drafter_says = lambda head: ""
    assert chat("?", "--policy", "slm").stdout == "\n"


def test_answer_cut_off_says_so_and_the_next_turn_closes_it(bench):
    result = chat("--policy", "slm", "--max-tokens", "3", typed="a\nb\n")
    assert result.stdout == "hel\nhel\n"
    assert "[cut off by max_tokens · 3 tokens · " in result.stderr
    assert bench.history == "[user]a\x03[assistant]hel\x03[user]b\x03[assistant]he"


def test_each_piped_line_is_a_turn_of_one_conversation(bench):
    bench.drafter_says = lambda head: f"{head.count('[user]')}"
    result = chat("--policy", "hlm", typed="one\n\ntwo\n")
    assert (result.stdout, result.exit_code) == ("1\n2\n", 0)
    assert bench.history == "[user]one\x03[assistant]1\x03[user]two\x03[assistant]2"
    assert len(bench.keys) == 1, "one stream for the whole conversation"


def test_dash_takes_all_of_stdin_as_one_message(bench):
    chat("-", "--policy", "slm", typed="one\n/two\n")
    assert bench.history.startswith("[user]one\n/two\x03[assistant]")


def test_block_is_one_message_taken_as_it_is(bench):
    chat("--policy", "slm", typed='"""\n/exit\n  two\n"""\n//slash\n')
    assert bench.history.startswith("[user]/exit\n  two\x03[assistant]hello\x03[user]/slash\x03[assistant]")


def test_block_on_one_line(bench):
    chat("--policy", "slm", typed='"""a"""\n')
    assert bench.history.startswith("[user]a\x03")


def test_block_that_is_not_closed_is_refused(bench):
    result = chat("--policy", "slm", typed='"""\na\n')
    assert (result.stdout, result.exit_code) == ("", 1)
    assert result.stderr == 'error: the block begun with """ was not closed, so it was left out\n'


def test_clear_starts_a_new_stream_with_another_key(bench):
    bench.drafter_says = lambda head: f"{head.count('[user]')}"
    result = chat("--policy", "hlm", typed="a\n/clear\nb\n")
    assert result.stdout == "1\n1\n"
    assert bench.history.startswith("[user]b\x03[assistant]1")
    assert len(set(bench.keys)) == 2
    bench.keys, before = [], bench.keys
    chat("--policy", "hlm", typed="a\n/clear\nb\n")
    assert bench.keys == before, "the same seed gives the same keys"


def test_system_prompt_from_flag_command_block_and_back(bench):
    heads = []
    bench.drafter_says = lambda head: (heads.append(head), "x")[1]
    script = 'a\n/system Be brief.\nb\n/system """\nTwo\nlines\n"""\nc\n/system -\nd\n/system\n'
    result = chat("--policy", "slm", "--system", "S", typed=script)
    assert list(dict.fromkeys(heads)) == [
        "[system]S\x03[user]a\x03",
        "[system]Be brief.\x03[user]b\x03",
        "[system]Two\nlines\x03[user]c\x03",
        "[user]d\x03",
    ]
    assert result.stderr.endswith("the model's own system prompt\n")


def test_set_changes_policy_and_length_between_answers(bench):
    bench.llm_says = lambda head: "LLM"
    result = chat("--policy", "slm", typed="a\n/set policy llm\nb\n/set max-tokens=2\nc\n")
    assert result.stdout == "hello\nLLM\nLL\n"
    assert "policy = llm\n" in result.stderr
    assert "max_tokens = 2\n" in result.stderr


def test_set_temperature_opens_a_new_stream_with_the_same_history(bench):
    result = chat("--policy", "hlm", typed="a\n/set theta_u 0.1\nb\n/set temperature 0\nc\n/set seed 7\nd\n")
    assert result.stdout == "hello\n" * 4
    assert bench.history.count("[assistant]hello") == 4
    # θ_u is the device's own business; temperature and seed are not, and the seed alone changes the key.
    assert len(bench.keys) == 3
    assert bench.keys[0] == bench.keys[1] != bench.keys[2]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/set", ""),
        ("/set nonsense 1", "there is no setting nonsense: known are policy, theta_u"),
        ("/set codec dense16", "codec cannot change while the chat runs: start it again with --codec"),
        ("/set policy best", "policy: 'best' is not one of"),
        ("/set k 0", "k: 0 is not in the range x>=1."),
        ("/set theta_u nan", "theta_u must be a finite number, got nan"),
        ("/set temperature hot", "temperature: 'hot' is not a valid float"),
        ("/set seed 9223372036854775808", "seed must fit 64 bits"),
        ("/set k", "/set k needs a value; it is 3 now"),
        ("/nope", "there is no command /nope"),
        ("/clear all", "/clear takes nothing after it, got 'all'"),
    ],
)
def test_command_mistakes_are_told_and_the_chat_goes_on(bench, line, message):
    result = chat("--policy", "slm", typed=f"{line}\na\n")
    assert result.stdout == "hello\n"
    if message:
        assert f"error: {message}" in result.stderr
    assert result.exit_code == (1 if message else 0), "a script that goes wrong must not look right"


def test_set_alone_lists_settings_with_their_values(bench):
    lines = chat("--theta-u", "0.25", typed="/set\n").stderr.splitlines()
    assert [line.split()[:2] for line in lines][:3] == [["policy", "ui"], ["theta_u", "0.25"], ["k", "3"]]
    assert len(lines) == 12


def test_mistakes_of_somebody_who_types_do_not_show_in_the_exit_code(bench, typing):
    assert chat("--policy", "slm", typed="/nope\n/exit\n").exit_code == 0


def test_stats_sum_the_answers(bench):
    result = chat("--policy", "hlm", typed="a\nb\n/stats\n")
    assert "2 answers, 12 tokens" in result.stderr
    assert "12 of 12 tokens, 100.0%" in result.stderr
    assert "12 forwards, 1.00 a token" in result.stderr
    assert "of skipping: not audited (--audit)" in result.stderr


def test_stats_tell_the_risk_of_skipping(bench):
    result = chat("--policy", "u", "--theta-u", "0.9", "--risk", "0.1", typed="a\nb\n/stats\n")
    told = re.search(
        r"risk +([\d.]+)% of all tokens the LLM would have rejected .*\((\d+) of (\d+) audited\)", result.stderr
    )
    assert told is not None and told[1] == "0.0", "where the drafter is sure, these two models agree"
    assert told[2] == told[3] != "0", "to the end of each answer"


def test_welcome_names_models_policy_and_link(bench, typing):
    lines = chat("--link", "paper", typed="").stderr.splitlines()
    assert lines[:5] == [
        "loading …",
        "uihlm chat",
        "  drafts   fake drafter",
        "  checks   fake LLM",
        "  policy   ui; link paper, 1 MHz at -8.9 dB, simulated clock; /help for commands, Ctrl-D leaves",
    ]


def test_help_lists_every_command(bench):
    text = chat(typed="/help\n").stderr
    assert all(name in text for name in ("/set", "/system", "/clear", "/stats", "/help", "/exit", '"""', "Ctrl-C"))


def test_exit_ends_before_the_rest_of_the_script(bench):
    assert chat("--policy", "slm", typed="/exit\na\n").stdout == ""


def test_colours_only_when_asked_and_never_alone(bench):
    bench.drafter_says, bench.llm_says = lambda head: "ab", lambda head: "aB"
    plain = chat("?", "--policy", "hlm")
    assert "\x1b" not in plain.output
    coloured = chat("?", "--policy", "hlm", "--color", "always")
    assert coloured.stdout == "\x1b[32m\x1b[4ma\x1b[0m\x1b[33m\x1b[1mB\x1b[0m\n"
    assert "\x1b[33m\x1b[1mresampled\x1b[0m" in coloured.stderr, "a legend for what is shown"
    assert chat("?", "--policy", "slm", "--color", "always").stdout == "ab\n"
    assert chat("?", "--policy", "llm", "--color", "always").stdout.startswith("\x1b[36m\x1b[3ma\x1b[0m")


def test_colour_and_control_characters_on_a_terminal(bench, monkeypatch):
    bench.drafter_says = lambda head: "a\x1b[2Jb\n"
    assert chat("?", "--policy", "slm").stdout == "a\x1b[2Jb\n", "data is data"
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda self: True, raising=False)
    assert chat("?", "--policy", "hlm", TERM="xterm").stdout.startswith("\x1b[32m\x1b[4ma\x1b[0m\x1b[32m\x1b[4m\ufffd")
    without_colour = chat("?", "--policy", "hlm", TERM="xterm", NO_COLOR="1")
    assert without_colour.stdout.startswith("\x1b[4ma\x1b[0m")
    assert "\x1b[32m" not in without_colour.output
    assert "\x1b" not in chat("?", "--policy", "hlm", "--color", "never", TERM="xterm").output


def test_unreachable_base_station_exits_4_in_one_shot(bench):
    result = chat("?", "--policy", "hlm", "--server", "127.0.0.1:1")
    assert (result.stdout, result.exit_code) == ("", 4)
    assert "no base station answers at 127.0.0.1:1" in result.stderr


def test_failed_message_is_taken_back_and_the_chat_lives(bench, typing):
    script = "a\n/set policy slm\nb\n/exit\n"
    result = chat("--policy", "hlm", "--server", "127.0.0.1:1", typed=script)
    assert (result.stdout, result.exit_code) == ("hello\n", 0)
    assert "error: no base station answers" in result.stderr
    assert bench.history == "[user]b\x03[assistant]hello"


def test_script_ends_with_the_code_of_its_first_failure(bench):
    result = chat("--policy", "hlm", "--server", "127.0.0.1:1", typed="a\n/nope\n")
    assert result.exit_code == 4


def test_answer_broken_off_keeps_its_text(bench, typing):
    def fail(bench: Bench) -> None:
        if bench.history.endswith("he"):
            bench.before_forward = lambda bench: None
            raise UnavailableError("the base station is going away")

    bench.before_forward = fail
    result = chat("--policy", "hlm", typed="a\nb\n/exit\n")
    assert result.stdout == "hel\nhello\n"
    assert "[broken off · 3 tokens · " in result.stderr
    assert "energy saved ≥ 0%]\nerror: the base station is going away\n" in result.stderr
    assert bench.history == "[user]a\x03[assistant]hel\x03[user]b\x03[assistant]hello"


def test_full_context_is_told_and_clear_helps(bench, typing, monkeypatch):
    monkeypatch.setattr(FakeDrafter, "max_context", 40)
    result = chat("--policy", "slm", typed=f"{'x' * 60}\nb\n/exit\n")
    assert result.stdout == "hello\n"
    assert "error: the conversation has 78 tokens, the drafter's context holds 40" in result.stderr


def test_answer_that_fills_the_context_says_so(bench, monkeypatch):
    monkeypatch.setattr(FakeDrafter, "max_context", 21)
    result = chat("a", "--policy", "slm")
    assert result.stdout == "he\n"
    assert result.stderr.startswith("[cut off: the context is full · 2 tokens · ")


def interrupting(times: int, after: str, by: Callable[[], None]) -> Callable[[Bench], None]:
    """Press Ctrl-C so often, once each time the history ends like that."""
    left = [times]

    def press(bench: Bench) -> None:
        if left[0] and bench.history.endswith(after):
            left[0] -= 1
            by()

    return press


def raised() -> None:
    raise KeyboardInterrupt


def signalled() -> None:
    signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize(("by", "kept"), [(raised, "hel"), (signalled, "hell")])
def test_ctrl_c_stops_the_answer_and_keeps_its_text(bench, typing, by, kept):
    bench.before_forward = interrupting(1, "[assistant]he", by)
    result = chat("--policy", "hlm", typed="a\nb\n/exit\n")
    # A signal lets the token in progress end; the loop's own exception does not.
    assert result.stdout == f"{kept}\nhello\n"
    assert "[stopped · " in result.stderr
    assert bench.history == f"[user]a\x03[assistant]{kept}\x03[user]b\x03[assistant]hello"
    assert (result.exit_code, len(bench.keys)) == (0, 2)
    assert bench.keys[0] == bench.keys[1], "the conversation goes on under its key, on a new stream"


def test_two_ctrl_c_in_one_answer_exit_130(bench, typing):
    bench.before_forward = interrupting(1, "[assistant]he", lambda: (signalled(), signalled()))
    result = chat("--policy", "hlm", typed="a\nb\n/exit\n")
    assert (result.stdout, result.exit_code) == ("hell\n", 130)
    assert result.stderr.endswith("interrupted\n")


def test_ctrl_c_before_the_first_token_takes_the_message_back(bench, typing):
    bench.before_forward = interrupting(1, "", raised)
    result = chat("--policy", "slm", typed="a\nb\n/exit\n")
    assert result.stdout == "hello\n"
    assert bench.history == "[user]b\x03[assistant]hello"


def test_ctrl_c_in_one_shot_and_in_a_script_exit_130(bench):
    for arguments, typed in ((["a"], ""), ([], "a\nb\n")):
        bench.before_forward = interrupting(1, "[assistant]he", signalled)
        result = chat("--policy", "slm", *arguments, typed=typed)
        assert (result.stdout, result.exit_code) == ("hell\n", 130)


def test_ctrl_c_at_the_prompt_twice_in_a_row_exits_130(bench, typing, monkeypatch):
    lines: list[str | type[BaseException]] = [KeyboardInterrupt, "a", KeyboardInterrupt, KeyboardInterrupt, "b"]

    def typed(prompt: str) -> str:
        line = lines.pop(0)
        if isinstance(line, str):
            return line
        raise line

    monkeypatch.setattr("builtins.input", typed)
    result = chat("--policy", "slm")
    assert (result.stdout, result.exit_code, lines) == ("hello\n", 130, ["b"])
    assert result.stderr.count("Ctrl-C again leaves") == 2


def test_ctrl_c_on_something_half_typed_only_leaves_that_out(bench, typing, monkeypatch):
    lines = ["a", KeyboardInterrupt, '"""', "b", KeyboardInterrupt, KeyboardInterrupt, "half", "c", EOFError]

    def typed(prompt: str) -> str:
        line = lines.pop(0)
        if line == "half" or not isinstance(line, str):
            monkeypatch.setattr("uihlm_cli.chat.slash_commands.half_typed", lambda: line if line == "half" else "")
            raise KeyboardInterrupt if line == "half" else line
        return line

    monkeypatch.setattr("builtins.input", typed)
    result = chat("--policy", "slm")
    assert (result.stdout, result.exit_code) == ("hello\nhello\n", 0)
    assert bench.history == "[user]a\x03[assistant]hello\x03[user]c\x03[assistant]hello"


def test_ctrl_c_breaks_a_wait_for_the_link_off_at_once(bench, typing):
    timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    started_s = time.monotonic()
    result = chat("--policy", "hlm", "--rtt-s", "60", "--clock", "enforced", typed="a\n/exit\n")
    assert time.monotonic() - started_s < 20.0
    assert "stopped before the first token; the message was taken back\n" in result.stderr
    assert result.exit_code == 0


def test_signal_handler_is_put_back(bench):
    before = signal.getsignal(signal.SIGINT)
    chat("a", "--policy", "slm")
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("arguments", [[""], ["--policy", "best"], ["--k", "0"], ["a", "b"]])
def test_usage_errors_exit_2(bench, arguments):
    assert chat(*arguments).exit_code == 2


def test_input_that_is_no_text_is_refused(bench):
    result = CliRunner().invoke(main, ["chat", "--policy", "slm"], input=b"\xff\xfe\n")
    assert (result.stdout, result.exit_code) == ("", 1)
    assert "not UTF-8" in result.stderr


def test_help_imports_no_model_library():
    code = (
        "import sys; from uihlm_cli.device import main\n"
        "try: main(['chat', '--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'transformers', 'llama_cpp') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")
    assert 'uihlm-device chat "Why is the sky blue?"' in done.stdout
    assert "UIHLM_CHAT_THETA_U" in done.stdout
