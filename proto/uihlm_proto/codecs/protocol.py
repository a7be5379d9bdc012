"""What a codec is: both ends' view of one uplink format."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


class Judge(enum.Enum):
    """The two acceptance rules a codec can ask for (basestation/uihlm_basestation/verification.py)."""

    RESIDUAL = "residual"
    COUPLED = "coupled"


@dataclass(frozen=True, slots=True)
class CodedDraft:
    """A draft token as drawn by a codec.

    Attributes:
        token: the draft d.
        x_hat: the distribution d was drawn from, `[V]`.
        encode: makes the payload; called for uploaded drafts only.
    """

    token: int
    x_hat: FloatArray
    encode: Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class ReceivedDraft:
    """A draft token as the base station decodes it; `x_hat` is None where the codec does not send it."""

    token: int
    x_hat: FloatArray | None


class Codec(Protocol):
    """One uplink format: both ends' view of it."""

    @property
    def name(self) -> str:
        """Its name on the wire, parameters included."""

    @property
    def vocabulary_size(self) -> int:
        """V."""

    @property
    def judge(self) -> Judge:
        """The acceptance rule that fits what it sends."""

    def draft(self, x: FloatArray, key: bytes, position: int) -> CodedDraft:
        """Draw the token at `position` from x `[V]` as the codec quantises it."""

    def decode(self, payload: bytes) -> ReceivedDraft:
        """Read one payload; InvalidRequestError says what is wrong with a bad one."""

    def model_bit(self, drafts: int, payload_bit: int, b_prob: int | None) -> int:
        """Return the billed bits of an upload: the paper's B = V·b_prob a draft, or the payload for compact codecs."""

    @property
    def max_payload_bytes(self) -> int:
        """The largest payload of one draft."""
