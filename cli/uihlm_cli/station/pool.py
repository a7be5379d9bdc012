"""The flags that put replicas under Ray Serve in the place of the one engine, and the run of such a pool."""

from __future__ import annotations

import functools
import signal
import threading
from collections.abc import Callable

import click

from uihlm_basestation.engines.loading import EngineSettings
from uihlm_basestation.serving import Serving
from uihlm_basestation.trust.settings import Trust
from uihlm_cli.options.flags import F, Values, group, option
from uihlm_cli.station.metering import MODEL
from uihlm_proto.addresses import Address
from uihlm_proto.errors import AccessError

RAY = "ray"

pool_options: Callable[[F], F] = group(
    option(
        "--engine-pool",
        type=click.Choice(["one", RAY]),
        default="one",
        help="one: an engine in this process. ray: replicas under Ray Serve (docs/scaling.md).",
    ),
    option("--replicas", type=click.IntRange(1), default=1, help="ray: kept at all times."),
    option(
        "--max-replicas",
        type=click.IntRange(1),
        help="ray: start more under load, at most so many.  [default: --replicas]",
    ),
    option(
        "--target-sessions",
        type=click.FloatRange(0, min_open=True),
        help="ray: streams a replica at which another one is started.  [default: 3/4 of --max-sessions]",
    ),
    option("--cpus-per-replica", type=click.FloatRange(0), default=1.0, help="ray: cores that a replica reserves."),
    option(
        "--gpus-per-replica",
        type=click.FloatRange(0),
        default=0.0,
        help="ray: GPUs that a replica reserves; 0.5 lets two share one.",
    ),
    option(
        "--ray-address",
        metavar="ADDRESS",
        help="ray: join this cluster; auto finds the one of this machine.  [default: a Ray of its own]",
    ),
    option(
        "--application",
        default="uihlm",
        help="ray: name in Ray Serve; devices name it where an ingress serves several.",
    ),
)


def check_pool(values: Values, trust: Trust) -> None:
    """Refuse what Ray's ingress cannot keep, and flags of a pool without one; click.UsageError says which."""
    if values["engine_pool"] != RAY:
        asked = next(
            (name for name in ("max_replicas", "target_sessions", "ray_address") if values[name] is not None), None
        )
        if asked is not None or values["replicas"] > 1:
            flag = (asked or "replicas").replace("_", "-")
            raise click.UsageError(f"--{flag} is of a pool: give --engine-pool ray with it")
        return
    if values["max_replicas"] is not None and values["max_replicas"] < values["replicas"]:
        raise click.UsageError(f"--max-replicas is below --replicas: {values['max_replicas']} < {values['replicas']}")
    if trust.tls is not None:
        raise click.UsageError(
            "Ray Serve's ingress speaks no TLS: end TLS in a proxy in front of it, and leave --tls-cert and --tls-key out"
        )
    if values["meter"] != MODEL:
        raise click.UsageError(
            "--meter reads the counters of this machine, and replicas may run on any: serve without --engine-pool ray to "
            "measure"
        )
    for name, given, instead in (
        ("metrics-port", values["metrics_port"] is not None, "Ray serves metrics of its own"),
        ("health-port", values["health_port"] is not None, "ask Ray, /ray.serve.RayServeAPIService/Healthz"),
        ("reflection", values["reflection"], "Ray's ingress has none"),
    ):
        if given:
            raise click.UsageError(f"--{name} is of one process: {instead} (docs/scaling.md)")
    from uihlm_basestation.pool.ray_pool import INGRESS_HOST

    try:
        trust.check_host(INGRESS_HOST)
    except AccessError as error:
        raise click.UsageError(
            f"Ray Serve's ingress listens on every address of this machine, whatever --host says: {error}"
        ) from error


def run_pool(
    values: Values,
    engine: EngineSettings,
    serving: Serving,
    trust: Trust,
    on_ready: Callable[[str, Address], None],
) -> None:
    """Serve replicas until SIGTERM or SIGINT."""
    from uihlm_basestation.pool.ray_pool import PoolSettings, serve_pool
    from uihlm_basestation.pool.replica import load_named

    settings = PoolSettings(
        replicas=values["replicas"],
        max_replicas=values["max_replicas"],
        target_sessions=values["target_sessions"],
        max_sessions=values["max_sessions"],
        cpus=values["cpus_per_replica"],
        gpus=values["gpus_per_replica"],
        grace_s=values["grace_s"],
        address=values["ray_address"],
        application=values["application"],
    )
    stop = threading.Event()

    def ready(description: str, address: Address) -> None:
        # Not before: Ray sets handlers of its own when it starts.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        on_ready(f"{settings.replicas} x {description}", address)

    load = functools.partial(load_named, values["model"], engine)
    serve_pool(load, settings, values["port"], serving, trust.tokens, stop, ready)
