"""A link between a grpc.aio server and its client in one event loop."""

import asyncio
import time

import grpc

from uihlm_proto.randomness import session_key
from uihlm_proto.v1 import verification_pb2 as pb
from uihlm_proto.v1 import verification_pb2_grpc as pb_grpc
from uihlm_wireless.channel import RadioLink
from uihlm_wireless.interceptor import LinkInterceptor
from uihlm_wireless.ledger import Ledger
from uihlm_wireless.link import Link
from uihlm_wireless.settings import LinkSettings
from uihlm_wireless.timing import TimingProfile

V = 100
# 0 dB at 100 kHz: 100 kbit/s; a dense32 draft of V = 100 takes 32 ms.
RADIO = RadioLink(bandwidth_hz=1e5, transmit_power_dbm=0.0, noise_dbm=0.0, distance_m=1.0)
SETTINGS = LinkSettings(radio=RADIO, rtt_s=0.04, grant_delay_s=0.01, downlink=RADIO)


class Servicer(pb_grpc.VerificationServiceServicer):
    """Accepts everything, says 5 ms of forward; notes what arrived and when."""

    def __init__(self):
        self.arrived = []
        self.ended = asyncio.Event()

    async def Verify(self, request_iterator, context):
        try:
            async for request in request_iterator:
                self.arrived.append((time.monotonic(), request))
                cost = pb.Cost(forward_s=0.005, queue_s=0.0, forwards=1, positions=1)
                if request.WhichOneof("message") == "open":
                    yield pb.VerifyResponse(ready=pb.Ready(round=request.open.round, max_context=99, cost=cost))
                elif request.upload.generate:
                    for n in range(request.upload.generate):
                        last = n == request.upload.generate - 1
                        yield pb.VerifyResponse(
                            verdict=pb.Verdict(round=request.upload.round, token_id=n, last=last, cost=cost)
                        )
                elif request.upload.epoch == 99:
                    await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no such epoch")
                elif request.upload.epoch == 98:
                    yield pb.VerifyResponse(verdict=pb.Verdict(round=12345))
                else:
                    yield pb.VerifyResponse(verdict=pb.Verdict(round=request.upload.round, accepted=1, cost=cost))
        finally:
            self.ended.set()

    async def Score(self, request, context):
        return pb.ScoreResponse(log_probabilities=[-1.0])


def opening(round_=1, codec="dense32"):
    return pb.VerifyRequest(
        open=pb.Open(round=round_, vocabulary_size=V, prefix_ids=[1, 2], codec=codec, session_key=session_key(0, 0))
    )


def draft(round_, skipped=0, **more):
    payload = bytes(1 + 4 * V)
    return pb.VerifyRequest(
        upload=pb.Upload(round=round_, skipped_ids=[3] * skipped, drafts=[pb.Draft(payload=payload)], **more)
    )


class Bench:
    """Server, channel and link in one event loop."""

    def __init__(self, clock, settings=SETTINGS, timing=None):
        self.clock = clock
        self.ledger = Ledger()
        self.link = Link(settings, clock, timing or TimingProfile())
        self.servicer = Servicer()

    async def __aenter__(self):
        self.server = grpc.aio.server()
        pb_grpc.add_VerificationServiceServicer_to_server(self.servicer, self.server)
        port = self.server.add_insecure_port("127.0.0.1:0")
        await self.server.start()
        self.channel = grpc.aio.insecure_channel(
            f"127.0.0.1:{port}", interceptors=[LinkInterceptor(self.link, self.ledger)]
        )
        await asyncio.wait_for(self.channel.channel_ready(), 10)
        self.stub = pb_grpc.VerificationServiceStub(self.channel)
        return self

    async def __aexit__(self, *_):
        await self.channel.close()
        await self.server.stop(0)

    async def waiting(self, requests):
        """Send each request once the one before is answered, as the decode loop does; return the answers."""
        outbox, answers = asyncio.Queue(), []

        async def outgoing():
            while (request := await outbox.get()) is not None:
                yield request

        outbox.put_nowait(requests[0])
        left = iter(requests[1:])
        async for response in self.stub.Verify(outgoing()):
            answers.append(response)
            kind = response.WhichOneof("message")
            answer = getattr(response, kind)
            self.clock.wait_until(self.clock.verdict_at(answer.round))
            if kind == "ready" or answer.accepted or answer.last:
                self.clock.advance(0.002)
                outbox.put_nowait(next(left, None))
        return answers


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 20))
