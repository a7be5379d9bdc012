"""`uihlm-device score`: how good upload rules are, on a trace pack, without a model."""

from __future__ import annotations

from typing import Any

import click

from uihlm_cli.errors import reported
from uihlm_cli.options.flags import FOLDER, format_option, one_of, option
from uihlm_cli.options.groups import config_option
from uihlm_device.rules.policies import PolicySettings
from uihlm_evaluation.traces.pack import Side

_RULES = PolicySettings()


@click.command("score")
@click.argument("rules", metavar="[RULE]...", nargs=-1)
@config_option
@option("--trace", type=FOLDER, required=True, help="Folder of a trace pack; there is no default.")
@one_of("--side", Side.HELD_OUT, "Which of the pack's prompts rules are scored on.")
@option("--seed", type=int, default=0, help="Seed of the bootstrap over prompts.")
@option("--theta-u", type=float, default=_RULES.theta_u, help="Of policy:u, policy:ui: upload above this uncertainty.")
@option("--k", type=click.IntRange(1), default=_RULES.k, help="Of policy:i, policy:ui: attention weights above θ_imp.")
@option("--theta-c", type=float, default=_RULES.theta_c, help="Of policy:confidence: upload above this 1 − x_d.")
@option("--rate", type=click.FloatRange(0, 1), default=_RULES.rate, help="Of policy:random, policy:u-random: chance.")
@format_option
def command(rules: tuple[str, ...], **values: Any) -> None:
    """Score each RULE on a trace pack: which share of all rejection its uploads would have caught.

    A RULE puts tokens in order of need, so it is scored at 5, 10 … 95 % uploaded and by the area under that curve; u, chance
    and the oracle stand beside it, with 95 % bootstrap intervals over prompts. It is u, confidence, entropy, i, ui, learned
    or random (with none named: all of them), a name in entry-point group uihlm.rules, module:function, or file.py:function.
    policy:NAME scores a policy at its own upload rate. Takes seconds, and runs no model.

    \b
      uihlm-device score --trace packs/bundled
      uihlm-device score margin.py:margin --trace packs/bundled
      uihlm-device score policy:u policy:ui --theta-u 0.4 --trace packs/bundled --format md

    Rules are judged on held-out prompts; one that is fitted (learned) is fitted to the others. Exit codes: 0 done, 1 error,
    2 usage.
    """
    from rich.console import Console

    from uihlm_evaluation.results.table import TableFormat
    from uihlm_evaluation.traces.pack import load_pack
    from uihlm_evaluation.traces.policies import PREFIX
    from uihlm_evaluation.traces.rules import BUILT_IN, is_fitted
    from uihlm_evaluation.traces.scores import score
    from uihlm_evaluation.traces.table import render

    with reported():
        pack = load_pack(values["trace"])
        settings = PolicySettings(values["theta_u"], values["k"], values["theta_c"], values["rate"])
        asked = rules or tuple(name for name in BUILT_IN if name != "learned" or pack.trace.hidden is not None)
        if not rules and pack.trace.hidden is None:
            click.echo("note: the pack has no hidden states, so rule learned is left out", err=True)
        side = Side(values["side"])
        if side is not Side.HELD_OUT:
            for name in asked:
                if not name.startswith(PREFIX) and is_fitted(name):
                    click.echo(
                        f"warning: {name} is fitted to tokens that --side {side.value} scores it on: that says nothing of "
                        "others",
                        err=True,
                    )
        scores = score(pack, asked, side, values["seed"], settings)
        if scores.prompts == 1:
            click.echo("warning: one prompt has no interval, and ±0.0 says nothing: trace more prompts", err=True)
        render(scores, pack.manifest, TableFormat(values["format"]), Console())
