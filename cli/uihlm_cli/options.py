"""The flags that commands share, in groups, and the settings they build.

Every flag has an environment variable `UIHLM_<COMMAND>_<FLAG>` (click's `auto_envvar_prefix`), and its default and unit
in the help. A flag that is left out keeps the default of the settings class it feeds, so that a default is written once.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from uihlm_device.decode_settings import AUTO, DecodeSettings
from uihlm_device.drafting import Decide
from uihlm_device.importance import Readout
from uihlm_device.policies import PolicySettings
from uihlm_device.predictor import LearnedFile, PredictorError
from uihlm_device.risk import Recalibrate
from uihlm_device.uncertainty import Estimator
from uihlm_evaluation.calibration.learned import LEARNED
from uihlm_evaluation.calibration.profile import Profile, ProfileError, load_profile
from uihlm_evaluation.prompts.datasets import NAMES
from uihlm_evaluation.runs.configuration import ClockMode, RunConfig, Selection
from uihlm_proto.codecs import CODECS, canonical_name
from uihlm_proto.errors import InvalidRequestError
from uihlm_proto.limits import MAX_DRAFTS
from uihlm_proto.sampling import Sampling
from uihlm_wireless.channel import RadioLink
from uihlm_wireless.energy import JouleProfile
from uihlm_wireless.fading import FadingMode
from uihlm_wireless.settings import PROFILE_NAMES, AirtimeBasis, LinkSettings, profile
from uihlm_wireless.timing import TimingProfile

F = TypeVar("F", bound=Callable[..., Any])
Values = dict[str, Any]

_DEFAULT = RunConfig()
_RADIO = RadioLink()


def _group(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Return one decorator that adds options in the order given."""

    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def _finite(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    # Python reads `nan` and `inf` as floats, no range refuses them, and the results file cannot hold them.
    if isinstance(value, float) and not math.isfinite(value):
        raise click.BadParameter(f"must be a finite number, got {value}", context, parameter)
    return value


def _option(*names: str, help: str, **settings: Any) -> Callable[[F], F]:
    settings.setdefault("show_default", True)
    return click.option(*names, help=help, show_envvar=True, callback=_finite, **settings)


def _draft_length(value: str) -> int:
    """Return the drafts of an upload."""
    if value == "auto":
        return AUTO
    try:
        length = int(value)
    except ValueError:
        length = 0
    if not 1 <= length <= MAX_DRAFTS:
        raise click.BadParameter(f"must be 1 … {MAX_DRAFTS}, or auto, got {value!r}")
    return length


def _choice(names: type[Any]) -> click.Choice[Any]:
    return click.Choice([member.value for member in names])


def _codec_name(value: str) -> str:
    """Return a codec's name with every parameter spelled out, so that a run's settings say what the defaults were."""
    try:
        return canonical_name(value)
    except InvalidRequestError as error:
        raise click.BadParameter(str(error)) from error


def _load_config(context: click.Context, parameter: click.Parameter, value: Path | None) -> Path | None:
    """Make the TOML file's values the defaults; flags and environment still win."""
    if value is None:
        return None
    try:
        settings = tomllib.loads(value.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"{value} is not valid TOML: {error}", context, parameter) from error
    flags = {p.name: p for p in context.command.params if isinstance(p, click.Option) and p is not parameter}
    renamed = {name.replace("-", "_"): entry for name, entry in settings.items()}
    unknown = sorted(renamed.keys() - flags.keys())
    if unknown:
        raise click.BadParameter(
            f"{value} sets {', '.join(unknown)}, which is no flag of this command (keys are flags without the dashes)",
            context,
            parameter,
        )
    # A flag that repeats may be given once as a plain string, as in its environment variable.
    entries = {
        name: flags[name].type.split_envvar_value(entry) if flags[name].multiple and isinstance(entry, str) else entry
        for name, entry in renamed.items()
    }
    context.default_map = {**(context.default_map or {}), **entries}
    return value


def _load_profile(context: click.Context, parameter: click.Parameter, value: Path | None) -> Profile | None:
    """Make the profile's knobs the defaults; flags, environment and the TOML file still win."""
    if value is None:
        return None
    try:
        loaded = load_profile(value)
    except ProfileError as error:
        raise click.BadParameter(f"{error}", context, parameter) from error
    # A flag that repeats (of `sweep`) spans a grid: the profile's one value must not stand for all of it.
    flags = {
        option.name for option in context.command.params if isinstance(option, click.Option) and not option.multiple
    }
    knobs = {name: knob for name, knob in loaded.knobs.items() if name in flags}
    if loaded.learned is not None and "learned" in flags:
        knobs["learned"] = _kept_weights(value, loaded.learned, context, parameter)
    context.default_map = {**knobs, **(context.default_map or {})}
    return loaded


def _kept_weights(profile: Path, sha256: str, context: click.Context, parameter: click.Parameter) -> Path:
    """Return the path of the weights that a profile points to."""
    path = (profile if profile.is_dir() else profile.parent) / LEARNED
    try:
        found = LearnedFile.of(path).sha256
    except PredictorError as error:
        raise click.BadParameter(f"the profile points to weights: {error}", context, parameter) from error
    if found != sha256:
        raise click.BadParameter(
            f"{path} holds other weights than the profile points to: run `uihlm-device calibrate --learn` again",
            context,
            parameter,
        )
    return path


def _load_learned(context: click.Context, parameter: click.Parameter, value: Path | None) -> LearnedFile | None:
    try:
        return None if value is None else LearnedFile.of(value)
    except PredictorError as error:
        raise click.BadParameter(str(error), context, parameter) from error


config_option = click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    is_eager=True,
    callback=_load_config,
    show_envvar=True,
    help="TOML file with any of these flags as keys (theta_u = 0.5); flags and environment variables win over it.",
)


