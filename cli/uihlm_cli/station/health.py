"""`uihlm-bs health`: asks a base station for its gRPC health, as a container's health check does."""

from __future__ import annotations

import click

from uihlm_cli.errors import reported
from uihlm_proto.errors import UnavailableError


@click.command("health")
@click.option(
    "--server",
    metavar="HOST:PORT",
    default="127.0.0.1:50051",
    show_default=True,
    show_envvar=True,
    help="The base station to ask.",
)
@click.option(
    "--timeout-s",
    type=click.FloatRange(0.1),
    default=5.0,
    show_default=True,
    show_envvar=True,
    help="Wait so long for the answer, seconds.",
)
def command(server: str, timeout_s: float) -> None:
    """Say whether a base station serves: its weights are in, and it takes new sessions.

    Prints SERVING and exits 0, or exits 4 with the reason. It speaks without TLS, as a check from inside the machine does.

    \b
      uihlm-bs health
      uihlm-bs health --server 127.0.0.1:6000 --timeout-s 1
    """
    with reported():
        click.echo(status_of(server, timeout_s))


def status_of(server: str, timeout_s: float) -> str:
    """Return SERVING; UnavailableError says what else was answered, or that nothing was."""
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    # A proxy from the environment has no business between two ends of one machine.
    with grpc.insecure_channel(server, options=[("grpc.enable_http_proxy", 0)]) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=timeout_s)
        except grpc.RpcError as error:
            raise UnavailableError(
                f"no base station answers at {server}: {error.code().name}, {error.details()}"
            ) from error
    name: str = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        raise UnavailableError(f"the base station at {server} is {name}: it is loading, or shutting down")
    return name
