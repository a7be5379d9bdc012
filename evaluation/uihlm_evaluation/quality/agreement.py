"""How far an answer agrees with the LLM: what the LLM thinks of its tokens, and how far the drafter was from it.

    llm_log_prob = (1/n) Σ_t ln P_LLM(token_t | prompt, tokens before t)     nats a token, at temperature 1
    tv           = (1/m) Σ TV(x, y)                                          over the m tokens at which y was seen

The ids scored are those the answer is made of, its EOS included: its text, tokenised again, may give others. The LLM is
asked after the answer and outside all timing, and nothing of it is billed.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence

from uihlm_proto.errors import ProtocolError, UihlmError, UnavailableError

_LOG = logging.getLogger(__name__)

# Context ids, target ids → log-probability of each target id given all before it.
Likelihood = Callable[[Sequence[int], Sequence[int]], Sequence[float]]


class Agreement:
    """Asks the LLM what it thinks of answers; the same answer to the same prompt is asked once.

    Attributes:
        asked: answers that the LLM scored.
        spent_s: seconds spent waiting for it.
    """

    def __init__(self, likelihood: Likelihood) -> None:
        """Ask by `likelihood`: the unary Score of a base station, or a stand-in."""
        self._likelihood = likelihood
        self._known: dict[tuple[tuple[int, ...], tuple[int, ...]], float] = {}
        self.asked = 0
        self.spent_s = 0.0

    def log_prob(self, context_ids: Sequence[int], answer_ids: Sequence[int]) -> float | None:
        """Return the mean log-probability of the answer, nats a token; None without tokens or where the LLM refuses.

        A refusal is logged: the answer stands without this score.

        Raises:
            UnavailableError: if the base station is gone, which ends a run.
            ProtocolError: if it does not answer with one finite number a token.
        """
        if not answer_ids:
            return None
        key = tuple(context_ids), tuple(answer_ids)
        if key in self._known:
            return self._known[key]
        started_s = time.perf_counter()
        try:
            scores = self._likelihood(context_ids, answer_ids)
        except UnavailableError:
            raise
        except UihlmError as error:
            _LOG.warning("the LLM did not score an answer of %d tokens: %s", len(answer_ids), error)
            return None
        finally:
            self.spent_s += time.perf_counter() - started_s
        if len(scores) != len(answer_ids) or not all(map(math.isfinite, scores)):
            raise ProtocolError(
                f"the base station scored {len(answer_ids)} ids with {len(scores)} numbers, or with some that are not "
                "finite: is it of the same version?"
            )
        self.asked += 1
        self._known[key] = math.fsum(scores) / len(scores)
        return self._known[key]


def mean_tv(distances: Sequence[float | None]) -> float | None:
    """Return the mean of the total variations that are known, 0 … 1; None without one."""
    known = [distance for distance in distances if distance is not None]
    return math.fsum(known) / len(known) if known else None
