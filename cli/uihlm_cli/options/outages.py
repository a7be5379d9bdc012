"""The flags that say what happens where the base station is lost, or does not answer."""

from __future__ import annotations

from collections.abc import Callable

import click

from uihlm_cli.options.flags import F, Values, group, option
from uihlm_device.outages.outage import PATIENCE_S, OnOutage, Outage

FAIL = "fail"


def outage_options(default: str | None, described: str = "") -> Callable[[F], F]:
    """Return the flags; `chat` goes on where `eval` gives up, because nobody compares its tokens.

    Args:
        default: of --on-outage; None is decided by `outage_of`.
        described: that decision in words.
    """
    return group(
        option(
            "--on-outage",
            type=click.Choice([OnOutage.LOCAL.value, OnOutage.WAIT.value, FAIL]),
            default=default,
            show_default=default is not None,
            help="Where the base station is lost: go on alone, tokens marked (llm cannot, and waits); wait for it, tokens "
            f"as ever; or fail.{described}",
        ),
        option(
            "--outage-s",
            type=click.FloatRange(0, min_open=True),
            help="How long to wait for it first, seconds.  "
            f"[default: {PATIENCE_S[OnOutage.LOCAL]:g} under local, {PATIENCE_S[OnOutage.WAIT]:g} under wait]",
        ),
    )


def outage_of(values: Values) -> Outage | None:
    """Return what the flags say, None where an answer fails; click.BadParameter for a wait before nothing.

    A base station in this process cannot be lost, only slow: nothing but a named one is gone on without, unless asked.
    """
    asked = values.get("on_outage", FAIL)
    if asked is None:
        asked = FAIL if values["server"] is None else OnOutage.LOCAL.value
    if asked != FAIL:
        return Outage(OnOutage(asked), values["outage_s"])
    if values.get("outage_s") is not None:
        raise click.BadParameter(
            "a run that fails does not wait: give --on-outage local or wait", param_hint="--outage-s"
        )
    return None
