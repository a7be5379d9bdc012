"""A look at a base station as lines of a table: for a terminal, for a pipe, for a program."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from uihlm_basestation.observing.reading import Distribution, Reading

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True, slots=True)
class Line:
    """One line: a key for programs, a name with its unit for people, and its values; None is not known."""

    key: str
    name: str
    now: float | None
    total: float | None


def lines_of(reading: Reading, window: Reading | None) -> list[Line]:
    """Return the lines of a reading; `window` is what came after the one before, if there was one."""
    total = _values(reading)
    now = _values(window) if window is not None else {}
    return [Line(key, _NAMES[key], now.get(key), total[key]) for key in _NAMES]


_NAMES = {
    "sessions": "sessions",
    "ended_per_s": "streams ended, 1/s",
    "refused_per_s": "of them refused or failed, 1/s",
    "rounds_per_s": "rounds, 1/s",
    "tokens_per_s": "tokens, 1/s",
    "acceptance": "acceptance, %",
    "batch_mean": "sessions a forward, mean",
    "forward_p50_s": "forward, p50, ms",
    "forward_p99_s": "forward, p99, ms",
    "queue_p50_s": "queue, p50, ms",
    "queue_p99_s": "queue, p99, ms",
    "round_p50_s": "round, p50, ms",
    "round_p99_s": "round, p99, ms",
    "payload_bit_per_s": "uplink payload, kbit/s",
    "up_bytes_per_s": "messages up, kB/s",
    "down_bytes_per_s": "messages down, kB/s",
    "memory_bytes": "memory, MB",
}
# From the unit of the key to that of the name.
_SCALE = {"acceptance": 100.0, "payload_bit_per_s": 1e-3, "memory_bytes": 1e-6}
_SCALE |= {key: 1e3 for key in _NAMES if key.endswith(("p50_s", "p99_s"))}
_SCALE |= {key: 1e-3 for key in _NAMES if key.endswith("bytes_per_s")}


def _values(reading: Reading) -> dict[str, float | None]:
    def rate(count: float) -> float | None:
        return count / reading.seconds if reading.seconds > 0 else None

    def quantiles(name: str, distribution: Distribution) -> dict[str, float | None]:
        return {f"{name}_p50_s": distribution.quantile(0.5), f"{name}_p99_s": distribution.quantile(0.99)}

    judged = reading.accepted + reading.rejected
    return {
        "sessions": reading.sessions,
        "ended_per_s": rate(reading.ended),
        "refused_per_s": rate(reading.refused),
        "rounds_per_s": rate(reading.rounds),
        "tokens_per_s": rate(judged + reading.generated + reading.skipped),
        "acceptance": reading.accepted / judged if judged else None,
        "batch_mean": reading.batch.mean,
        **quantiles("forward", reading.forward_s),
        **quantiles("queue", reading.queue_s),
        **quantiles("round", reading.round_s),
        "payload_bit_per_s": rate(reading.payload_bit),
        "up_bytes_per_s": rate(reading.up_bytes),
        "down_bytes_per_s": rate(reading.down_bytes),
        "memory_bytes": reading.memory_bytes or None,
    }


def title(reading: Reading) -> str:
    """Say what is looked at."""
    hours, rest = divmod(int(reading.seconds), 3600)
    return f"{reading.engine} · uihlm {reading.version} · up {hours}:{rest // 60:02}:{rest % 60:02}"


def _shown(line: Line, value: float | None) -> str:
    if value is None:
        return "–"
    scaled = value * _SCALE.get(line.key, 1.0)
    return f"{scaled:.0f}" if line.key == "sessions" else f"{scaled:,.2f}"


def rich_table(reading: Reading, lines: list[Line]) -> Table:
    """Return the table of a terminal."""
    from rich import box
    from rich.table import Table

    table = Table(title=title(reading), box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("")
    table.add_column("now", justify="right", style="bold")
    table.add_column("since start", justify="right")
    for line in lines:
        table.add_row(line.name, _shown(line, line.now), _shown(line, line.total))
    return table


def text(reading: Reading, lines: list[Line], form: str) -> str:
    """Return the lines as `table` (columns of plain text), `json`, `csv` or `md`; json and csv in SI units."""
    if form == "json":
        values = {line.key: {"now": line.now, "since_start": line.total} for line in lines}
        head = {"engine": reading.engine, "version": reading.version, "uptime_s": reading.seconds}
        return json.dumps(head | values, ensure_ascii=False)
    if form == "csv":
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["key", "now", "since_start"])
        writer.writerows([line.key, *("" if v is None else v for v in (line.now, line.total))] for line in lines)
        return out.getvalue().rstrip("\n")
    cells = [["", "now", "since start"]]
    cells += [[line.name, _shown(line, line.now), _shown(line, line.total)] for line in lines]
    if form == "md":
        rows = [f"| {' | '.join(row)} |" for row in cells]
        return "\n".join([rows[0], "|---|---:|---:|", *rows[1:]])
    widths = [max(len(row[column]) for row in cells) for column in range(3)]
    rows = [f"{row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}" for row in cells]
    return "\n".join([title(reading), *rows])
