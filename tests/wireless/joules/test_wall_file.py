"""A wall meter's file: what is read, and what is refused with its line."""

import pytest

from uihlm_wireless.joules.wall_file import WallFileError, check_columns, read_wall_file
from uihlm_wireless.joules.wall_meter import Quantity


@pytest.fixture
def wall(tmp_path):
    def write(text, name="wall.csv"):
        path = tmp_path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write


@pytest.mark.parametrize(
    ("text", "quantity", "times", "values"),
    [
        ("time,watts\n10,5\n11.5,6\n", Quantity.WATTS, [10.0, 11.5], [5.0, 6.0]),
        ("timestamp,joules\n10,5\n11,5\n", Quantity.JOULES, [10.0, 11.0], [5.0, 5.0]),
        ("time,watt_hours\n0,1\n1,1.5\n", Quantity.JOULES, [0.0, 1.0], [3600.0, 5400.0]),
        # Other columns, another order, spaces, blank lines, Windows line ends, a byte-order mark, capitals.
        ("\ufeffTime,volts, Watts \r\n10,230,5\r\n\r\n11,231,6\r\n", Quantity.WATTS, [10.0, 11.0], [5.0, 6.0]),
        ('time,watts,note\n10,5,"a, b"\n11,6,\n', Quantity.WATTS, [10.0, 11.0], [5.0, 6.0]),
        ("time,power_w\n1970-01-01T00:00:10Z,5\n1970-01-01T02:00:11.5+02:00,6\n", Quantity.WATTS, [10.0, 11.5], [5, 6]),
    ],
)
def test_forms_of_a_file(wall, text, quantity, times, values):
    meter = read_wall_file(wall(text))
    assert (meter.quantity, list(meter.times_s), list(meter.values)) == (quantity, times, values)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it is empty"),
        ("10,5\n11,6\n", "line 1: expected column names with one time"),
        ("time,volts\n10,5\n", "line 1: expected column names with one time"),
        ("time,watts,joules\n10,5,1\n", "line 1: expected column names"),
        ("time;watts\n10;5\n", "separated by commas, got time;watts"),
        ("time,watts\n10,5\n", "expected at least two readings under the line of column names, got 1"),
        ("time,watts\n10,5\n10,6\n", "line 3: its time is 0 s before"),
        ("time,watts\n10,5\n\n9,6\n", "line 4: its time is 1 s before"),
        ("time,watts\n10,5\n11\n", "line 3: expected 2 columns"),
        ("time,watts\n10,5\n11,\n", "line 3: '' is no number"),
        ("time,watts\n10,5\n11,much\n", "line 3: 'much' is no number"),
        ("time,watts\n10,5\n11,nan\n", "line 3: a reading must be finite"),
        ("time,watts\n10,5\n11,-1\n", "line 3: a reading must be finite and at least 0, got -1"),
        ("time,watts\nnoon,5\n11,6\n", "line 2: 'noon' is no time: expected ISO 8601"),
        ("time,watts\n2026-05-01T12:00:00,5\n", "line 2: 2026-05-01T12:00:00 does not say its offset from UTC"),
        ("time,watts\n1777636800000,5\n", "line 2: 1777636800000 is no time in seconds since 1970 (milliseconds?)"),
        ("time,watts\ninf,5\n", "line 2: inf is no time"),
        ("time,joules\n10,5\n11,4\n", "line 3: counted energy falls from 5 to 4: the meter was reset"),
        (b"time,watts\n10,\xff\n", "not UTF-8 text"),
    ],
)
def test_what_cannot_be_read_names_file_and_line(wall, text, said):
    path = wall(text)
    with pytest.raises(WallFileError) as refused:
        read_wall_file(path)
    assert said in str(refused.value)
    assert str(path) in str(refused.value)


def test_a_line_still_being_written_is_left_out_and_told(wall, caplog):
    meter = read_wall_file(wall("time,watts\n10,5\n11,6\n12,7"))
    assert list(meter.times_s) == [10.0, 11.0]
    assert "line 4 has no end" in caplog.text


def test_watts_may_fall_where_counted_joules_may_not(wall):
    assert list(read_wall_file(wall("time,watts\n10,5\n11,4\n")).values) == [5.0, 4.0]


def test_columns_are_checked_before_there_are_readings(wall):
    check_columns(wall("time,watts\n"))
    check_columns(wall(""))
    with pytest.raises(WallFileError, match="line 1"):
        check_columns(wall("time,volts\n"))
