"""The flags of a link that is replayed: what a trace takes the place of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click

from uihlm_cli.options.flags import FILE, F, Values, choice, group, option
from uihlm_wireless.channel import RadioLink
from uihlm_wireless.fading import FadingMode
from uihlm_wireless.settings import LinkSettings
from uihlm_wireless.trace import TraceEnd
from uihlm_wireless.trace_file import LinkTrace, TraceError

# What a trace says itself; of a radio's flags only the transmit power is left, which joules are made from.
_SAID_BY_TRACE = ("bandwidth_hz", "noise_dbm", "distance_m", "path_loss_exponent", "fading", "coherence_s")


def _load(context: click.Context, parameter: click.Parameter, value: Path | None) -> LinkTrace | None:
    try:
        return None if value is None else LinkTrace.of(value)
    except TraceError as error:
        raise click.BadParameter(str(error), context, parameter) from error


link_trace_options: Callable[[F], F] = group(
    option(
        "--link-trace",
        type=FILE,
        callback=_load,
        help="Replay this trace as the uplink, in place of bandwidth, SNR and fading: a CSV of seconds and bit/s, or a "
        "Mahimahi packet-delivery file.",
    ),
    option(
        "--link-trace-end",
        type=choice(TraceEnd),
        help="After the trace: its start again, answers beginning at places that --fading-seed draws; or an outage, each "
        "answer beginning at its start.  [default: loop]",
    ),
)


def traced(link: LinkSettings, values: Values) -> LinkSettings:
    """Return the link with the trace that flags name put in.

    Raises:
        click.BadParameter: for a flag that says what the trace says, or an end without a trace.
    """
    trace: LinkTrace | None = values.get("link_trace") or link.trace
    end = values.get("link_trace_end")
    if trace is None:
        if end is not None:
            raise click.BadParameter(
                "there is no trace to end: name one with --link-trace", param_hint="--link-trace-end"
            )
        return link
    said = [name for name in _SAID_BY_TRACE if values.get(name) not in (None, FadingMode.NONE.value)]
    if said:
        flag = "--" + said[0].replace("_", "-")
        raise click.BadParameter(f"{trace.path} says what the link carries: leave {flag} out", param_hint=flag)
    if end is not None:
        trace = replace(trace, end=TraceEnd(end))
    # Joules want a transmit power also where the named link has no radio.
    return replace(link, trace=trace, radio=link.radio or RadioLink(), fading=FadingMode.NONE)


def trace_words(link: LinkSettings) -> str | None:
    """Return the trace in a few words; None without one."""
    if link.trace is None:
        return None
    trace = link.trace.load()
    how = "looped" if link.trace.end is TraceEnd.LOOP else "once"
    return (
        f"trace {Path(link.trace.path).name}, {trace.length_s:g} s at {trace.mean_rate_bit_s / 1e6:.3g} Mbit/s, {how}"
    )
