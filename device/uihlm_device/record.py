"""What a drafter knows after running a token, and what it is asked to record of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float32Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Wants:
    """What a record must hold besides logits: extras cost time, so they are made only when asked for.

    Attributes:
        attention: the last token's attention row at the drafter's layer.
        attention_matrix: every row so far, averaged over heads (the `matrix` reading of Eq. 7).
        hidden: the last token's hidden state after the final norm.
        attention_layers: the last token's attention row at every layer, for calibration.
    """

    attention: bool = False
    attention_matrix: bool = False
    hidden: bool = False
    attention_layers: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """What the drafter knows after running its last token. Arrays are views: valid until the next forward.

    Attributes:
        logits: raw logits z of the next token, `[V]`.
        attention: weights of the last token's heads over every position 0 … n-1, its own included, rows summing to 1,
            `[head, n]`; None unless asked for.
        attention_matrix: the same for every row of the sequence, averaged over heads, `[n, n]`, zero above the diagonal;
            None unless asked for.
        hidden: hidden state of the last token, `[d_model]`; None unless asked for.
        attention_layers: as `attention`, of every layer, `[layer, head, n]`; None unless asked for.
    """

    logits: Float32Array
    attention: Float32Array | None = None
    attention_matrix: Float32Array | None = None
    hidden: Float32Array | None = None
    attention_layers: Float32Array | None = None
