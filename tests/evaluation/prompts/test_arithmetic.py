"""The shipped arithmetic set: every answer and every step of its working is computed again."""

import ast
import importlib.resources
import json
import operator
import re
from collections import Counter
from fractions import Fraction

import pytest

from uihlm_evaluation.prompts.datasets import load, select
from uihlm_evaluation.quality.accuracy import Accuracy, accuracy

ROWS = json.loads(
    importlib.resources.files("uihlm_evaluation").joinpath("data/arithmetic.json").read_text(encoding="utf-8")
)
OPERATIONS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}
STEP = re.compile(r"([(\d][\d.() +×÷-]*[\d)]) = ([\d.]*\d)")


def value(expression):
    """The exact value of a sum in the four operations."""

    def of(node):
        if isinstance(node, ast.BinOp):
            return OPERATIONS[type(node.op)](of(node.left), of(node.right))
        return Fraction(str(ast.literal_eval(node)))

    return of(ast.parse(expression, mode="eval").body)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["expression"])
def test_answer_is_the_value_of_its_expression(row):
    worked, _, answer = row["answer"].partition("\n#### ")
    assert Fraction(answer) == value(row["expression"])
    steps = STEP.findall(worked)
    for left, right in steps:
        assert value(left.replace("×", "*").replace("÷", "/")) == Fraction(right), left
    assert worked.count("=") == len(steps) > 0
    assert accuracy(worked, answer).last_number == 1.0, "the working ends with the answer"


def test_expression_and_working_use_the_numbers_of_the_question():
    for row in ROWS:
        told = {
            Fraction(n.replace(",", "")) for n in re.findall(r"\d[\d,]*(?:\.\d+)?", row["question"].replace(", ", " "))
        }
        used = {Fraction(n) for n in re.findall(r"\d+(?:\.\d+)?", row["expression"])}
        # Left out are only the numbers of a unit ("8 of every 100") and a factor of one.
        assert told - used <= {Fraction(100), Fraction(1), Fraction(1000)}, row["question"]


def test_grades_are_even_and_questions_differ():
    assert Counter(row["level"] for row in ROWS) == dict.fromkeys(range(1, 6), 20)
    assert [row["level"] for row in ROWS] == sorted(row["level"] for row in ROWS)
    assert len({row["question"] for row in ROWS}) == len(ROWS) == 100
    steps = [
        sum(len(STEP.findall(row["answer"])) for row in ROWS if row["level"] == level) / 20 for level in range(1, 6)
    ]
    assert steps[0] == steps[1] == 1.0
    assert steps[1] < steps[2] < steps[3] < steps[4]


def test_set_runs_whole_and_its_own_answers_are_right():
    dataset = load("arithmetic")
    assert len(select(dataset).examples) == 100
    assert dataset.notice is None
    for example in dataset.examples:
        assert accuracy(f"#### {example.target}", example.target) == Accuracy(1.0, 1.0)
        assert "####" not in example.output
