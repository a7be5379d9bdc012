"""Replicas under Ray Serve: one application behind its gRPC ingress, from a Ray of this machine or of a cluster.

    device ──▶ ingress (a proxy on every node) ──▶ replica: engine, batcher, servicer

A stream sticks to its replica. When a replica dies its streams end, and the devices open them again, with all that was
committed as their prefix; the ingress then finds them another one.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from uihlm_basestation.engines.engine import Engine
from uihlm_basestation.pool.replica import Replica
from uihlm_basestation.serving import DEFAULT_SESSIONS, Serving
from uihlm_proto.addresses import Address
from uihlm_proto.errors import InvalidRequestError, UihlmError, UnavailableError
from uihlm_proto.token_set import TokenSet

REGISTER = "uihlm_proto.v1.verification_pb2_grpc.add_VerificationServiceServicer_to_server"
APPLICATION = "uihlm"
# Every interface: the ingress knows no other choice.
INGRESS_HOST = "::"

# Streams beyond the sessions of a replica, so that it is the servicer that refuses them, in its own words.
_HEADROOM = 8
# Of one message. Ray's own default is 2 GiB, which would let anyone fill memory; 64 dense drafts of 256,000 tokens fit.
_MESSAGE_BYTES = 128 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """How many replicas, and what each gets.

    Attributes:
        replicas: kept at all times.
        max_replicas: with autoscaling, at most so many; None keeps `replicas`.
        target_sessions: with autoscaling, open streams a replica at which another one is started; None is three quarters
            of `max_sessions`.
        max_sessions: devices that one replica serves at once.
        cpus, gpus: what a replica reserves; a fraction of a GPU shares one.
        grace_s: on shutdown, open streams may go on so long, seconds.
        address: of a Ray cluster; None starts a Ray on this machine, which ends with this process.
        application: its name in Ray Serve; devices send it where the ingress serves several.

    Raises:
        InvalidRequestError: for fewer than one replica, or a maximum below that.
    """

    replicas: int = 1
    max_replicas: int | None = None
    target_sessions: float | None = None
    max_sessions: int = DEFAULT_SESSIONS
    cpus: float = 1.0
    gpus: float = 0.0
    grace_s: float = 10.0
    address: str | None = None
    application: str = APPLICATION

    def __post_init__(self) -> None:
        if self.replicas < 1 or (self.max_replicas is not None and self.max_replicas < self.replicas):
            raise InvalidRequestError(
                f"a pool has one replica or more, and a maximum no smaller than that, got {self.replicas} and "
                f"{self.max_replicas}"
            )

    @property
    def options(self) -> dict[str, Any]:
        """The deployment's options, as Ray Serve names them."""
        options: dict[str, Any] = {
            "name": "basestation",
            "max_ongoing_requests": self.max_sessions + _HEADROOM,
            "graceful_shutdown_timeout_s": self.grace_s,
            "ray_actor_options": {"num_cpus": self.cpus, "num_gpus": self.gpus},
        }
        if self.max_replicas is None:
            return options | {"num_replicas": self.replicas}
        target = 0.75 * self.max_sessions if self.target_sessions is None else self.target_sessions
        return options | {
            "autoscaling_config": {
                "min_replicas": self.replicas,
                "max_replicas": self.max_replicas,
                "target_ongoing_requests": target,
            }
        }


def application(
    load: Callable[[], Engine], settings: PoolSettings, serving: Serving, tokens: TokenSet | None = None
) -> Any:
    """Return the Ray Serve application, to be run by this process or by `serve deploy` on a cluster."""
    serve = _ray()[1]
    deployment = serve.deployment(**settings.options)(Replica)
    return deployment.bind(load, settings.max_sessions, serving, tokens)


def serve_pool(
    load: Callable[[], Engine],
    settings: PoolSettings,
    port: int,
    serving: Serving,
    tokens: TokenSet | None,
    stop: threading.Event,
    on_ready: Callable[[str, Address], None],
) -> None:
    """Deploy the replicas, say what they run and where, and serve until `stop` is set; then let streams end, and end.

    Args:
        load: returns the engine; runs in every replica's process.
        settings: of the pool.
        port: of the ingress; 0 takes a free one.
        serving: how an engine is shared.
        tokens: one of them opens a call; None asks for none.
        stop: ends it.
        on_ready: called with the LLM's description and the address once every replica has its weights.

    Raises:
        UihlmError: if Ray is not installed, or a replica cannot be started.
        UnavailableError: if the port is taken, or there is no Ray cluster at the address.
    """
    ray, serve = _ray()
    port = _free(port)
    # The names below are read when Ray's processes start.
    os.environ.setdefault("RAY_SERVE_GRPC_MAX_MESSAGE_SIZE", str(_MESSAGE_BYTES))
    try:
        ray.init(address=settings.address or "local", include_dashboard=False, log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UnavailableError(f"no Ray at {settings.address or 'this machine'}: {error}") from error
    try:
        if settings.address is None:
            _check_room(settings, ray.cluster_resources())
        serve.start(
            http_options={"host": "127.0.0.1", "port": _free(0)},
            grpc_options={"port": port, "grpc_servicer_functions": [REGISTER], "enable_reflection": False},
        )
        try:
            # Without a prefix the ingress finds no application, not even over gRPC.
            handle = serve.run(
                application(load, settings, serving, tokens), name=settings.application, route_prefix="/uihlm"
            )
            description = handle.description.remote().result(timeout_s=60.0)
        except (RuntimeError, ray.exceptions.RayError) as error:
            raise UihlmError(f"the replicas cannot be started: {error}") from error
        on_ready(description, Address(INGRESS_HOST, port))
        stop.wait()
        serve.delete(settings.application)
        if settings.address is None:
            serve.shutdown()
    finally:
        ray.shutdown()


def _check_room(settings: PoolSettings, room: dict[str, float]) -> None:
    """Refuse what would wait for ever on one machine; a cluster may grow."""
    for name, each in (("CPU", settings.cpus), ("GPU", settings.gpus)):
        if settings.replicas * each > room.get(name, 0.0):
            raise UihlmError(
                f"{settings.replicas} replicas with {each:g} {name} each do not fit on this machine, which has "
                f"{room.get(name, 0.0):g}: lower --replicas or --{name.lower()}s-per-replica, or join a cluster with "
                "--ray-address"
            )


def _free(port: int) -> int:
    """Return the port, or a free one for 0; UnavailableError if it is taken."""
    try:
        with socket.create_server((INGRESS_HOST, port), family=socket.AF_INET6, dualstack_ipv6=True) as probe:
            bound: int = probe.getsockname()[1]
            return bound
    except OSError as error:
        raise UnavailableError(
            f"cannot listen on port {port}: it is taken or not allowed; choose another with --port"
        ) from error


def _ray() -> tuple[Any, Any]:
    # A base station tells nobody that it is there; read when Ray is imported.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        from ray import serve
    except ImportError as error:
        raise UihlmError("--engine-pool ray needs Ray Serve: pip install 'uihlm[ray]'") from error
    return ray, serve
