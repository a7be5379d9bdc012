"""The metrics page read back: counts and histograms of one base station, and the difference of two readings.

A quantile is read from cumulative buckets, linear inside the bucket it falls into, so it is as fine as the buckets are.
"""

from __future__ import annotations

import math
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass

from uihlm_proto.errors import UihlmError, UnavailableError


@dataclass(frozen=True, slots=True)
class Distribution:
    """A histogram.

    Attributes:
        count, total: observations and their sum.
        bounds: upper ends of the buckets, the last one infinite.
        cumulative: observations up to each of them.
    """

    count: float = 0.0
    total: float = 0.0
    bounds: tuple[float, ...] = ()
    cumulative: tuple[float, ...] = ()

    @property
    def mean(self) -> float | None:
        """Their mean; None without any."""
        return self.total / self.count if self.count else None

    def quantile(self, q: float) -> float | None:
        """Return the value that a share `q` does not exceed; None without observations, the last finite bound beyond it."""
        if not self.count:
            return None
        rank = q * self.count
        below, low = 0.0, 0.0
        for bound, upto in zip(self.bounds, self.cumulative, strict=True):
            if math.isinf(bound):
                return low
            if upto >= rank and upto > below:
                return low + (bound - low) * (rank - below) / (upto - below)
            below, low = upto, bound
        return low

    def since(self, earlier: Distribution) -> Distribution:
        """Return what came after an earlier reading of the same histogram."""
        if len(earlier.cumulative) != len(self.cumulative):
            return self
        return Distribution(
            self.count - earlier.count,
            self.total - earlier.total,
            self.bounds,
            tuple(a - b for a, b in zip(self.cumulative, earlier.cumulative, strict=True)),
        )


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at a base station; of a difference, `seconds` is the time between the two.

    Attributes:
        engine, version: what is served.
        seconds: age of the process.
        memory_bytes: its resident memory; 0 where the system does not tell.
        sessions: standing now.
        ended, refused: streams that ended, and those of them with a status other than OK and CANCELLED.
        rounds: uploads answered.
        accepted, rejected, generated, skipped: tokens, as `Round` has them.
        payload_bit, up_bytes, down_bytes: payload bits, and protobuf messages in both directions.
        round_s, queue_s, forward_s: seconds of rounds, of waits for the engine, and of whole forwards.
        batch: sessions in a forward.
    """

    engine: str
    version: str
    seconds: float
    memory_bytes: float
    sessions: float
    ended: float
    refused: float
    rounds: float
    accepted: float
    rejected: float
    generated: float
    skipped: float
    payload_bit: float
    up_bytes: float
    down_bytes: float
    round_s: Distribution
    queue_s: Distribution
    forward_s: Distribution
    batch: Distribution

    @classmethod
    def of(cls, text: str, now_s: float) -> Reading:
        """Read a page; `now_s` is the time of day it was fetched at, in seconds since 1970.

        Raises:
            UihlmError: if it is not the page of a base station, or prometheus-client is not installed.
        """
        page = _Page(text)
        streams = page.by_label("uihlm_streams_total", "status")
        return cls(
            engine=page.label("uihlm_info", "engine"),
            version=page.label("uihlm_info", "version"),
            seconds=now_s - page.value("uihlm_start_time_seconds", default=now_s),
            memory_bytes=page.value("process_resident_memory_bytes", default=0.0),
            sessions=page.value("uihlm_sessions"),
            ended=sum(streams.values()),
            refused=sum(count for status, count in streams.items() if status not in ("OK", "CANCELLED")),
            rounds=sum(
                count
                for kind, count in page.by_label("uihlm_rounds_total", "kind").items()
                if kind not in ("open", "score")
            ),
            accepted=page.value("uihlm_drafts_total", verdict="accepted"),
            rejected=page.value("uihlm_drafts_total", verdict="rejected"),
            generated=page.value("uihlm_tokens_total", origin="generated"),
            skipped=page.value("uihlm_tokens_total", origin="skipped"),
            payload_bit=page.value("uihlm_payload_bits_total"),
            up_bytes=page.value("uihlm_message_bytes_total", direction="up"),
            down_bytes=page.value("uihlm_message_bytes_total", direction="down"),
            round_s=page.distribution("uihlm_round_seconds"),
            queue_s=page.distribution("uihlm_queue_seconds"),
            forward_s=page.distribution("uihlm_forward_seconds"),
            batch=page.distribution("uihlm_batch_sessions"),
        )

    def since(self, earlier: Reading) -> Reading | None:
        """Return what happened after an earlier reading; None where the process began anew in between."""
        if self.seconds <= earlier.seconds or self.ended < earlier.ended or self.rounds < earlier.rounds:
            return None
        return Reading(
            self.engine,
            self.version,
            self.seconds - earlier.seconds,
            self.memory_bytes,
            self.sessions,
            self.ended - earlier.ended,
            self.refused - earlier.refused,
            self.rounds - earlier.rounds,
            self.accepted - earlier.accepted,
            self.rejected - earlier.rejected,
            self.generated - earlier.generated,
            self.skipped - earlier.skipped,
            self.payload_bit - earlier.payload_bit,
            self.up_bytes - earlier.up_bytes,
            self.down_bytes - earlier.down_bytes,
            self.round_s.since(earlier.round_s),
            self.queue_s.since(earlier.queue_s),
            self.forward_s.since(earlier.forward_s),
            self.batch.since(earlier.batch),
        )


class _Page:
    """The samples of a page, by name."""

    def __init__(self, text: str) -> None:
        try:
            from prometheus_client.parser import text_string_to_metric_families
        except ImportError as error:
            raise UihlmError("reading metrics needs prometheus-client: pip install 'uihlm[ops]'") from error
        try:
            samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        except ValueError as error:
            raise UihlmError(f"this is no metrics page: {error}") from error
        self._samples: dict[str, list[tuple[dict[str, str], float]]] = {}
        for sample in samples:
            self._samples.setdefault(sample.name, []).append((sample.labels, float(sample.value)))

    def _of(self, name: str) -> Sequence[tuple[dict[str, str], float]]:
        try:
            return self._samples[name]
        except KeyError:
            raise UihlmError(f"the page has no {name}: it is not that of a base station of this version") from None

    def value(self, name: str, default: float | None = None, **labels: str) -> float:
        if default is not None and name not in self._samples:
            return default
        return sum(value for own, value in self._of(name) if labels.items() <= own.items())

    def label(self, name: str, label: str) -> str:
        return self._of(name)[0][0].get(label, "")

    def by_label(self, name: str, label: str) -> dict[str, float]:
        # A counter whose labels come with events has no samples before the first one.
        return {own[label]: value for own, value in self._samples.get(name, ())}

    def distribution(self, name: str) -> Distribution:
        buckets = sorted((float(own["le"]), value) for own, value in self._of(f"{name}_bucket"))
        bounds, cumulative = zip(*buckets, strict=True)
        return Distribution(self.value(f"{name}_count"), self.value(f"{name}_sum"), bounds, cumulative)


def fetch(url: str, timeout_s: float) -> str:
    """Return the page at a URL.

    Raises:
        UnavailableError: if nobody answers there, or not with a page.
    """
    # A proxy from the environment has no business between two ends of one machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=timeout_s) as answer:
            page: bytes = answer.read()
    except (OSError, ValueError, urllib.error.URLError) as error:
        raise UnavailableError(
            f"no metrics at {url}: start the base station with --metrics-port, or check --metrics ({error})"
        ) from error
    return page.decode("utf-8", "replace")
