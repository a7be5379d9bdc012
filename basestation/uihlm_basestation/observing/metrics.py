"""Prometheus metrics of one base station, on an HTTP port of their own.

Totals, and histograms of seconds and batch sizes. No label names a device, a session or a token: the labels are the kinds of
rounds, the verdicts and the gRPC statuses. `prometheus_client` is imported where metrics are asked for, and nowhere else.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

from uihlm_basestation.observing.telemetry import Ending, Forward, Round, RoundKind
from uihlm_proto.addresses import Address
from uihlm_proto.errors import UihlmError, UnavailableError

PATH = "/metrics"

# From a fake engine's round to a prefill that a phone would give up on, about a factor of two apart.
SECONDS = (
    *(0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256),
    *(0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0),
)
BATCH = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
POSITIONS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)


class PrometheusTelemetry:
    """Counts what it is told (`uihlm_basestation.observing.telemetry.Telemetry`) in a registry of its own."""

    def __init__(self, engine: str) -> None:
        """Make the metrics; `engine` describes the LLM.

        Raises:
            UihlmError: if prometheus-client is not installed.
        """
        try:
            from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
        except ImportError as error:
            raise UihlmError("metrics need prometheus-client: pip install 'uihlm[ops]'") from error
        # Not the global registry: it would hold whatever else the process imports, and one server's numbers only once.
        self.registry: Any = CollectorRegistry()
        ProcessCollector(registry=self.registry)

        def counter(name: str, text: str, label: str) -> Any:
            return Counter(name, text, [label], registry=self.registry)

        def seconds(name: str, text: str, buckets: tuple[float, ...] = SECONDS) -> Any:
            return Histogram(name, text, buckets=buckets, registry=self.registry)

        Info("uihlm", "What is served.", registry=self.registry).info({"version": version("uihlm"), "engine": engine})
        # Of our own: where there is no /proc, the collector above tells no start.
        Gauge("uihlm_start_time_seconds", "When this began, seconds since 1970.", registry=self.registry).set(
            time.time()
        )
        self._sessions = Gauge("uihlm_sessions", "Sessions that stand now.", registry=self.registry)
        self._streams = counter("uihlm_streams", "Streams that ended, by gRPC status.", "status")
        rounds = counter("uihlm_rounds", "Rounds answered, by what they were for.", "kind")
        drafts = counter("uihlm_drafts", "Drafts judged; accepted / all of them is the acceptance rate.", "verdict")
        tokens = counter(
            "uihlm_tokens", "Tokens written by the LLM alone, and those committed without asking.", "origin"
        )
        # Every child is made now: a series that appears with its first event has no rate for it.
        self._rounds = {kind: rounds.labels(kind.value) for kind in RoundKind}
        self._accepted, self._rejected = drafts.labels("accepted"), drafts.labels("rejected")
        self._generated, self._skipped = tokens.labels("generated"), tokens.labels("skipped")
        self._payload = Counter(
            "uihlm_payload_bits", "Uplink payload: codec bytes, skipped ids, audit bytes.", registry=self.registry
        )
        messages = counter("uihlm_message_bytes", "Protobuf messages, without frames.", "direction")
        self._up, self._down = messages.labels("up"), messages.labels("down")
        self._round_s = seconds("uihlm_round_seconds", "From a request's arrival to its last answer.")
        self._queue_s = seconds("uihlm_queue_seconds", "A round's waits for the engine.")
        self._share_s = seconds("uihlm_share_seconds", "A round's share of forwards, by positions.")
        self._forward_s = seconds("uihlm_forward_seconds", "Whole forwards of the LLM.")
        self._batch = seconds("uihlm_batch_sessions", "Sessions in one forward.", BATCH)
        self._positions = seconds("uihlm_batch_positions", "Token positions in one forward.", POSITIONS)
        self._failed = Counter("uihlm_failed_forwards", "Forwards that raised.", registry=self.registry)

    def opened(self) -> None:
        """Count a session in."""
        self._sessions.inc()

    def round(self, round: Round) -> None:
        """Count a round and what it carried."""
        self._rounds[round.kind].inc()
        self._round_s.observe(round.seconds)
        self._up.inc(round.request_bytes)
        self._down.inc(round.answer_bytes)
        if round.forwards:
            self._queue_s.observe(round.queue_s)
            self._share_s.observe(round.forward_s)
        if round.payload_bit:
            self._payload.inc(round.payload_bit)
        for count, amount in (
            (self._accepted, round.accepted),
            (self._rejected, round.rejected),
            (self._generated, round.generated),
            (self._skipped, round.skipped),
        ):
            if amount:
                count.inc(amount)

    def ended(self, ending: Ending) -> None:
        """Count a stream out."""
        if ending.stood:
            self._sessions.dec()
        self._streams.labels(ending.status).inc()

    def forward(self, forward: Forward) -> None:
        """Count a forward."""
        if forward.failed:
            self._failed.inc()
            return
        self._forward_s.observe(forward.seconds)
        self._batch.observe(forward.sessions)
        self._positions.observe(forward.positions)


@contextlib.contextmanager
def exposed(telemetry: PrometheusTelemetry, host: str, port: int) -> Iterator[Address]:
    """Answer GET /metrics from a thread while the block runs, and yield the bound address; port 0 takes a free one.

    Raises:
        UnavailableError: if the port cannot be bound.
    """
    from prometheus_client import start_http_server

    try:
        server, thread = start_http_server(port, host, telemetry.registry)
    except OSError as error:
        raise UnavailableError(
            f"cannot serve metrics on {Address(host, port)}: the port is taken or not allowed; choose another with "
            "--metrics-port"
        ) from error
    try:
        yield Address(host, server.server_port)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
