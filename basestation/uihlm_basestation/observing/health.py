"""Health checks at a port of their own, for whoever starts and stops base stations (`grpc.health.v1.Health`).

A check at the base station's own port is a call among the devices' messages: it needs their credentials' TLS, and it queues
behind everything that grpc.aio has not handed to the event loop yet, a tenth of a second where hundreds of sessions never
pause. This port is served by threads of its own, speaks no TLS (orchestrators' probes show no certificates), and answers a
check only once the base station's event loop has taken a turn: a loop that hangs is not SERVING.
"""

from __future__ import annotations

import asyncio
import concurrent.futures

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from uihlm_proto.addresses import Address
from uihlm_proto.errors import UnavailableError

# A loop that takes no turn for so long hangs.
_STUCK_S = 5.0
# Watchers that stay, and checks under way.
_MOST_CALLS = 64


class _Servicer(health.HealthServicer):  # type: ignore[misc]
    """grpc's own health, asked through the event loop."""

    def __init__(self) -> None:
        super().__init__()
        self.loop: asyncio.AbstractEventLoop | None = None

    def Check(  # noqa: N802 (the name is the protocol's)
        self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext
    ) -> health_pb2.HealthCheckResponse:
        """Answer once the loop has taken a turn."""
        answer: health_pb2.HealthCheckResponse = super().Check(request, context)
        if answer.status == health_pb2.HealthCheckResponse.SERVING and not self._turns():
            return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.NOT_SERVING)
        return answer

    def _turns(self) -> bool:
        """Return whether the loop takes a turn while we wait."""
        turned: concurrent.futures.Future[None] = concurrent.futures.Future()
        try:
            assert self.loop is not None, "nothing is SERVING before there is a loop"
            self.loop.call_soon_threadsafe(turned.set_result, None)
            turned.result(_STUCK_S)
        except (TimeoutError, RuntimeError):  # RuntimeError: the loop is closed
            return False
        return True


class HealthPort:
    """A server of health checks alone: NOT_SERVING until a base station says otherwise.

    Attributes:
        address: where it listens.

    Raises:
        UnavailableError: if the port cannot be bound; 0 takes a free one.
    """

    def __init__(self, host: str, port: int) -> None:
        wanted = Address(host, port)
        self._servicer = _Servicer()
        self._servicer.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
        threads = concurrent.futures.ThreadPoolExecutor(2, thread_name_prefix="health")
        options = [("grpc.so_reuseport", 0)]
        self._server = grpc.server(threads, options=options, maximum_concurrent_rpcs=_MOST_CALLS)
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, self._server)
        try:
            bound = self._server.add_insecure_port(str(wanted))
        except RuntimeError as error:
            raise UnavailableError(
                f"cannot answer health checks on {wanted}: the port is taken or not allowed; choose another with "
                "--health-port"
            ) from error
        self._server.start()
        self.address = Address(host, bound)

    def set(self, service: str, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        """Say how a service is, on the base station's event loop: the one that checks ask from now on."""
        self._servicer.loop = asyncio.get_running_loop()
        self._servicer.set(service, status)

    def close(self) -> None:
        """Answer no more."""
        self._server.stop(None).wait()
