"""gRPC reflection: a server that says what its services are, for tools that hold no stubs (grpcurl, grpcui)."""

from __future__ import annotations

import grpc
from grpc_health.v1 import health_pb2

from uihlm_proto.errors import UihlmError
from uihlm_proto.v1 import verification_pb2


def reflect(server: grpc.aio.Server) -> None:
    """Add the reflection service to a server that has not started; it tells method and message names, never data.

    Raises:
        UihlmError: if grpcio-reflection is not installed.
    """
    try:
        from grpc_reflection.v1alpha import reflection
    except ImportError as error:
        raise UihlmError("reflection needs grpcio-reflection: pip install 'uihlm[ops]'") from error
    services = [
        service.full_name
        for module in (verification_pb2, health_pb2)
        for service in module.DESCRIPTOR.services_by_name.values()
    ]
    reflection.enable_server_reflection([*services, reflection.SERVICE_NAME], server)
