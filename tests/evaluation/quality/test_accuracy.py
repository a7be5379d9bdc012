"""Right and wrong answers: what counts as the last number, what as the same text, and where nothing can be said."""

from decimal import Decimal

import pytest

from uihlm_evaluation.quality.accuracy import Accuracy, accuracy, last_number, normalised


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("She has 3 + 4 = 7 apples.", "7"),
        ("That makes $1,234.50 in all", "1234.50"),
        ("12,000 euros", "12000"),
        ("1, 2, 3", "3"),
        ("1,2", "2"),
        ("10,1234", "1234"),
        ("It falls to -5 degrees", "-5"),
        ("It falls to −5 degrees", "-5"),
        ("-$5", "-5"),
        ("10-3", "3"),
        ("pages 10 - 12", "12"),
        ("x=-2", "-2"),
        ("50% off", "50"),
        (".5", "0.5"),
        ("It costs 5.", "5"),
        ("２４ apples", "24"),
        ("no number", None),
        ("", None),
    ],
)
def test_last_number_is_read_with_commas_signs_and_units(text, number):
    assert last_number(text) == (None if number is None else Decimal(number))


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("  The  Elbe.\n", "the elbe"),
        ("**Paris**", "paris"),
        ("$1,500", "1500"),
        ("STRASSE", "straße"),
        ("ﬁne", "fine"),
    ],
)
def test_texts_that_differ_in_form_alone_are_the_same(text, same):
    assert normalised(text) == normalised(same)


@pytest.mark.parametrize("text", ["1.500", "150", "15,00", "one thousand five hundred", "1500 km"])
def test_texts_that_differ_otherwise_are_not(text):
    assert normalised(text) != normalised("1,500")


@pytest.mark.parametrize(
    ("text", "target", "right"),
    [
        ("He gets 3 × 8 = 24 apples.", "24", (0.0, 1.0)),
        ("24.0", "24", (0.0, 1.0)),
        ("24", "24", (1.0, 1.0)),
        ("We add.\n#### 24", "24", (1.0, 1.0)),
        ("#### 24 and then 7 more", "24", (0.0, 0.0)),
        ("24 apples, as 8 are 3 each", "24", (0.0, 0.0)),
        ("", "24", (0.0, 0.0)),
        ("$2,000 a year", "2000 dollars", (0.0, 1.0)),
        ("paris.", "Paris", (1.0, None)),
        ("It is Paris", "Paris", (0.0, None)),
        ("24", None, (None, None)),
    ],
)
def test_answer_is_right_or_wrong_by_text_and_by_number(text, target, right):
    assert accuracy(text, target) == Accuracy(*right)
