"""The flag that has a base station measure its joules, and the counters it opens."""

from __future__ import annotations

from collections.abc import Callable

import click

from uihlm_basestation.counters import EnergyCounters
from uihlm_cli.options.flags import Values, option

MODEL, ZEUS = "model", "zeus"

meter_option = option(
    "--meter",
    type=click.Choice([MODEL, ZEUS]),
    default=MODEL,
    help="Joules: devices model them; or this machine's counters are read around each forward (Zeus: NVML, RAPL, Jetson), "
    "and each verdict tells its share.",
)


def counters_of(values: Values, say: Callable[[str], None]) -> EnergyCounters | None:
    """Return the counters that the flag asks for; click.BadParameter where this machine has none."""
    if values["meter"] == MODEL:
        return None
    from uihlm_wireless.joules.zeus_counters import MeterError, ZeusCounters

    try:
        counters = ZeusCounters()
    except MeterError as error:
        raise click.BadParameter(str(error), param_hint="--meter") from error
    say(f"measuring the joules of forwards: {', '.join(counters.domains)}")
    for reason in counters.unread:
        say(f"left out of the measured joules: {reason} (docs/joules.md)")
    return counters