def selection_group(default_limit: str) -> Callable[[F], F]:
    """Return the flags that choose prompts; commands differ in how many they take by default."""
    return _group(
        _option(
            "--dataset",
            default="alpaca",
            help=f"{', '.join(NAMES)}, or the path of a JSON or JSONL file with instruction and output, or with question "
            "and answer (exact after ####, as in GSM8K).",
        ),
        _option("--limit", type=click.IntRange(1), help=f"At most so many prompts.  [default: {default_limit}]"),
        _option("--offset", type=click.IntRange(0), default=0, help="Leave out so many prompts first."),
        _option("--sample", type=click.IntRange(1), help="Draw so many prompts at random by the seed instead."),
        _option("--seed", type=int, default=0, help="Seed of every token, and of --sample."),
    )


selection_options: Callable[[F], F] = selection_group("100 of alpaca and gsm8k, all of others")

model_options: Callable[[F], F] = _group(
    _option("--model", default="bundled", help="Drafter: a preset (bundled, paper), a GGUF, a folder, or a hub id."),
    _option(
        "--llm", default=None, help="LLM of the local base station, as --model.  [default: the preset's, or bundled]"
    ),
    _option("--server", default=None, metavar="HOST:PORT", help="Use this base station instead of a local one."),
    _option("--backend", type=click.Choice(["llama", "torch"]), help="Library.  [default: llama for GGUF, else torch]"),
    _option("--threads", type=click.IntRange(0), default=0, help="CPU threads of each model; 0 takes every core."),
    _option("--layer", type=click.IntRange(0), help="Attention layer read, from 0.  [default: 0.85 of the depth]"),
    _option("--timeout-s", type=click.FloatRange(0.1), default=120.0, help="Wait so long for any one answer, seconds."),
)

