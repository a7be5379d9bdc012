"""In which type weights run: what `--dtype` and `--llm-dtype` take, and the choice by measurement."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from uihlm_cli.options.flags import Values

if TYPE_CHECKING:
    from uihlm_basestation.engines.loading import EngineSettings
    from uihlm_models.sources import ModelSource

MEASURED = "measured"
WEIGHT_TYPES = ("auto", MEASURED, "float32", "bfloat16", "float16", "q8_0")
HELP = (
    f"as the file has them (auto), the fastest of this machine's CPU ({MEASURED}: timed once, remembered), or one by name; "
    "q8_0 is llama's alone. llama writes a file of another type once, into the cache."
)


def measured_type(source: ModelSource, settings: EngineSettings) -> str:
    """Return the weight type that this machine's CPU runs fastest, and say on stderr which and why.

    Raises:
        ModelError: if there is nothing to choose, or the choice cannot be kept.
    """
    from uihlm_basestation.engines.fastest import fastest

    choice = fastest(source, settings, lambda text: click.echo(text, err=True))
    click.echo(f"note: {choice}", err=True)
    return choice.weight_type


def llm_dtype(values: Values, llm: str | None) -> str | None:
    """Return the weight type of the LLM `llm` of a local base station, a measured one by its name; None is the file's own.

    The name goes into the run's settings, and so into its results: the same run elsewhere has the same floats.
    """
    asked: str = values.get("llm_dtype", "auto")
    if asked == "auto":
        return None
    if llm is None:
        raise click.UsageError(
            "--llm-dtype is of a local base station's LLM: that of --server has its own (uihlm-bs serve --dtype)"
        )
    if asked != MEASURED:
        return asked
    from uihlm_basestation.engines.loading import EngineSettings
    from uihlm_models.presets import Role
    from uihlm_models.sources import resolve

    # The file's own type stays the default: what a machine finds fastest is not what every machine finds.
    settings = EngineSettings(backend=values["backend"], threads=values["threads"])
    found = measured_type(resolve(llm, Role.TARGET), settings)
    return None if found == "auto" else found
