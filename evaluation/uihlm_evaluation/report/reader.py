"""The data behind the page's reader of samples, packed: a header, then one array a field.

    base64(zlib(header length as uint32 | header as JSON, padded to 8 bytes | arrays, each padded to 8 bytes))

Little-endian throughout. Probabilities are uint16 in steps of 1/65534, 65535 where absent; seconds are float32 of three
significant digits, which is what a reader shows and what packs well. A browser unpacks it by itself.
"""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uihlm_device.tokens import Origin
from uihlm_evaluation.report.folder import RunFolder
from uihlm_evaluation.report.rounds import Floats
from uihlm_evaluation.report.texts import Texts

ABSENT = 65535
_STEPS = 65534.0
_ALIGN = 8
_DIGITS = 3
_LEVEL = 6

Array = NDArray[Any]


def pack(folder: RunFolder, texts: Texts) -> str:
    """Return the samples of a run with all their tokens as one line of base64."""
    rounds = folder.rounds
    # Stable: within an answer the order of the file stands.
    order = np.lexsort((rounds.prompt, rounds.row))
    arrays = {name: array[order] for name, array in _columns(folder).items()}
    header = _header(folder, texts, order)
    header["arrays"] = [[name, array.dtype.name, len(array)] for name, array in arrays.items()]
    head = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    little = [array.astype(array.dtype.newbyteorder("<")).tobytes() for array in arrays.values()]
    parts = [len(head).to_bytes(4, "little") + head, *little]
    packed = zlib.compress(b"".join(part + bytes(-len(part) % _ALIGN) for part in parts), _LEVEL)
    return base64.b64encode(packed).decode("ascii")


def _columns(folder: RunFolder) -> dict[str, Array]:
    rounds = folder.rounds
    column = rounds.column
    return {
        "token": rounds.token.astype(np.uint32),
        "link_s": _seconds(column("link_s")),
        "draft_s": _seconds(column("draft_s")),
        "bs_s": _seconds(column("forward_s") + column("queue_s")),
        "model_bits": column("model_bits").astype(np.uint32),
        "payload_bits": column("payload_bits").astype(np.uint32),
        "u": _probabilities(column("u")),
        "x_d": _probabilities(column("x_d")),
        "y_d": _probabilities(column("y_d")),
        "reject_prob": _probabilities(column("reject_prob")),
        "importance": _whole(column("importance")),
        "origin": rounds.origin.astype(np.uint8),
        "uploaded": (column("uploaded") == 1.0).astype(np.uint8),
    }


def _header(folder: RunFolder, texts: Texts, order: Array) -> dict[str, Any]:
    rounds = folder.rounds
    samples = {(sample.policy, sample.prompt): sample for sample in folder.samples}
    row, prompt = rounds.row[order], rounds.prompt[order]
    starts = np.flatnonzero(np.diff(row, prepend=-1).astype(bool) | np.diff(prompt, prepend=-1).astype(bool))
    counts = np.diff(starts, append=len(order))
    tokens_of = {
        (rounds.labels[row[start]], int(prompt[start])): [int(start), int(count)]
        for start, count in zip(starts, counts, strict=True)
    }
    answers = [
        [
            rounds.labels.index(label),
            index,
            *tokens_of.get((label, index), [0, 0]),
            sample.stop.value,
            sample.error,
            # The tokens spell it wherever their texts are known.
            None if texts.pieces is not None else sample.text,
        ]
        for (label, index), sample in samples.items()
    ]
    return {
        "rows": list(rounds.labels),
        "origins": list(rounds.origins),
        "order": [origin.value for origin in Origin],
        "answers": answers,
        "prompts": {str(index): text for index, text in texts.prompts.items()},
        "references": {str(sample.prompt): sample.reference for sample in folder.samples},
        # One character a byte, so that half a character can be kept.
        "pieces": None
        if texts.pieces is None
        else {str(token): piece.decode("latin-1") for token, piece in texts.pieces.items()},
    }


def _probabilities(values: Floats) -> NDArray[np.uint16]:
    known = ~np.isnan(values)
    steps = np.full(len(values), ABSENT, np.uint16)
    steps[known] = np.rint(np.clip(values[known], 0.0, 1.0) * _STEPS).astype(np.uint16)
    return steps


def _whole(values: Floats) -> NDArray[np.uint16]:
    known = ~np.isnan(values)
    counts = np.full(len(values), ABSENT, np.uint16)
    counts[known] = np.minimum(values[known], ABSENT - 1).astype(np.uint16)
    return counts


def _seconds(values: Floats) -> NDArray[np.float32]:
    """Return values rounded to significant digits; an absent one is 0."""
    known = np.nan_to_num(values)
    with np.errstate(divide="ignore"):
        exponent = np.where(known > 0.0, np.floor(np.log10(known, where=known > 0.0, out=np.zeros_like(known))), 0.0)
    scale = 10.0 ** (exponent - (_DIGITS - 1))
    return (np.rint(known / scale) * scale).astype(np.float32)
