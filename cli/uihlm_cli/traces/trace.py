"""`uihlm-device trace`: a pack of what both ends know of every drafted token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from uihlm_cli.errors import SomeSamplesFailed, reported
from uihlm_cli.options.access import access_of
from uihlm_cli.options.flags import OUTPUT_FOLDER, format_option, one_of, option
from uihlm_cli.options.groups import config_option, decode_options, model_options, selection_group
from uihlm_cli.runs.frame import check_resume, chosen_prompts, output_folder
from uihlm_cli.traces.tracing import LIMIT, check_codec, hidden_option, shown_progress, trace_config, whole_prompts_kept
from uihlm_evaluation.calibration.profile import ProfileModel
from uihlm_evaluation.calibration.trace import TraceHeader
from uihlm_evaluation.calibration.tracing import Tracer, TraceSettings
from uihlm_evaluation.prompts.datasets import Dataset
from uihlm_evaluation.runs.configuration import RunConfig
from uihlm_evaluation.traces.manifest import Store
from uihlm_evaluation.traces.pack import PackSettings, TracePack, make_pack
from uihlm_evaluation.traces.split import DEFAULT_SHARE


@click.command("trace")
@config_option
@selection_group(f"{LIMIT}, or as many as --sample draws")
@decode_options
@model_options
@hidden_option
@option(
    "--held-out",
    type=click.FloatRange(0, 1),
    default=DEFAULT_SHARE,
    help="Share of prompts that rules are judged on and never fitted to; which ones, a hash of their text says.",
)
@one_of("--store", Store.NPZ, "File of the rows; parquet needs pyarrow.")
@option("--output", type=OUTPUT_FOLDER, help="Folder of the pack.  [default: runs/trace-<time>]")
@option("--resume", is_flag=True, help="Go on with the pack in --output.")
@format_option
def command(**values: Any) -> None:
    """Write a trace pack: what device and base station know of every drafted token, to score upload rules on.

    Prompts are answered under hlm through a real base station, so the text is the LLM's own and every draft has a verdict. A
    row holds the draft, x_d, the 64 largest logits, entropy, u, what every layer's attention says, the hidden state; and, to
    be foreseen, y_d, the rejection probability and TV. With no flags: 60 Alpaca prompts on the bundled pair, some 7 minutes
    on two cores, 9 MB.

    \b
      uihlm-device trace --output packs/bundled
      uihlm-device score --trace packs/bundled
      uihlm-device trace --dataset shipped --limit 20 --no-hidden --store parquet --output packs/small
      uihlm-device trace --model my-draft.gguf --llm my-target.gguf --sample 200 --output packs/mine

    The folder holds manifest.json (settings, seeds, versions, weights by hash, columns, prompts of either side) and trace.npz
    or trace.parquet. Exit codes: 0 done, 1 error, 2 usage, 3 some prompts failed, 4 the base station cannot be reached, 130
    interrupted; an interrupted pack goes on with --resume.
    """
    check_resume(values, "pack")
    if values["layer"] is not None:
        raise click.UsageError("a pack holds every layer's attention: leave --layer out")
    check_codec(values)
    with reported():
        config = trace_config(values)
        dataset = chosen_prompts(config.selection)
        output = output_folder(values, "trace")
        with whole_prompts_kept(output):
            pack = _packed(config, dataset, output, values)
        _tell(pack, output, values["format"])
        failed = pack.manifest.failed
        if failed:
            prompt, error = failed[0]
            raise SomeSamplesFailed(
                f"{len(failed)} of {len(dataset.examples)} prompts failed, the first: prompt {prompt}: {error}"
            )


def _packed(config: RunConfig, dataset: Dataset, output: Path, values: dict[str, Any]) -> TracePack:
    from uihlm_cli.assembly import opened_device
    from uihlm_models.sources import file_sha256

    with opened_device(config, values["server"], values["timeout_s"], access=access_of(values)) as device:
        source, target = device.models.slm, device.models.llm
        slm = ProfileModel(source.label, file_sha256(source))
        llm = ProfileModel(target.label, file_sha256(target)) if target else ProfileModel("of the named server", None)
        header = TraceHeader.of(config.decode.sampling, config.decode.estimator, slm.sha256, llm.sha256)
        settings = PackSettings(
            TraceSettings(config, header, values["hidden"]), slm, llm, values["held_out"], Store(values["store"])
        )
        tracer = Tracer(device.drafter_for, device.assemble, device.chat_format.first_turn)
        with shown_progress(len(dataset.examples)) as show:
            return make_pack(tracer, settings, dataset, output, values["resume"], show)


def _tell(pack: TracePack, output: Path, form: str) -> None:
    """Print what is in the pack."""
    from rich.console import Console

    from uihlm_evaluation.results.table import TableFormat
    from uihlm_evaluation.traces.contents import render

    render(pack, TableFormat(form), Console())
    click.echo(f"written to {output}; score rules on it with `uihlm-device score --trace {output}`", err=True)