decode_options: Callable[[F], F] = _group(
    _option(
        "--temperature",
        type=click.FloatRange(0),
        default=_DEFAULT.decode.sampling.temperature,
        help="T_s; 0 is greedy.",
    ),
    _option("--top-k", type=click.IntRange(0), default=0, help="Keep the k likeliest tokens; 0 keeps all."),
    _option(
        "--top-p",
        type=click.FloatRange(0, 1, min_open=True),
        default=1.0,
        help="Keep the likeliest tokens of this mass.",
    ),
    _option("--max-tokens", type=click.IntRange(1), default=_DEFAULT.decode.max_tokens, help="Longest answer, tokens."),
    _option(
        "--codec",
        type=_codec_name,
        metavar="NAME",
        default=_DEFAULT.codec,
        help=f"Uplink codec: {', '.join(CODECS)}; lattice:k=16,l=128 and lattice:tv=0.05,alpha=0.1 set its grid.",
    ),
    _option(
        "--draft-length",
        type=_draft_length,
        metavar="N|auto",
        default="1",
        help="Drafts an upload under hlm; `auto` picks the quickest for each answer.",
    ),
    _option(
        "--in-flight",
        type=click.IntRange(1),
        default=1,
        help="Uploads that may wait for verdicts at once; 1 waits for each.",
    ),
    _option(
        "--tree",
        type=click.IntRange(0, MAX_DRAFTS),
        default=0,
        help="Nodes of the draft tree an upload carries under hlm with --codec coupled; 0 sends no tree.",
    ),
    _option(
        "--estimator",
        type=_choice(Estimator),
        default=_DEFAULT.decode.estimator.value,
        help="Of the uncertainty u: its mean, or the paper's 20 samples.",
    ),
)

audit_options: Callable[[F], F] = _group(
    _option(
        "--audit/--no-audit",
        default=False,
        help="Have the LLM say of skipped tokens how likely it would have rejected them: 8 bits each.",
    ),
    _option(
        "--decide",
        type=_choice(Decide),
        default=_DEFAULT.decode.decide.value,
        help="By the draft token (the paper), or before it is drawn: then what is uploaded is unbiased.",
    ),
)

risk_options: Callable[[F], F] = _group(
    _option(
        "--risk",
        type=click.FloatRange(0, 1),
        help="Budget of skipping: rejection probability of skipped tokens, a token; implies --audit.",
    ),
    _option(
        "--recalibrate",
        type=_choice(Recalibrate),
        default=_DEFAULT.decode.recalibrate.value,
        help="Move theta-u between answers to hold --risk.",
    ),
)

profile_option = click.option(
    "--profile",
    type=click.Path(exists=True, path_type=Path),
    is_eager=True,
    callback=_load_profile,
    show_envvar=True,
    help="Profile that `calibrate` wrote, a file or its folder: sets theta-u, layer, k and gamma where nothing else does.",
)

_readout_option = _option(
    "--readout", type=_choice(Readout), default=_DEFAULT.decode.readout.value, help="Reading of the attention."
)

_learned_option = click.option(
    "--learned",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    callback=_load_learned,
    show_envvar=True,
    help="Policy learned: weights that `calibrate --learn` wrote, kept or not.  [default: the profile's, if kept]",
)

grid_options: Callable[[F], F] = _group(
    profile_option,
    _option("--k", multiple=True, type=click.IntRange(1), help="Of i, ui; repeats.  [default: 3 5 7 9 11]"),
    _option("--gamma", multiple=True, type=click.FloatRange(0), help="Of i, ui; repeats.  [default: 1; ui: 0.5 1 1.5]"),
    _option(
        "--theta-u", multiple=True, type=float, help="Of u, ui, u-random; repeats.  [default: 0.58, or the profile's]"
    ),
    _option("--theta-c", multiple=True, type=float, help="Of confidence; repeats.  [default: 0.4]"),
    _option("--rate", multiple=True, type=click.FloatRange(0, 1), help="Of random, u-random; repeats.  [default: 0.5]"),
    _learned_option,
    _readout_option,
)

