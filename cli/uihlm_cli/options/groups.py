"""The flags that commands share, in groups.

Every flag has its default and unit in the help. A flag that is left out keeps the default of the settings class it feeds,
so that a default is written once.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from uihlm_cli.options.access import access_options
from uihlm_cli.options.flags import FILE, OUTPUT_FOLDER, F, choice, group, one_of, option
from uihlm_cli.options.link_traces import link_trace_options
from uihlm_cli.options.types import codec_name, draft_length, load_config, load_learned, profile_defaults
from uihlm_cli.options.weights import HELP as WEIGHT_TYPES_HELP
from uihlm_cli.options.weights import WEIGHT_TYPES
from uihlm_evaluation.prompts.datasets import NAMES
from uihlm_evaluation.runs.configuration import ClockMode, RunConfig
from uihlm_proto.codecs import names as codec_names
from uihlm_proto.limits import MAX_DRAFTS, MAX_STREAM_INTERVAL
from uihlm_wireless.energy import JouleProfile
from uihlm_wireless.fading import FadingMode
from uihlm_wireless.settings import PROFILE_NAMES, AirtimeBasis

_DEFAULT = RunConfig()

config_option = option(
    "--config",
    type=FILE,
    is_eager=True,
    callback=load_config,
    help="TOML file with any of these flags as keys (theta_u = 0.5); flags and environment variables win over it.",
)


def selection_group(default_limit: str) -> Callable[[F], F]:
    """Return the flags that choose prompts; commands differ in how many they take by default."""
    return group(
        option(
            "--dataset",
            default="alpaca",
            help=f"{', '.join(NAMES)}, or the path of a JSON or JSONL file with instruction and output, or with question "
            "and answer (exact after ####, as in GSM8K).",
        ),
        option("--limit", type=click.IntRange(1), help=f"At most so many prompts.  [default: {default_limit}]"),
        option("--offset", type=click.IntRange(0), default=0, help="Leave out so many prompts first."),
        option("--sample", type=click.IntRange(1), help="Draw so many prompts at random by the seed instead."),
        option("--seed", type=int, default=0, help="Seed of every token, and of --sample."),
    )


selection_options: Callable[[F], F] = selection_group("100 of alpaca and gsm8k, all of others")

model_options: Callable[[F], F] = group(
    option("--model", default="bundled", help="Drafter: a preset (bundled, paper), a GGUF, a folder, or a hub id."),
    option(
        "--llm", default=None, help="LLM of the local base station, as --model.  [default: the preset's, or bundled]"
    ),
    option(
        "--llm-dtype", type=click.Choice(WEIGHT_TYPES), default="auto", help=f"Weights of that LLM: {WEIGHT_TYPES_HELP}"
    ),
    option("--server", default=None, metavar="HOST:PORT", help="Use this base station instead of a local one."),
    access_options,
    option("--backend", type=click.Choice(["llama", "torch"]), help="Library.  [default: llama for GGUF, else torch]"),
    option("--threads", type=click.IntRange(0), default=0, help="CPU threads of each model; 0 takes every core."),
    option("--layer", type=click.IntRange(0), help="Attention layer read, from 0.  [default: 0.85 of the depth]"),
    option("--timeout-s", type=click.FloatRange(0.1), default=120.0, help="Wait so long for any one answer, seconds."),
)

decode_options: Callable[[F], F] = group(
    option(
        "--temperature",
        type=click.FloatRange(0),
        default=_DEFAULT.decode.sampling.temperature,
        help="T_s; 0 is greedy.",
    ),
    option("--top-k", type=click.IntRange(0), default=0, help="Keep the k likeliest tokens; 0 keeps all."),
    option(
        "--top-p",
        type=click.FloatRange(0, 1, min_open=True),
        default=1.0,
        help="Keep the likeliest tokens of this mass.",
    ),
    option("--max-tokens", type=click.IntRange(1), default=_DEFAULT.decode.max_tokens, help="Longest answer, tokens."),
    option(
        "--codec",
        type=codec_name,
        metavar="NAME",
        default=_DEFAULT.codec,
        help=f"Uplink codec: {', '.join(codec_names())}; lattice:k=16,l=128 and lattice:tv=0.05,alpha=0.1 set its grid.",
    ),
    one_of("--estimator", _DEFAULT.decode.estimator, "Of the uncertainty u: its mean, or the paper's 20 samples."),
)

upload_options: Callable[[F], F] = group(
    option(
        "--draft-length",
        type=draft_length,
        metavar="N|auto",
        default="1",
        help="Drafts an upload under hlm; `auto` picks the quickest for each answer.",
    ),
    option(
        "--draft-p-min",
        type=click.FloatRange(0.0, 1.0),
        metavar="P",
        default=0.0,
        help="With --draft-length of 2 or more, send a block early whose last draft the drafter gives less than this "
        "probability; 0 never does.",
    ),
    option(
        "--in-flight",
        type=click.IntRange(1),
        default=1,
        help="Uploads that may wait for verdicts at once; 1 waits for each. With --tree the others continue the tree.",
    ),
    option(
        "--stream-interval",
        type=click.IntRange(1, MAX_STREAM_INTERVAL),
        metavar="N",
        default=_DEFAULT.decode.stream_interval,
        help="Tokens a message under llm, after the first one; with more, the base station is asked less often.",
    ),
    option(
        "--run-on/--no-run-on",
        default=None,
        help="Under hlm, have the LLM run its next forward with its verdict, or with the next upload as in the papers.  "
        "[default: with its verdict where drafts go one by one]",
    ),
    option(
        "--tree",
        type=click.IntRange(0, MAX_DRAFTS),
        default=0,
        help="Nodes of the draft tree an upload carries under hlm with --codec coupled; 0 sends no tree.",
    ),
)

audit_options: Callable[[F], F] = group(
    option(
        "--audit/--no-audit",
        default=False,
        help="Have the LLM say of skipped tokens how likely it would have rejected them: 8 bits each.",
    ),
    one_of(
        "--decide",
        _DEFAULT.decode.decide,
        "By the draft token (the paper), or before it is drawn: then what is uploaded is unbiased.",
    ),
)

risk_options: Callable[[F], F] = group(
    option(
        "--risk",
        type=click.FloatRange(0, 1),
        help="Budget of skipping: rejection probability of skipped tokens, a token; implies --audit.",
    ),
    one_of("--recalibrate", _DEFAULT.decode.recalibrate, "Move theta-u between answers to hold --risk."),
)

profile_option = option(
    "--profile",
    type=click.Path(exists=True, path_type=Path),
    is_eager=True,
    callback=profile_defaults,
    help="Profile that `calibrate` wrote, a file or its folder: sets theta-u, layer, k and gamma where nothing else does.",
)

_readout_option = one_of("--readout", _DEFAULT.decode.readout, "Reading of the attention.")

_learned_option = option(
    "--learned",
    type=FILE,
    callback=load_learned,
    help="Policy learned: weights that `calibrate --learn` wrote, kept or not.  [default: the profile's, if kept]",
)

grid_options: Callable[[F], F] = group(
    profile_option,
    option("--k", multiple=True, type=click.IntRange(1), help="Of i, ui; repeats.  [default: 3 5 7 9 11]"),
    option("--gamma", multiple=True, type=click.FloatRange(0), help="Of i, ui; repeats.  [default: 1; ui: 0.5 1 1.5]"),
    option(
        "--theta-u", multiple=True, type=float, help="Of u, ui, u-random; repeats.  [default: 0.58, or the profile's]"
    ),
    option("--theta-c", multiple=True, type=float, help="Of confidence; repeats.  [default: 0.4]"),
    option("--rate", multiple=True, type=click.FloatRange(0, 1), help="Of random, u-random; repeats.  [default: 0.5]"),
    _learned_option,
    _readout_option,
)

rule_options: Callable[[F], F] = group(
    profile_option,
    option(
        "--theta-u", type=float, default=_DEFAULT.rules.theta_u, help="Policies u, ui: upload above this uncertainty."
    ),
    option(
        "--k", type=click.IntRange(1), default=_DEFAULT.rules.k, help="Policies i, ui: attention weights above θ_imp."
    ),
    option("--gamma", type=click.FloatRange(0), default=_DEFAULT.decode.gamma, help="γ in θ_imp = max − γ·std."),
    _readout_option,
    option(
        "--theta-c", type=float, default=_DEFAULT.rules.theta_c, help="Policy confidence: upload above this 1 − x_d."
    ),
    option(
        "--rate", type=click.FloatRange(0, 1), default=_DEFAULT.rules.rate, help="Policies random, u-random: chance."
    ),
    _learned_option,
)


def link_options(default_profile: str, default_clock: ClockMode) -> Callable[[F], F]:
    """Return the link's flags; `chat` and `eval` differ in which link and clock they start from."""
    return group(
        option(
            "--link",
            type=click.Choice(PROFILE_NAMES),
            default=default_profile,
            help="Named link; the flags below vary it.",
        ),
        option("--bandwidth-hz", type=click.FloatRange(0, min_open=True), help="W, Hz.  [default: the link's]"),
        option("--transmit-power-dbm", type=float, help="p, dBm.  [default: the link's]"),
        option("--noise-dbm", type=float, help="σ², dBm.  [default: the link's]"),
        option("--distance-m", type=click.FloatRange(0, min_open=True), help="d, metres.  [default: the link's]"),
        option("--path-loss-exponent", type=float, help="α.  [default: the link's]"),
        option("--fading", type=choice(FadingMode), help="Of the uplink.  [default: the link's]"),
        option(
            "--fading-seed", type=int, help="Seed of the fading, or of places in --link-trace, alone.  [default: 0]"
        ),
        option(
            "--coherence-s",
            type=click.FloatRange(0, min_open=True),
            help="Slot of `slotted` fading, s.  [default: 0.01]",
        ),
        link_trace_options,
        option("--rtt-s", type=click.FloatRange(0), help="Round-trip time, s.  [default: the link's]"),
        option(
            "--grant-delay-s", type=click.FloatRange(0), help="Uplink grant on an idle link, s.  [default: the link's]"
        ),
        option("--devices", type=click.IntRange(1), help="Devices that share W.  [default: 1]"),
        option(
            "--airtime",
            type=choice(AirtimeBasis),
            help="Airtime follows the model bits or the wire.  [default: model]",
        ),
        option("--b-prob", type=click.IntRange(1), help="Bits billed a probability.  [default: the codec's own]"),
        one_of("--clock", default_clock, "Link seconds on a virtual clock, or really waited for."),
        option("--draft-time-s", type=click.FloatRange(0), help="Charge so much a draft, s.  [default: as measured]"),
        option(
            "--forward-time-s",
            type=click.FloatRange(0),
            help="Charge so much an LLM forward, s.  [default: as measured]",
        ),
        option(
            "--position-time-s",
            type=click.FloatRange(0),
            help="With --forward-time-s: so much for each further position of a forward, s.  [default: 0]",
        ),
    )


energy_options: Callable[[F], F] = group(
    option("--device-w", type=click.FloatRange(0), default=JouleProfile().device_w, help="Watts of a busy device."),
    option(
        "--basestation-w",
        type=click.FloatRange(0),
        default=JouleProfile().basestation_w,
        help="Watts of a busy base station.",
    ),
)


def run_options(what: str, dry_run: str) -> Callable[[F], F]:
    """Return the flags of a command that runs prompts under policies: what is scored, and where it goes."""
    return group(
        option("--metrics/--no-metrics", default=True, help="BERTScore and cosine similarity."),
        option(
            "--agreement/--no-agreement",
            default=True,
            help="The LLM scores the tokens of each answer after it, unbilled and untimed.",
        ),
        option("--output", type=OUTPUT_FOLDER, help=f"Results folder.  [default: runs/{what}-<time>]"),
        option("--resume", is_flag=True, help=f"Go on with the {what} in --output."),
        option("--dry-run", is_flag=True, help=dry_run),
    )
