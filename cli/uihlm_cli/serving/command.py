"""`uihlm-device serve`: the split model behind an OpenAI-compatible endpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from uihlm_cli.errors import reported
from uihlm_cli.options.access import access_of
from uihlm_cli.options.flags import Values, option
from uihlm_cli.options.groups import (
    audit_options,
    config_option,
    decode_options,
    energy_options,
    link_options,
    model_options,
    rule_options,
    upload_options,
)
from uihlm_cli.options.meters import OpenMeter, meter_options, open_meter
from uihlm_cli.options.outages import outage_options
from uihlm_cli.options.settings import run_config
from uihlm_cli.serving.listening import listening_of, listening_options
from uihlm_device.rules.policies import Mode, names, policy
from uihlm_evaluation.runs.configuration import ClockMode, RunConfig, Selection
from uihlm_evaluation.runs.meters import MeterKind
from uihlm_models.errors import ModelError
from uihlm_models.machine import available_cores

if TYPE_CHECKING:
    from uihlm_device.endpoint.metering import AnswerMeter
    from uihlm_wireless.joules.counters import Measured

# As in `chat`. The variables of `uihlm-bs serve` begin with UIHLM_SERVE_, so these do not.
_SETTINGS = {"default_map": {"max_tokens": 512, "codec": "coupled"}, "auto_envvar_prefix": "UIHLM_ENDPOINT"}

# The local base station serves no more sessions.
_MOST_PARALLEL = 16


@click.command("serve", context_settings=_SETTINGS)
@config_option
@listening_options
@option("--model-name", default="uihlm", help="The name that requests give as their model.")
@option(
    "--parallel",
    type=click.IntRange(1, _MOST_PARALLEL),
    default=4,
    help="Answers written at once, each by a drafter with a cache of its own; other requests wait in the order they come.",
)
@option(
    "--max-waiting",
    type=click.IntRange(0),
    default=64,
    help="Requests that may wait; one more is told when to come again (429).",
)
@option("--policy", type=click.Choice(names()), default="hlm", help="Who writes which token.")
@option("--seed", type=int, help="Seed of requests that name none.  [default: another one for each, told in its usage]")
@rule_options
@decode_options
@upload_options
@audit_options
@link_options("none", ClockMode.ENFORCED)
@energy_options
@meter_options
@model_options
@outage_options("fail")
def command(**values: Any) -> None:
    """Serve the split model to any program that speaks OpenAI's interface.

    The small model on this device drafts, the base station's large model decides, and programs see one model behind
    /v1/chat/completions, /v1/completions and /v1/models. --temperature, --top-k, --top-p and --max-tokens hold where a request
    does not say. Without --server a base station starts by itself on this machine. There is no link unless you name one;
    then its delays are really waited for.

    Prints one line on stdout once it is ready, and runs until SIGTERM or Ctrl-C; then it takes nothing new, lets answers end
    within the grace time, and exits 0. The flags --tls… and --token-file are for the way to --server, those that begin with
    --api- for the way to here.

    \b
      uihlm-device serve
      uihlm-device serve --policy ui --codec dense16 --link nr
      uihlm-device serve --server bs.example:50051 --tls --token-file token.txt
      uihlm-device serve --parallel 1 --meter zeus
      uihlm-device serve --host 0.0.0.0 --api-tls-cert d.pem --api-tls-key d.key --api-key-file keys.txt
      curl --json '{"model": "uihlm", "messages": [{"role": "user", "content": "Name a river."}]}' \\
          http://127.0.0.1:8080/v1/chat/completions
    """
    with reported():
        _check_installed()
        listening = listening_of(values)
        config = _config(values)
        access = access_of(values)
        meter = open_meter(values)
        meter = None if meter is None else meter.rested(values["meter_idle_s"])
        click.echo(f"loading {config.model} …", err=True)
        _serve(config, values, listening, access, meter)
        click.echo("stopped", err=True)


def _check_installed() -> None:
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise ModelError(f"an endpoint needs {error.name}: run `pip install 'uihlm[serve]'`") from error


def _config(values: Values) -> RunConfig:
    """Return the settings; click.UsageError where they do not go with many answers at once."""
    if values["clock"] == ClockMode.SIMULATED.value and values["parallel"] > 1:
        raise click.BadParameter(
            "a virtual clock has one answer at a time: give --parallel 1 with it, or leave the clock enforced",
            param_hint="--clock",
        )
    if values["meter"] != MeterKind.MODEL.value and values["parallel"] > 1:
        raise click.BadParameter(
            "answers written at once draw their joules from one meter, which cannot tell them apart: give --parallel 1 with "
            f"--meter {values['meter']}",
            param_hint="--parallel",
        )
    config = run_config(values, (values["policy"],), Selection(seed=values["seed"] or 0))
    # Of another package's policy only its factory knows which settings it takes.
    policy(config.policies[0], config.rules)
    return config


def _serve(config: RunConfig, values: Values, listening: Any, access: Any, meter: OpenMeter | None) -> None:
    from uihlm_cli.assembly import opened_device
    from uihlm_cli.options.profiles import check_profile
    from uihlm_device.endpoint.completer import Card
    from uihlm_device.endpoint.server import serve
    from uihlm_device.endpoint.split import SplitCompleter
    from uihlm_device.endpoint.writing import Parts

    rule = policy(config.policies[0], config.rules)
    with opened_device(config, values["server"], values["timeout_s"], access=access) as device:
        check_profile(values, config, device.models)
        threads = config.threads or max(1, available_cores() // values["parallel"])
        drafters = [device.another_drafter(rule, threads) for _ in range(values["parallel"])]
        # Loads the LLM, or connects, before anybody asks.
        device.assemble(drafters[0], rule, config.decode)
        scores = rule.mode is not Mode.DEVICE_ALONE
        card = Card(
            name=values["model_name"],
            policy=config.policies[0],
            codec=config.codec,
            drafter=device.models.slm.label,
            llm=values["server"] or (device.models.llm.label if device.models.llm else ""),
            max_context=min(drafter.max_context for drafter in drafters),
            fingerprint=f"uihlm-{config.digest()}",
            scores=scores,
        )
        parts = Parts(
            tokenizer=device.tokenizer,
            chat_format=device.chat_format,
            clock=device.clock,
            ledger=device.ledger,
            decoder=lambda drafter, decode, opened: device.assemble(drafter, rule, decode, opened=opened),
            decode=config.decode,
            joules=config.joules,
            score=device.score if scores else None,
            meter=_answer_meter(meter),
        )
        completer = SplitCompleter(card, parts, drafters, values["max_waiting"], values["seed"])
        serve(completer, listening, lambda address: click.echo(f"ready: {card.name} on {address}"))


def _answer_meter(meter: OpenMeter | None) -> AnswerMeter:
    """Return what measures each answer."""
    from uihlm_device.endpoint.metering import AnswerMeter

    if meter is None:
        return AnswerMeter()

    def read(window: Measured) -> Measured:
        (whole,) = meter.read([window])
        return whole

    return AnswerMeter(meter.window, read if meter.reads_files else None, meter.files.basestation is not None)