rule_options: Callable[[F], F] = _group(
    profile_option,
    _option(
        "--theta-u", type=float, default=_DEFAULT.rules.theta_u, help="Policies u, ui: upload above this uncertainty."
    ),
    _option(
        "--k", type=click.IntRange(1), default=_DEFAULT.rules.k, help="Policies i, ui: attention weights above θ_imp."
    ),
    _option("--gamma", type=click.FloatRange(0), default=_DEFAULT.decode.gamma, help="γ in θ_imp = max − γ·std."),
    _readout_option,
    _option(
        "--theta-c", type=float, default=_DEFAULT.rules.theta_c, help="Policy confidence: upload above this 1 − x_d."
    ),
    _option(
        "--rate", type=click.FloatRange(0, 1), default=_DEFAULT.rules.rate, help="Policies random, u-random: chance."
    ),
    _learned_option,
)


def link_options(default_profile: str, default_clock: ClockMode) -> Callable[[F], F]:
    """Return the link's flags; `chat` and `eval` differ in which link and clock they start from."""
    return _group(
        _option(
            "--link",
            type=click.Choice(PROFILE_NAMES),
            default=default_profile,
            help="Named link; the flags below vary it.",
        ),
        _option("--bandwidth-hz", type=click.FloatRange(0, min_open=True), help="W, Hz.  [default: the link's]"),
        _option("--transmit-power-dbm", type=float, help="p, dBm.  [default: the link's]"),
        _option("--noise-dbm", type=float, help="σ², dBm.  [default: the link's]"),
        _option("--distance-m", type=click.FloatRange(0, min_open=True), help="d, metres.  [default: the link's]"),
        _option("--path-loss-exponent", type=float, help="α.  [default: the link's]"),
        _option("--fading", type=_choice(FadingMode), help="Of the uplink.  [default: the link's]"),
        _option("--fading-seed", type=int, help="Seed of the fading alone.  [default: 0]"),
        _option(
            "--coherence-s",
            type=click.FloatRange(0, min_open=True),
            help="Slot of `slotted` fading, s.  [default: 0.01]",
        ),
        _option("--rtt-s", type=click.FloatRange(0), help="Round-trip time, s.  [default: the link's]"),
        _option(
            "--grant-delay-s", type=click.FloatRange(0), help="Uplink grant on an idle link, s.  [default: the link's]"
        ),
        _option("--devices", type=click.IntRange(1), help="Devices that share W.  [default: 1]"),
        _option(
            "--airtime",
            type=_choice(AirtimeBasis),
            help="Airtime follows the model bits or the wire.  [default: model]",
        ),
        _option("--b-prob", type=click.IntRange(1), help="Bits billed a probability.  [default: the codec's own]"),
        _option(
            "--clock",
            type=_choice(ClockMode),
            default=default_clock.value,
            help="Link seconds on a virtual clock, or really waited for.",
        ),
        _option("--draft-time-s", type=click.FloatRange(0), help="Charge so much a draft, s.  [default: as measured]"),
        _option(
            "--forward-time-s",
            type=click.FloatRange(0),
            help="Charge so much an LLM forward, s.  [default: as measured]",
        ),
        _option(
            "--position-time-s",
            type=click.FloatRange(0),
            help="With --forward-time-s: so much for each further position of a forward, s.  [default: 0]",
        ),
    )


energy_options: Callable[[F], F] = _group(
    _option("--device-w", type=click.FloatRange(0), default=JouleProfile().device_w, help="Watts of a busy device."),
    _option(
        "--basestation-w",
        type=click.FloatRange(0),
        default=JouleProfile().basestation_w,
        help="Watts of a busy base station.",
    ),
)

format_option = _option(
    "--format", type=click.Choice(["table", "json", "csv", "md"]), default="table", help="Form of stdout."
)


def link_settings(values: Values, start: LinkSettings | None = None) -> LinkSettings:
    """Return the named link, or the one to start from, with the given flags put in."""
    link = profile(values["link"]) if start is None else start
    radio_flags = ("bandwidth_hz", "transmit_power_dbm", "noise_dbm", "distance_m", "path_loss_exponent")
    radio = {name: values[name] for name in radio_flags if values[name] is not None}
    if radio:
        # A link without a radio gets one as soon as a flag speaks of it.
        link = replace(link, radio=replace(link.radio or _RADIO, **radio))
    plain = ("fading_seed", "coherence_s", "rtt_s", "grant_delay_s", "devices", "b_prob")
    given: Values = {name: values[name] for name in plain if values[name] is not None}
    if values["fading"] is not None:
        given["fading"] = FadingMode(values["fading"])
    if values["airtime"] is not None:
        given["airtime"] = AirtimeBasis(values["airtime"])
    return replace(link, **given)


