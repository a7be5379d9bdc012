"""`uihlm-bs serve`: a large model for devices."""

from __future__ import annotations

import asyncio
import functools
from dataclasses import replace
from typing import Any

import click

from uihlm_basestation.engines.loading import EngineSettings, backends, load_engine
from uihlm_basestation.server import serve
from uihlm_cli.errors import reported
from uihlm_cli.options.flags import option
from uihlm_cli.options.weights import HELP as WEIGHT_TYPES_HELP
from uihlm_cli.options.weights import MEASURED, WEIGHT_TYPES, measured_type
from uihlm_cli.station.metering import counters_of, meter_option
from uihlm_cli.station.observing import health_port, observers, observing_options, voice
from uihlm_cli.station.pool import RAY, check_pool, pool_options, run_pool
from uihlm_cli.station.sharing import serving, sharing_options
from uihlm_cli.station.trust import trust_of, trust_options
from uihlm_models.presets import Role
from uihlm_models.sources import resolve
from uihlm_proto.addresses import Address
from uihlm_proto.loops import new_event_loop


@click.command("serve")
@option("--model", default="bundled", help="LLM: a preset (bundled, paper), a GGUF, a folder, or a hub id.")
@option("--host", default="127.0.0.1", help="Address to listen on.")
@option("--port", type=click.IntRange(0, 65535), default=50051, help="Port; 0 takes a free one.")
@sharing_options
@option(
    "--backend",
    type=click.Choice(backends()),
    help="Library, or an engine of another package.  [default: llama for a GGUF, else torch]",
)
@option("--threads", type=click.IntRange(0), default=0, help="llama: CPU threads; 0 takes every core.")
@option("--gpu-layers", type=int, default=-1, help="llama: blocks on a GPU, if the library has one; -1 is all.")
@option(
    "--dtype",
    type=click.Choice(WEIGHT_TYPES),
    default="auto",
    help=f"Type of the weights: {WEIGHT_TYPES_HELP}",
)
@option("--device-map", default="auto", help="torch: where the weights go.")
@option("--load-in-4bit", is_flag=True, help="torch: quantise with bitsandbytes.")
@option(
    "--grace-s", type=click.FloatRange(0), default=10.0, help="On SIGTERM, rounds under way may go on so long, seconds."
)
@meter_option
@observing_options
@trust_options
@pool_options
def command(**values: Any) -> None:
    """Serve a large model to devices.

    With no flags: the bundled LLM on 127.0.0.1:50051. Prints one line on stdout once it is ready, with the bound port, and
    runs until SIGTERM or Ctrl-C; then it sends idle sessions away, lets rounds end within the grace time, and exits 0.

    \b
      uihlm-bs serve
      uihlm-bs serve --port 0 --max-sessions 64 --kv-memory 1GiB
      uihlm-bs serve --metrics-port 9464 --log-format json --log-level info
      uihlm-bs serve --host 0.0.0.0 --tls-cert bs.pem --tls-key bs.key --token-file tokens.txt --health-port 50052
      uihlm-bs serve --model meta-llama/Llama-2-7b-chat-hf --dtype bfloat16
      uihlm-bs serve --engine-pool ray --replicas 4 --gpus-per-replica 0.5 --insecure
    """

    def ready(description: str, address: Address) -> None:
        click.echo(f"ready: {description} on {address}")

    with reported():
        chrome = voice(values)
        trust = trust_of(values, chrome.say)
        check_pool(values, trust)
        counters = counters_of(values, chrome.say)
        chrome.say(f"loading {values['model']} …")
        settings = EngineSettings(
            backend=values["backend"],
            max_sessions=values["max_sessions"],
            max_context=values["max_context"],
            kv_bytes=values["kv_memory"],
            threads=values["threads"],
            gpu_layers=values["gpu_layers"],
            weight_type=values["dtype"],
            device_map=values["device_map"],
            load_in_4bit=values["load_in_4bit"],
        )
        if settings.weight_type == MEASURED:
            # Here, so that every replica of a pool has the same.
            settings = replace(settings, weight_type=measured_type(resolve(values["model"], Role.TARGET), settings))
        if values["engine_pool"] == RAY:
            run_pool(values, settings, serving(values), trust, ready)
            chrome.say("stopped")
            return
        engine = load_engine(resolve(values["model"], Role.TARGET), settings)
        with (
            observers(values, engine.description, chrome) as telemetry,
            health_port(values, chrome) as checks,
            asyncio.Runner(loop_factory=new_event_loop) as runner,
        ):
            runner.run(
                serve(
                    engine,
                    values["host"],
                    values["port"],
                    values["max_sessions"],
                    values["grace_s"],
                    functools.partial(ready, engine.description),
                    telemetry,
                    values["reflection"],
                    serving=serving(values),
                    trust=trust,
                    counters=counters,
                    health_port=checks,
                )
            )
        chrome.say("stopped")
