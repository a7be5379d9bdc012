"""What a message of each kind weighs and how long it is on the air: the same messages, meter and link as in a run."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from uihlm_proto.codecs import Codec
from uihlm_proto.v1 import verification_pb2 as pb
from uihlm_wireless.fading import FadingMode
from uihlm_wireless.meter import upload_bit, wire_bytes
from uihlm_wireless.settings import LinkSettings

# Messages that a mean airtime is of, where the link is not steady.
_DRAWS = 256

# A round, position and epoch as long answers have them: protobuf writes small numbers in fewer bytes.
_ROUND, _POSITION, _EPOCH, _POSITIONS = 200, 200, 20, 2


class Sizes:
    """Messages of one codec."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        x = 1.0 / np.arange(1, codec.vocabulary_size + 1)
        self._payload = codec.draft(x / x.sum(), bytes(16), 0).encode()
        self._weights: dict[tuple[int, int, bool, int | None], tuple[int, int, int]] = {}
        self._verdicts: dict[tuple[int, bool], int] = {}

    def payload_bit(self, drafts: int, skipped: float = 0.0) -> float:
        """Return the payload bits of an upload of so many drafts, after a mean number of skipped ids."""
        return self._between(skipped, lambda count: self._upload(drafts, count, False, None)[1])

    def airtime_s(self, link: LinkSettings, drafts: int, skipped: float = 0.0, tree: bool = False) -> float:
        """Return the mean seconds on the air of an upload of so many drafts, after a mean number of skipped ids."""

        def seconds(count: int) -> float:
            model_bit, _, weight = self._upload(drafts, count, tree, link.b_prob)
            return mean_airtime_s(link, link.uplink_bit(model_bit, weight))

        return self._between(skipped, seconds)

    def downlink_s(self, link: LinkSettings, drafts: int, tree: bool = False) -> float:
        """Return the seconds that the verdict on so many drafts takes to come down; 0 drafts: one of `llm`."""
        return link.downlink_airtime_s(8 * self._verdict(drafts, tree))

    def _between(self, count: float, value: Callable[[int], float]) -> float:
        low = int(count)
        share = count - low
        below = value(low)
        return below if share == 0.0 else below + share * (value(low + 1) - below)

    def _upload(self, drafts: int, skipped: int, tree: bool, b_prob: int | None) -> tuple[int, int, int]:
        """Return model bits, payload bits and wire bytes."""
        key = drafts, skipped, tree, b_prob
        if key not in self._weights:
            upload = pb.Upload(
                round=_ROUND,
                epoch=_EPOCH,
                first_position=_POSITION,
                skipped_ids=[self._codec.vocabulary_size // 2] * skipped,
                drafts=[pb.Draft(payload=self._payload)] * drafts,
                parents=[node - 1 for node in range(drafts)] if tree else [],
                generate=0 if drafts else _POSITION,
            )
            size = pb.VerifyRequest(upload=upload).ByteSize()
            model_bit, payload_bit = upload_bit(upload, self._codec, b_prob)
            self._weights[key] = model_bit if drafts else 0, payload_bit, wire_bytes(size)
        return self._weights[key]

    def _verdict(self, drafts: int, tree: bool) -> int:
        """Return wire bytes."""
        if (drafts, tree) not in self._verdicts:
            path = list(range(min(drafts, _POSITIONS))) if tree else []
            verdict = pb.Verdict(
                round=_ROUND,
                accepted=0 if tree else drafts // 2,
                token_id=self._codec.vocabulary_size // 2,
                y_d=[0.5] * (len(path) if tree else drafts),
                path=path,
                cost=pb.Cost(forward_s=0.01, queue_s=0.001, forwards=1, positions=drafts + 1),
            )
            self._verdicts[drafts, tree] = wire_bytes(pb.VerifyResponse(verdict=verdict).ByteSize())
        return self._verdicts[drafts, tree]


@functools.lru_cache(maxsize=4096)
def mean_airtime_s(link: LinkSettings, bit: int) -> float:
    """Return the mean seconds that so many bits are on the air: exact on a steady link, else over drawn fades or places of a
    trace."""
    steady = link.trace is None and (link.fading is FadingMode.NONE or link.radio is None)
    keys = [draw.to_bytes(16, "little") for draw in range(1 if steady else _DRAWS)]
    return sum(link.uplink(key, 0.0).airtime_s(bit, 0.0) for key in keys) / len(keys)
