"""Trace files: both forms are read, and what is wrong is named with its line."""

import numpy as np
import pytest

from uihlm_wireless.trace import NS, TraceEnd
from uihlm_wireless.trace_file import LinkTrace, TraceError, csv_text, parsed


def read(text):
    return parsed(text.encode(), "t")


def test_csv_with_and_without_header_comments_and_spaces():
    plain = read("0,1000\n0.5,0\n2,500\n")
    assert plain.at_ns.tolist() == [0, NS // 2, 2 * NS, 7 * NS // 2]
    assert plain.offered_bit.tolist() == [0, 500, 500, 1250]
    for text in (
        "seconds,bit_s\n0,1000\n0.5,0\n2,500\n",
        "# made by hand\n\ntime, rate\r\n0, 1000\r\n0.5, 0\r\n# more\r\n2 ,5e2\r\n",
        "\ufeffseconds,bit_s\n1700000000,1000\n1700000000.5,0\n1700000002,500",
    ):
        same = read(text)
        assert (same.at_ns.tolist(), same.offered_bit.tolist()) == (plain.at_ns.tolist(), plain.offered_bit.tolist())


def test_mahimahi():
    trace = read("2\n5\n5\n\n9\n")
    assert trace.length_s == 0.009
    assert trace.offered_bit[-1] == 4 * 1504 * 8


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no line of data"),
        ("# nothing\n\n", "no line of data"),
        ("seconds,bit_s\n", "a header and no line"),
        ("0,1\nseconds,bit_s\n", "line 2: expected two numbers"),
        ("0,1\n1\n", "line 2: expected two numbers"),
        ("seconds,5\n", "line 1: expected two numbers"),
        ("0,1,2\n", "line 1: expected two numbers"),
        ("0,1\n1,nan\n", "line 2: bit/s must be finite"),
        ("0,inf\n", "line 1: bit/s must be finite"),
        ("0,1\n1,-3\n", "line 2: bit/s must be finite and at least 0, got -3"),
        ("-1,1\n", "line 1: seconds must be finite and at least 0"),
        ("# c\n0,1\n2,1\n2,1\n", "line 4: times must increase"),
        ("0,1\n2,1\n1,1\n", "line 3: times must increase"),
        ("0,1\n0.0000000001,1\n", "line 2: times must increase by a nanosecond"),
        ("0,1\n2e9,1\n", r"spans 2e\+09 s"),
        ("0,0\n1,0\n", "carries no bit"),
        ("3\n2\n", "line 2: milliseconds must not fall, got 2 after 3"),
        ("3\n4.5\n", "line 2: expected a whole millisecond"),
        ("3\n-4\n", "line 2: expected a whole millisecond"),
        ("3\nx\n", "line 2: expected a whole millisecond"),
        ("3\n4,5\n", "line 2: expected a whole millisecond"),
        ("0\n0\n", "ends at millisecond 0"),
        ("9" * 20, "ends at millisecond"),
    ],
)
def test_what_is_wrong_is_named(text, message):
    with pytest.raises(TraceError, match="t.*" + message):
        read(text)


def test_bytes_are_refused_with_a_sentence():
    with pytest.raises(TraceError, match="is no text"):
        parsed(b"\xff\xfe\x00", "t")


def test_a_trace_is_known_by_its_content(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("0,1000\n")
    trace = LinkTrace.of(path)
    assert (trace.path, trace.end) == (str(path), TraceEnd.LOOP)
    assert trace.load().mean_rate_bit_s == 1000.0
    path.write_text("0,2000\n")
    assert LinkTrace.of(path).load().mean_rate_bit_s == 2000.0
    stale = LinkTrace(str(path), "0" * 64)
    with pytest.raises(TraceError, match="another trace"):
        stale.load()
    path.unlink()
    with pytest.raises(TraceError, match="cannot be read"):
        LinkTrace(str(path), "1" * 64).load()


def test_what_is_written_is_read_again():
    trace = read(csv_text([1000.0, 0.0, 123456.789], 0.0005, ["made by a test", "seed 3"]))
    assert trace.at_ns.tolist() == [0, 500_000, 1_000_000, 1_500_000]
    assert np.diff(trace.offered_bit) == pytest.approx([0.5, 0.0, 61.7283945])
