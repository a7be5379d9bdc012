"""The base station's process: a grpc.aio server, health, and a shutdown that lets rounds finish."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from uihlm_basestation.batcher import Batcher
from uihlm_basestation.counters import EnergyCounters
from uihlm_basestation.engines.engine import Engine
from uihlm_basestation.observing.engine import observed_engine
from uihlm_basestation.observing.health import HealthPort
from uihlm_basestation.observing.reflection import reflect
from uihlm_basestation.observing.servicer import ObservedServicer
from uihlm_basestation.observing.telemetry import Telemetry
from uihlm_basestation.servicer import VerificationServicer
from uihlm_basestation.serving import DEFAULT_SESSIONS, DEFAULTS, Serving
from uihlm_basestation.trust.guard import Guard
from uihlm_basestation.trust.settings import PRIVATE, Trust
from uihlm_proto.addresses import Address
from uihlm_proto.errors import UnavailableError
from uihlm_proto.limits import max_request_bytes, max_response_bytes
from uihlm_proto.v1 import verification_pb2_grpc as pb_grpc

SERVICE = "uihlm.v1.VerificationService"


class BaseStation:
    """A served engine. Health says NOT_SERVING before `start` has returned and once `stop` is called."""

    def __init__(
        self,
        engine: Engine,
        max_sessions: int = DEFAULT_SESSIONS,
        telemetry: Telemetry | None = None,
        reflection: bool = False,
        trust: Trust = PRIVATE,
        serving: Serving = DEFAULTS,
        counters: EnergyCounters | None = None,
        health_port: HealthPort | None = None,
    ) -> None:
        """Prepare to serve.

        Args:
            engine: the LLM.
            max_sessions: devices served at once.
            telemetry: listens to rounds and forwards; None costs a round nothing.
            reflection: tell any client what the services' methods and messages are.
            trust: transport, credentials and limits.
            serving: how the engine is shared.
            counters: of joules, which then ride on the answers; None measures none.
            health_port: answers health checks too; whoever opened it closes it.
        """
        self._trust = trust
        if telemetry is not None:
            engine = observed_engine(engine, telemetry)
        self._engine = engine
        self._batcher = Batcher(engine, chunk=serving.chunk, max_batch=serving.max_batch, counters=counters)
        self._servicer = VerificationServicer(engine, self._batcher, max_sessions, serving.idle_s)
        self._health = health.aio.HealthServicer()
        self._health_port = health_port
        self._server = grpc.aio.server(
            interceptors=[Guard(trust)],
            options=[
                # A dense draft of a large vocabulary is near gRPC's default limit of 4 MiB; -1 would let anyone fill memory.
                ("grpc.max_receive_message_length", max_request_bytes(engine.vocabulary_size, engine.max_context)),
                ("grpc.max_send_message_length", max_response_bytes(engine.max_context)),
                # Two base stations on one port would share devices at random.
                ("grpc.so_reuseport", 0),
                # A device behind a dead link is noticed within a minute, so that its session is freed.
                ("grpc.keepalive_time_ms", 30_000),
                ("grpc.keepalive_timeout_ms", 20_000),
                # A device asks whether the link lives as well (uihlm_device/stream/channel.py), every ten seconds.
                ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
                # One connection cannot open streams without end that say nothing.
                ("grpc.max_concurrent_streams", 1024),
            ],
        )
        served: pb_grpc.VerificationServiceServicer = self._servicer
        if telemetry is not None:
            served = ObservedServicer(served, telemetry, engine.vocabulary_size)
        pb_grpc.add_VerificationServiceServicer_to_server(served, self._server)  # type: ignore[no-untyped-call]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if reflection:
            reflect(self._server)

    @property
    def sessions(self) -> int:
        """Sessions open now."""
        return self._servicer.sessions

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> Address:
        """Listen, report SERVING and return the bound address; port 0 takes a free one.

        Raises:
            AccessError: if other machines could reach it without TLS, or the TLS files do not do.
            UnavailableError: if the port cannot be bound.
        """
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        wanted = Address(host, port)
        try:
            bound = self._trust.listen(self._server, host, str(wanted))
        except RuntimeError as error:
            raise UnavailableError(
                f"cannot listen on {wanted}: the port is taken or not allowed; choose another with --port"
            ) from error
        await self._server.start()
        await self._set_health(health_pb2.HealthCheckResponse.SERVING)
        return Address(host, bound)

    async def stop(self, grace_s: float = 10.0) -> None:
        """Send idle sessions away, give rounds under way `grace_s` seconds, then cancel them and stop the engine's thread."""
        self._servicer.drain()
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        await self._server.stop(grace_s)
        await self._batcher.close()

    async def _set_health(self, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        for name in ("", SERVICE):
            await self._health.set(name, status)
            if self._health_port is not None:
                self._health_port.set(name, status)


async def serve(
    engine: Engine,
    host: str,
    port: int,
    max_sessions: int,
    grace_s: float,
    on_ready: Callable[[Address], None],
    telemetry: Telemetry | None = None,
    reflection: bool = False,
    trust: Trust = PRIVATE,
    serving: Serving = DEFAULTS,
    counters: EnergyCounters | None = None,
    health_port: HealthPort | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain: not serving, finish the rounds, stop."""
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    station = BaseStation(engine, max_sessions, telemetry, reflection, trust, serving, counters, health_port)
    on_ready(await station.start(host, port))
    await asked.wait()
    await station.stop(grace_s)
