"""`uihlm-bs health`: asks a base station for its gRPC health, as a container's health check does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from uihlm_cli.errors import reported
from uihlm_cli.options.flags import FILE, option
from uihlm_proto.errors import UnavailableError

if TYPE_CHECKING:
    from uihlm_device.stream.access import Access


@click.command("health")
@option("--server", metavar="HOST:PORT", default="127.0.0.1:50051", help="The base station to ask.")
@option("--timeout-s", type=click.FloatRange(0.1), default=5.0, help="Wait so long for the answer, seconds.")
@option("--tls-ca", type=FILE, help="Ask over TLS, and believe these authorities, PEM.")
@option("--tls-cert", type=FILE, help="Certificate chain to show under mTLS, PEM.")
@option("--tls-key", type=FILE, help="Private key of --tls-cert, PEM, without a password.")
def command(server: str, timeout_s: float, tls_ca: Path | None, tls_cert: Path | None, tls_key: Path | None) -> None:
    """Say whether a base station serves: its weights are in, and it takes new sessions.

    Prints SERVING and exits 0, or exits 4 with the reason. Health takes no token; a base station with TLS is asked over TLS.

    \b
      uihlm-bs health
      uihlm-bs health --server 127.0.0.1:6000 --timeout-s 1
      uihlm-bs health --server bs.example:50051 --tls-ca ca.pem
    """
    if (tls_cert is None) != (tls_key is None) or (tls_cert is not None and tls_ca is None):
        raise click.UsageError("--tls-cert and --tls-key go together, with --tls-ca: give all, or --tls-ca alone")
    from uihlm_device.stream.access import Access

    with reported():
        click.echo(status_of(server, timeout_s, Access(tls_ca is not None, tls_ca, tls_cert, tls_key)))


def status_of(server: str, timeout_s: float, access: Access) -> str:
    """Return SERVING; UnavailableError says what else was answered, or that nothing was."""
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    # A proxy from the environment has no business between two ends of one machine.
    options = [("grpc.enable_http_proxy", 0)]
    credentials = access.credentials()
    if credentials is None:
        channel = grpc.insecure_channel(server, options)
    else:
        channel = grpc.secure_channel(server, credentials, options)
    with channel:
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
