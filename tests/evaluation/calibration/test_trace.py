"""Traces: what is written comes back, and what is no trace is refused with its file's name."""

import dataclasses

import numpy as np
import pytest

from synthetic_trace import HEADER, lawful, trace_of
from uihlm_evaluation.calibration.trace import Trace, TraceError, joined, load_trace


def assert_equal(a, b):
    assert a.header == b.header
    for field in dataclasses.fields(Trace)[1:]:
        left, right = getattr(a, field.name), getattr(b, field.name)
        if left is None or right is None:
            assert left is right, field.name
        else:
            assert left.dtype == right.dtype, field.name
            np.testing.assert_array_equal(left, right, err_msg=field.name)


@pytest.mark.parametrize("hidden", [None, np.random.default_rng(0).normal(size=(6, 5))])
def test_round_trip_keeps_every_column(tmp_path, hidden):
    counts = np.arange(6 * 4 * 9).reshape(6, 4, 3, 3)
    trace = trace_of(np.linspace(0, 1, 6), np.linspace(0, 1, 6), [3, 3, 4, 4, 4, 9], counts=counts, hidden=hidden)
    trace.save(tmp_path / "trace.npz")
    back = load_trace(tmp_path / "trace.npz")
    assert_equal(trace, back)
    assert len(back) == 6 and back.n_layer == 4
    assert list(back.step) == [0, 1, 0, 1, 2, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["trace.npz"]


def test_parts_join_in_order_of_prompt():
    parts = [trace_of([0.1 * p, 0.1], [0.0, 1.0], [p, p]) for p in (7, 2, 5)]
    whole = joined(parts)
    assert list(whole.prompt) == [2, 2, 5, 5, 7, 7]
    assert list(whole.u[::2]) == pytest.approx([0.2, 0.5, 0.7])


def test_parts_of_other_settings_do_not_join():
    other = trace_of([0.1], [0.0], header=dataclasses.replace(HEADER, temperature=1.0))
    with pytest.raises(TraceError, match="different settings"):
        joined([trace_of([0.1], [0.0]), other])
    with pytest.raises(TraceError, match="different settings"):
        joined([trace_of([0.1], [0.0]), trace_of([0.1], [0.0], hidden=[[1.0]])])
    with pytest.raises(TraceError, match="no prompt"):
        joined([])


def test_columns_of_unequal_length_are_refused():
    with pytest.raises(TraceError, match="differ in length"):
        dataclasses.replace(lawful(prompts=1, tokens=4), u=np.zeros(3, np.float32))


@pytest.mark.parametrize("content", [b"", b"words", b"PK\x05\x06" + bytes(18)])
def test_file_that_is_no_trace_is_refused_by_name(tmp_path, content):
    path = tmp_path / "some.npz"
    path.write_bytes(content)
    with pytest.raises(TraceError, match=r"some\.npz is not a trace"):
        load_trace(path)


def test_trace_of_another_format_or_torn_is_refused(tmp_path):
    path = tmp_path / "trace.npz"
    trace_of([0.1], [0.0], header=dataclasses.replace(HEADER, format=99)).save(path)
    with pytest.raises(TraceError, match="format 99, expected 1"):
        load_trace(path)
    trace_of([0.1], [0.0]).save(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(TraceError, match="not a trace"):
        load_trace(path)
    with np.load((trace_of([0.1], [0.0]).save(path), path)[1]) as file:
        arrays = {name: file[name] for name in file.files if name != "u"}
    np.savez(path, **arrays)
    with pytest.raises(TraceError, match="not a trace"):
        load_trace(path)
