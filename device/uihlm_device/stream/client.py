"""The device's end of the wire: a connection to a base station, on which sessions are opened (remote_session.py)."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Sequence
from typing import Any

import grpc

from uihlm_device.stream.channel import Channel
from uihlm_device.stream.contract import Contract
from uihlm_device.stream.remote_session import RemoteSession
from uihlm_device.stream.statuses import domain_error
from uihlm_proto.errors import UnavailableError
from uihlm_proto.v1 import verification_pb2 as pb


class Connection(Channel):
    """A channel to one base station and what can be asked on it."""

    def session(self, contract: Contract) -> RemoteSession:
        """Return a new session; nothing is sent before its `open`."""
        return RemoteSession(self, contract)

    def score(self, contract: Contract, context_ids: Sequence[int], target_ids: Sequence[int]) -> list[float]:
        """Return the LLM's log-probability of each target id at temperature 1 given all before it."""
        request = pb.ScoreRequest(
            tokenizer_fingerprint=contract.fingerprint, context_ids=context_ids, target_ids=target_ids
        )

        async def call() -> Any:
            return await self.stub.Score(request, timeout=self.timeout_s, metadata=self.metadata)

        try:
            return list(self.run(call()).log_probabilities)
        except grpc.aio.AioRpcError as error:
            raise domain_error(error, self.target) from error
        except concurrent.futures.CancelledError:
            raise UnavailableError("the connection was closed on this side while tokens were scored") from None
