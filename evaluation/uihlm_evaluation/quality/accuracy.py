"""Whether an answer is right, where one exact answer is: exact match of the text, and match of the last number.

    exact         normalised(final part of the answer) = normalised(target)
    last number   last number of the final part = last number of the target

The final part follows the answer's last `####`; without that mark it is the whole answer. Normalised: compatible Unicode
form, one case, single blanks, no commas inside numbers, no punctuation or currency sign at either end. Numbers compare by
value (24 = 24.0); units beside them, before or after, play no part. A fraction counts as two numbers.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from decimal import Decimal

from uihlm_evaluation.prompts.files import FINAL

# A minus counts where it cannot be a dash between words or an operator: after neither a letter, a digit nor a bracket.
_NUMBER = re.compile(r"(?:(?<![\w.)%])-[$€£¥]?)?(?:\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)", re.ASCII)
_COMMA_IN_NUMBER = re.compile(r"(?<=\d),(?=\d{3}(?!\d))", re.ASCII)
_EDGE = " \t\n.,;:!?\"'`*_()[]{}$€£¥"


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Whether one answer is right, 1 or 0; None where there is no such target."""

    exact_match: float | None
    last_number: float | None


def accuracy(text: str, target: str | None) -> Accuracy:
    """Return whether an answer gives the target; `last_number` is None for a target without a number."""
    if target is None:
        return Accuracy(None, None)
    wanted, final = last_number(target), text.rpartition(FINAL)[2]
    return Accuracy(
        float(normalised(final) == normalised(target)),
        None if wanted is None else float(last_number(final) == wanted),
    )


def last_number(text: str) -> Decimal | None:
    """Return the value of the last number of a text; None without one."""
    numbers = _NUMBER.findall(_plain(text))
    return Decimal(re.sub(r"[^\d.-]", "", numbers[-1])) if numbers else None


def normalised(text: str) -> str:
    """Return the text in the form in which answers are compared."""
    return " ".join(_COMMA_IN_NUMBER.sub("", _plain(text)).casefold().split()).strip(_EDGE)


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).replace("\N{MINUS SIGN}", "-")
