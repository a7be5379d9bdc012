"""`uihlm-device chat`: talk to the split model, every token in the look of who wrote it."""

from __future__ import annotations

import sys
from typing import Any

import click

from uihlm_cli import assembly
from uihlm_cli.chat.loop import Chat
from uihlm_cli.chat.settings import AUTO, Settings
from uihlm_cli.chat.slash_commands import CommandError, checked, stdin_is_terminal
from uihlm_cli.chat.view import Color, View
from uihlm_cli.errors import reported
from uihlm_cli.options.access import access_of
from uihlm_cli.options.flags import one_of, option
from uihlm_cli.options.groups import (
    audit_options,
    config_option,
    decode_options,
    energy_options,
    link_options,
    model_options,
    risk_options,
    rule_options,
    upload_options,
)
from uihlm_cli.options.link_traces import trace_words
from uihlm_cli.options.meters import meter_options, open_meter
from uihlm_cli.options.outages import outage_options
from uihlm_cli.options.profiles import check_profile
from uihlm_device.outages.outage import OnOutage
from uihlm_device.rules.policies import names
from uihlm_evaluation.planning.plan import Objective
from uihlm_evaluation.runs.configuration import ClockMode, RunConfig

# An answer to read may be longer than one to measure. Of the ways that write exactly what the LLM writes, one draft an upload
# under `coupled` costs the fewest bits and the fewest LLM positions, and is quick on any link (docs/uplink.md).
_DEFAULTS = {"max_tokens": 512, "codec": "coupled"}


@click.command("chat", context_settings={"default_map": _DEFAULTS})
@click.argument("prompt", required=False)
@config_option
@option(
    "--policy",
    type=click.Choice([*names(), AUTO]),
    default="hlm",
    help="Who writes which token; auto plans each answer by what link and models took before.",
)
@one_of("--objective", Objective.TOKENS, "Policy auto: most tokens a second, fewest joules, or fewest LLM forwards.")
@option("--system", help="System prompt.  [default: the model's own]")
@option(
    "--seed",
    type=int,
    default=0,
    help="Seed of every token; the same seed and questions give the same answers.",
)
@one_of("--color", Color.AUTO, "Colours; auto is a terminal without NO_COLOR.")
@rule_options
@decode_options
@upload_options
@audit_options
@risk_options
@link_options("none", ClockMode.ENFORCED)
@energy_options
@meter_options
@model_options
@outage_options(None, "  [default: local with --server, else fail]")
@click.pass_context
def chat(context: click.Context, /, **values: Any) -> None:
    """Talk to the split model; every token shows who wrote it.

    The small model on this device drafts, and the base station's large model lets a draft stand or puts its own token there:
    the answer is the large model's, for 16 bits a token. Under --policy ui only drafts that are uncertain and important are
    uploaded. To a base station some way off, --in-flight 4 does not wait for verdicts. Without --server a base station starts
    by itself on this machine. There is no link unless you name one; then its delays are really waited for.

    With PROMPT, answers it and ends; a PROMPT of - is the whole of stdin. Without, reads messages line by line, from you
    or from a pipe; /help lists the commands.

    \b
      uihlm-device chat
      uihlm-device chat "Why is the sky blue?"
      uihlm-device chat --policy ui --codec dense16 --link nr
      uihlm-device chat --server 192.0.2.7:50051 --system "Answer in one sentence."
      uihlm-device chat - < letter.txt > answer.txt
      printf 'Name a river.\\nWhere is it?\\n' | uihlm-device chat

    The answer goes to stdout, all else to stderr; into a pipe it is plain text. After each answer a line tells its
    tokens, speed, uploads and what they cost. Ctrl-C stops an answer, a second one ends the chat. Exit codes: 0 ok, 1
    error, 2 usage, 4 the base station cannot be reached, 130 interrupted; a script piped in ends with the code of the
    first line that failed.
    """
    # A terminal that cannot show a character shows another; the chat does not end over it.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    with reported():
        prompt = _prompt(values["prompt"])
        settings = Settings(context)
        access = access_of(values)
        meter = open_meter(values)
        meter = None if meter is None else meter.rested(values["meter_idle_s"])
        interactive = prompt is None and stdin_is_terminal()
        if interactive:
            click.echo("loading …", err=True)
        with assembly.opened_device(settings.config, values["server"], values["timeout_s"], access=access) as device:
            check_profile(values, settings.config, device.models)
            outage = settings.config.decode.outage
            alone = outage is not None and outage.on_outage is OnOutage.LOCAL
            view = View(device.tokenizer, Color(values["color"]), interactive, alone)
            loop = Chat(device, settings, view, values["system"], meter)
            target = values["server"] or (device.models.llm.label if device.models.llm else "")
            view.welcome(device.models.slm.label, target, settings.policy, _link(values["link"], settings.config))
            code = loop.once(prompt) if prompt is not None else loop.run(interactive)
    context.exit(code)


command = chat


def _prompt(argument: str | None) -> str | None:
    """Return the one message of a one-shot chat; None where messages are read line by line."""
    if argument is None:
        return None
    try:
        text = checked(sys.stdin.read() if argument == "-" else argument)
    except (CommandError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"{error}", param_hint="PROMPT") from error
    if not text.strip():
        raise click.BadParameter("there is nothing to answer: it is empty", param_hint="PROMPT")
    return text.strip("\n") if argument == "-" else text


def _link(name: str, config: RunConfig) -> str:
    """Return the link in a few words."""
    radio = config.link.radio
    parts = [f"link {name}"]
    traced = trace_words(config.link)
    if traced is not None:
        parts.append(traced)
    elif radio is not None:
        parts.append(f"{radio.bandwidth_hz / 1e6:g} MHz at {radio.snr_db:.1f} dB")
    if config.link.rtt_s:
        parts.append(f"RTT {config.link.rtt_s:g} s")
    if len(parts) > 1:
        parts.append(f"{config.clock.value} clock")
    return ", ".join(parts)
