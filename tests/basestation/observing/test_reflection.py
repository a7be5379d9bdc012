"""Reflection: off unless asked for."""

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from fakes import FakeEngine, contextual
from stations import RawClient, standing

V = 12


def services(raw: RawClient) -> list[str]:
    stub = reflection_pb2_grpc.ServerReflectionStub(raw.channel)
    (answer,) = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=10)
    return sorted(service.name for service in answer.list_services_response.service)


def test_reflection_names_the_services():
    with standing(FakeEngine(contextual(V, 1), V), reflection=True) as station, RawClient(station.address) as raw:
        assert services(raw) == [
            "grpc.health.v1.Health",
            "grpc.reflection.v1alpha.ServerReflection",
            "uihlm.v1.VerificationService",
        ]


def test_no_reflection_by_default():
    with (
        standing(FakeEngine(contextual(V, 1), V)) as station,
        RawClient(station.address) as raw,
        pytest.raises(grpc.RpcError) as refused,
    ):
        services(raw)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
