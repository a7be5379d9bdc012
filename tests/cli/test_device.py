"""The two programs from outside: what `--help` and `--version` say, and what they leave alone."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version

import click
import pytest
from click.testing import CliRunner

from uihlm_cli import basestation, device

PROGRAMS = {"uihlm-device": device.main, "uihlm-bs": basestation.main}
COMMANDS = [
    (program, name) for program, group in PROGRAMS.items() for name in group.list_commands(click.Context(group))
]
# What a reader of the help can give: everything but --help and --version.
OPTIONS = [
    pytest.param(program, name, option, id=f"{program} {name} {option.opts[-1]}")
    for program, name in COMMANDS
    for option in PROGRAMS[program].get_command(click.Context(PROGRAMS[program]), name).params
    if isinstance(option, click.Option)
]
HEAVY = ("torch", "transformers", "llama_cpp", "bert_score", "matplotlib", "accelerate")


def help_of(program: str, *arguments: str) -> str:
    result = CliRunner().invoke(PROGRAMS[program], [*arguments, "--help"], prog_name=program, terminal_width=200)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_every_command_is_known():
    assert ("uihlm-device", "eval") in COMMANDS
    assert ("uihlm-device", "chat") in COMMANDS
    assert ("uihlm-bs", "serve") in COMMANDS


@pytest.mark.parametrize("program", PROGRAMS)
def test_group_help_lists_its_commands_with_a_sentence_each(program):
    section = help_of(program).partition("Commands:\n")[2]
    listed = {line.split()[0]: line.split(maxsplit=1)[1:] for line in section.splitlines() if line.strip()}
    assert [(program, name) for name in listed] == [entry for entry in COMMANDS if entry[0] == program]
    assert all(listed.values()), "a command without a sentence"


@pytest.mark.parametrize(("program", "name"), COMMANDS)
def test_command_help_reads_as_sentences_with_a_worked_example(program, name):
    text = help_of(program, name)
    assert text.startswith(f"Usage: {program} {name} ")
    assert f"\n    {program} {name}" in text, "an example to copy"
    assert "Error" not in text


@pytest.mark.parametrize(("program", "name", "option"), OPTIONS)
def test_option_has_a_help_text_and_its_environment_variable(program, name, option):
    assert option.help and option.help[0].strip(), "no help text"
    flag = max(option.opts, key=len).removeprefix("--").replace("-", "_").upper()
    command = PROGRAMS[program].get_command(click.Context(PROGRAMS[program]), name)
    # The device's `serve` has a prefix of its own: that of the base station's is taken.
    prefix = command.context_settings.get("auto_envvar_prefix", f"UIHLM_{name}".upper().replace("-", "_"))
    variable = f"{prefix}_{flag}"
    text = " ".join(help_of(program, name).split())
    assert f"[env var: {variable};" in text or f"[env var: {variable}]" in text
    assert " ".join(option.help.split()) in text


NO_DEFAULT = (
    *("config", "server", "sample", "profile", "risk", "learned", "trace", "link_trace"),
    *("tls_ca", "tls_cert", "tls_key", "tls_client_ca", "server_application"),
    *("api_tls_cert", "api_tls_key", "api_tls_client_ca", "meter_device", "meter_basestation"),
)


@pytest.mark.parametrize(("program", "name", "option"), OPTIONS)
def test_option_says_its_default(program, name, option):
    # A flag that is off and what is only done when asked for have no default to speak of.
    if (option.is_flag and not option.secondary_opts) or option.name in NO_DEFAULT:
        return
    shown = option.get_help_extra(click.Context(click.Command(name)))
    assert "default" in shown or "[default: " in option.help


@pytest.mark.parametrize("program", PROGRAMS)
def test_short_help_is_help(program):
    short = CliRunner().invoke(PROGRAMS[program], ["-h"], prog_name=program, terminal_width=200)
    assert short.stdout == help_of(program)


@pytest.mark.parametrize("program", PROGRAMS)
def test_version_is_that_of_the_package(program):
    result = CliRunner().invoke(PROGRAMS[program], ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"uihlm, version {version('uihlm')}\n")


@pytest.mark.parametrize("program", PROGRAMS)
def test_unknown_command_exits_2(program):
    result = CliRunner().invoke(PROGRAMS[program], ["cook"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "No such command 'cook'" in result.stderr


def loaded_by(code: str) -> list[str]:
    """The heavy modules that a fresh Python holds after running code."""
    probe = f"{code}\nimport json, sys\nprint(json.dumps([name for name in {HEAVY} if name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_help_of_every_command_imports_no_model_library():
    code = "from click.testing import CliRunner\nfrom uihlm_cli import basestation, device\n" + "".join(
        f"assert CliRunner().invoke({'device' if program == 'uihlm-device' else 'basestation'}.main,"
        f" {[*arguments, '--help']}).exit_code == 0\n"
        for program, arguments in [*((program, ()) for program in PROGRAMS), *((p, (name,)) for p, name in COMMANDS)]
    )
    assert loaded_by(code) == []


def test_group_help_imports_no_command():
    code = (
        "from click.testing import CliRunner\nfrom uihlm_cli.device import main\n"
        "assert CliRunner().invoke(main, ['--help']).exit_code == 0\n"
        "import sys\nassert 'uihlm_cli.runs.evaluate' not in sys.modules and 'numpy' not in sys.modules"
    )
    assert loaded_by(code) == []
