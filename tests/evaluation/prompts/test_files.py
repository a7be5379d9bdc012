"""Files of tasks: what is taken from a question and its answer, and what is refused with file and line."""

import hashlib
import json

import pytest

from uihlm_evaluation.prompts.examples import Dataset, DatasetError, Example
from uihlm_evaluation.prompts.files import parse


def task(answer, **more):
    (example,) = parse(json.dumps([{"question": "How many?", "answer": answer, **more}]), "f")
    return example


def test_target_follows_the_mark_and_the_reference_has_no_marks():
    example = task("He has 3*8=<<3*8=24>>24 apples.\nHe sells 1,000.\n#### 1,024")
    assert example.target == "1,024"
    assert example.output == "He has 3*8=24 apples.\nHe sells 1,000.\n1,024"
    assert example.user_turn == "How many?"


@pytest.mark.parametrize(
    ("answer", "target"),
    [
        ("####24", "24"),
        ("a #### 1 #### 2", "2"),
        ("  Paris ", "Paris"),
        (42, "42"),
        (-1.5, "-1.5"),
        ("#### 5 km", "5 km"),
    ],
)
def test_answer_without_the_mark_is_exact_as_a_whole(answer, target):
    assert task(answer).target == target


def test_format_is_told_row_by_row_from_the_fields():
    text = '{"question": "2+2?", "answer": "4", "level": 1}\n{"instruction": "Add.", "question": "x", "output": "y"}'
    first, second = parse(text, "f")
    assert (first.instruction, first.target) == ("2+2?", "4")
    assert second == Example(1, "Add.", "", "y", None)


@pytest.mark.parametrize(
    ("row", "parts"),
    [
        ('{"question": "a"}', ['"answer" is missing', "['question']", '"question" and the string or number']),
        ('{"question": " ", "answer": "1"}', ['"question" is empty']),
        ('{"question": "a", "answer": ""}', ['"answer" is empty;']),
        ('{"question": "a", "answer": "so ####  "}', ['"answer" is empty after ####']),
        ('{"question": 3, "answer": "1"}', ["\"question\" is '3', not a string"]),
        ('{"question": "a", "answer": true}', ["\"answer\" is 'true', not a string"]),
        ('{"question": "a", "answer": ["1"]}', ['"answer" is', "not a string"]),
        ('{"prompt": "a", "answer": "1"}', ['"instruction" is missing', '"question"']),
    ],
)
def test_rows_that_are_no_task_are_refused_with_their_line(row, parts):
    with pytest.raises(DatasetError) as caught:
        parse('{"question": "a", "answer": "1"}\n' + row, "f.jsonl")
    for part in ["f.jsonl, line 2: ", *parts]:
        assert part in str(caught.value)


def test_digest_knows_targets_and_leaves_sets_without_them_as_they_were():
    plain, exact = (Dataset((Example(0, "a", "", "b", target),), "") for target in (None, "b"))
    assert plain.digest == hashlib.sha256(b'[[0, "a", "", "b"]]').hexdigest()
    assert plain.digest != exact.digest