def run_config(values: Values, policies: tuple[str, ...], selection: Selection = Selection()) -> RunConfig:
    """Return the settings that the flags of all groups say; click.UsageError where two of them exclude each other."""
    _check_tree(values, policies)
    _check_audits(values)
    link = link_settings(values)
    transmit_w = link.radio.transmit_power_w if link.radio is not None else 0.0
    return RunConfig(
        selection=selection,
        policies=policies,
        decode=DecodeSettings(
            sampling=Sampling(values["temperature"], values["top_k"], values["top_p"]),
            max_tokens=values["max_tokens"],
            estimator=Estimator(values["estimator"]),
            gamma=values["gamma"],
            readout=Readout(values["readout"]),
            draft_length=values["draft_length"],
            in_flight=values["in_flight"],
            audit=values["audit"],
            # Not a flag of commands whose rows share their answers between workers.
            risk=values.get("risk"),
            recalibrate=Recalibrate(values.get("recalibrate", _DEFAULT.decode.recalibrate)),
            decide=Decide(values["decide"]),
            tree=values["tree"],
        ),
        rules=PolicySettings(values["theta_u"], values["k"], values["theta_c"], values["rate"], values["learned"]),
        codec=values["codec"],
        link=link,
        clock=ClockMode(values["clock"]),
        timing=TimingProfile(values["draft_time_s"], values["forward_time_s"], values["position_time_s"] or 0.0),
        joules=JouleProfile(transmit_w, values["device_w"], values["basestation_w"]),
        model=values["model"],
        llm=llm_name(values),
        layer=values["layer"],
        threads=values["threads"],
        backend=values["backend"],
        profile=None if values["profile"] is None else values["profile"].digest,
    )


def _check_tree(values: Values, policies: tuple[str, ...]) -> None:
    """Refuse a tree that could not be sent."""
    problem = None
    if values["tree"] and ("hlm" not in policies or values["codec"] != "coupled"):
        problem = (
            "--tree needs --policy hlm and --codec coupled: only the LLM's own draws can walk a tree of drafts, got "
            f"--policy {', '.join(policies)} and --codec {values['codec']}"
        )
    elif values["tree"] and (values["draft_length"] != 1 or values["in_flight"] != 1):
        problem = "--tree takes the place of --draft-length, and waits for its verdict: leave --draft-length and --in-flight out"
    if problem is not None:
        raise click.BadParameter(problem, param_hint="--tree")


def _check_audits(values: Values) -> None:
    """Refuse a controller without a budget, and a mean over drafts from samples."""
    if values.get("recalibrate") == Recalibrate.ONLINE.value and values["risk"] is None:
        raise click.BadParameter("online holds a budget: give it with --risk", param_hint="--recalibrate")
    if values["decide"] == Decide.DISTRIBUTION.value and values["estimator"] != Estimator.EXPECTED.value:
        raise click.BadParameter(
            "distribution takes the mean of u over all drafts: leave --estimator at expected", param_hint="--decide"
        )


def llm_name(values: Values) -> str | None:
    """Return the LLM of the local base station, None where a server is named; click.UsageError where both are."""
    if values["server"] is not None and values["llm"] is not None:
        raise click.UsageError(
            "--llm names the LLM of a local base station, and --server names another one: give one of them"
        )
    return None if values["server"] is not None else values["llm"] or default_llm(values["model"])


def default_llm(model: str) -> str:
    """Return the LLM that goes with a drafter: a preset names a pair; anything else gets the bundled one."""
    from uihlm_models.presets import PRESETS

    return model if model in PRESETS else "bundled"
