"""Uplink codecs: what a draft token costs on the air.

The order is always: quantise x to x̂, draw d from x̂, send the very bytes x̂ was made from. The acceptance rule then sees the
distribution d really came from, and speculative sampling stays exact whatever the codec throws away. (Drawing first and
truncating after is biased; tests/losslessness shows it.)

codec       payload of one draft                                                   judge
dense32     id ‖ x as float32, V·32 bits (the paper's)                             residual
dense16     id ‖ x as float16, V·16 bits                                           residual
lattice     K likeliest tokens, counts that sum to ℓ, d: 35 bytes at K=16, ℓ=128      residual
coupled     id alone, ⌈log2 V⌉ bits, rounded up to whole bytes                     coupled

A name may carry parameters after a colon (`lattice:k=16,l=128`); of these only `lattice` has any (lattice_settings.py).
Other packages add codecs through the entry-point group `uihlm.codecs` (docs/add-a-codec.md); both ends must have them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points

import numpy as np

from uihlm_proto.codecs.coupled import CoupledCodec
from uihlm_proto.codecs.dense import DenseCodec
from uihlm_proto.codecs.ids import id_bit
from uihlm_proto.codecs.lattice import LatticeCodec
from uihlm_proto.codecs.lattice_settings import lattice_settings
from uihlm_proto.codecs.protocol import Codec, CodedDraft, FloatArray, Judge, ReceivedDraft
from uihlm_proto.errors import InvalidRequestError

__all__ = [
    "CODECS",
    "ENTRY_POINT_GROUP",
    "Codec",
    "CodedDraft",
    "CoupledCodec",
    "DenseCodec",
    "Factory",
    "FloatArray",
    "Judge",
    "LatticeCodec",
    "ReceivedDraft",
    "canonical_name",
    "codec",
    "id_bit",
    "names",
]

ENTRY_POINT_GROUP = "uihlm.codecs"

# What follows the colon of a name, and V.
Factory = Callable[[str, int], Codec]

# A name is said back in the refusal of it, and nobody wants to read a megabyte.
_MAX_NAME = 64


def _plain(make: Callable[[int], Codec]) -> Factory:
    """Return a factory that takes no parameters."""

    def factory(parameters: str, vocabulary_size: int) -> Codec:
        made = make(vocabulary_size)
        if parameters:
            raise InvalidRequestError(f"codec {made.name} takes no parameters, got {parameters!r}")
        return made

    return factory


CODECS: dict[str, Factory] = {
    "dense32": _plain(lambda v: DenseCodec("dense32", v, np.dtype("<f4"), 1e-4)),
    "dense16": _plain(lambda v: DenseCodec("dense16", v, np.dtype("<f2"), 1e-2)),
    "lattice": lambda parameters, v: LatticeCodec.of(lattice_settings(parameters), v),
    "coupled": _plain(CoupledCodec),
}


@functools.cache
def _others() -> Mapping[str, EntryPoint]:
    """Return the codecs of other packages; looked up once, as a stranger may ask for any name any number of times."""
    return {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP) if point.name not in CODECS}


def names() -> list[str]:
    """Return every codec name without parameters: the built-in ones in the order above, then those of other packages."""
    return [*CODECS, *sorted(_others())]


def codec(name: str, vocabulary_size: int) -> Codec:
    """Return the codec of that name for a vocabulary of V tokens; InvalidRequestError lists the known ones."""
    family, colon, parameters = name.partition(":")
    if family not in names() or len(name) > _MAX_NAME or (colon and not parameters):
        raise InvalidRequestError(f"unknown codec {name[:_MAX_NAME]!r}: this end knows {', '.join(sorted(names()))}")
    factory: Factory = CODECS[family] if family in CODECS else _others()[family].load()
    return factory(parameters, vocabulary_size)


def canonical_name(name: str) -> str:
    """Return the name with every parameter spelled out, as it travels; InvalidRequestError if there is no such codec."""
    return codec(name, 2).name
