"""A group of peers in a process of its own does what it is told, and says what went wrong."""

import argparse

import pytest

from benchmarks.peers.group import Group, merged
from benchmarks.peers.measured import LENGTHS, Measured
from benchmarks.peers.ours import Judged

PROMPT = [1, 2, 3, 4]


def test_a_group_writes_is_timed_and_tells_of_it():
    with Group("bare", argparse.Namespace(threads=1)) as group:
        assert group("names") == ["llama.cpp"]
        group("warm", PROMPT)
        with pytest.raises(KeyError, match="nobody"):
            group("write", "nobody", PROMPT, 4, 0)
        for number in (0, 1, 1):
            group("write", "llama.cpp", PROMPT, 4, number)
        group("forwards", PROMPT, 1)
        measured, blocks = group("told")
    assert measured.keys() == {"wall", "cpu"} and blocks == {}
    own = measured["wall"]
    assert own.rates.keys() == {"llama.cpp"} and len(own.rates["llama.cpp"]) == 2
    assert len(own.alone_s) == 3 and min(own.alone_s) > 0.0, "what was written to warm up is forgotten"
    (times_s,) = own.forwards_s
    assert {("draft", length) for length in LENGTHS} < times_s.keys()


def test_groups_are_told_of_as_if_they_were_one():
    bare = Measured({"llama.cpp": [3.0]}, [{("alone", 1): 0.01}], [0.011])
    ours, judged = Measured({"llm": [2.0], "hlm": [1.0]}, [], []), [Judged(rounds=3)]
    measured, blocks = merged([({"wall": bare}, {}), ({"wall": ours}, {"hlm": judged})])
    assert measured == {
        "wall": Measured({"llama.cpp": [3.0], "llm": [2.0], "hlm": [1.0]}, [{("alone", 1): 0.01}], [0.011])
    }
    assert blocks == {"hlm": judged}
