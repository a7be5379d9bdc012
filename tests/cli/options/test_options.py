"""The shared flags: what each one sets, that nothing is set twice, and where a default comes from."""

from __future__ import annotations

import click
import pytest

from uihlm_cli.options.flags import Values
from uihlm_cli.options.settings import default_llm, link_settings, run_config
from uihlm_cli.runs.evaluate import command
from uihlm_device.decode_settings import AUTO
from uihlm_evaluation.runs.configuration import DEFAULT_POLICIES, ClockMode, RunConfig, Selection
from uihlm_proto.errors import InvalidRequestError
from uihlm_wireless.channel import RadioLink
from uihlm_wireless.fading import FadingMode
from uihlm_wireless.settings import PROFILE_NAMES, AirtimeBasis, LinkSettings, profile

# Every flag that belongs to the settings of a run, with a value other than its default, and what it sets.
SETTINGS = {
    "--temperature": ("1.5", "decode.sampling.temperature", 1.5),
    "--top-k": ("7", "decode.sampling.top_k", 7),
    "--top-p": ("0.5", "decode.sampling.top_p", 0.5),
    "--max-tokens": ("7", "decode.max_tokens", 7),
    "--draft-length": ("4", "decode.draft_length", 4),
    "--draft-p-min": ("0.25", "decode.draft_p_min", 0.25),
    "--stream-interval": ("8", "decode.stream_interval", 8),
    "--in-flight": ("3", "decode.in_flight", 3),
    "--no-run-on": (None, "decode.run_on", False),
    "--tree": ("16", "decode.tree", 16),
    "--audit": (None, "decode.audit", True),
    "--decide": ("distribution", "decode.decide", "distribution"),
    "--risk": ("0.1", "decode.risk", 0.1),
    "--recalibrate": ("online", "decode.recalibrate", "online"),
    "--estimator": ("mc", "decode.estimator", None),
    "--gamma": ("2", "decode.gamma", 2.0),
    "--readout": ("matrix", "decode.readout", "matrix"),
    "--codec": ("dense16", "codec", "dense16"),
    "--theta-u": ("0.1", "rules.theta_u", 0.1),
    "--k": ("7", "rules.k", 7),
    "--theta-c": ("0.1", "rules.theta_c", 0.1),
    "--rate": ("0.1", "rules.rate", 0.1),
    "--bandwidth-hz": ("2e6", "link.radio.bandwidth_hz", 2e6),
    "--transmit-power-dbm": ("20", "link.radio.transmit_power_dbm", 20.0),
    "--noise-dbm": ("-90", "link.radio.noise_dbm", -90.0),
    "--distance-m": ("12", "link.radio.distance_m", 12.0),
    "--path-loss-exponent": ("2.5", "link.radio.path_loss_exponent", 2.5),
    "--fading": ("block", "link.fading", "block"),
    "--fading-seed": ("7", "link.fading_seed", 7),
    "--coherence-s": ("0.5", "link.coherence_s", 0.5),
    "--rtt-s": ("0.25", "link.rtt_s", 0.25),
    "--grant-delay-s": ("0.25", "link.grant_delay_s", 0.25),
    "--devices": ("7", "link.devices", 7),
    "--airtime": ("wire", "link.airtime", "wire"),
    "--b-prob": ("7", "link.b_prob", 7),
    "--clock": ("enforced", "clock", "enforced"),
    "--draft-time-s": ("0.25", "timing.draft_s", 0.25),
    "--forward-time-s": ("0.25", "timing.forward_s", 0.25),
    "--position-time-s": ("0.125", "timing.position_s", 0.125),
    "--device-w": ("7", "joules.device_w", 7.0),
    "--basestation-w": ("7", "joules.basestation_w", 7.0),
    "--model": ("paper", "model", "paper"),
    "--llm": ("my.gguf", "llm", "my.gguf"),
    "--server": ("127.0.0.1:1", "llm", None),
    "--layer": ("7", "layer", 7),
    "--llm-dtype": ("float16", "llm_dtype", "float16"),
    "--threads": ("7", "threads", 7),
    "--backend": ("torch", "backend", "torch"),
}
# The rest: what is run, where it goes, how it looks, --link, which stands for many, and what makes one setting of two flags.
ELSEWHERE = {
    "--config", "--dataset", "--limit", "--offset", "--sample", "--seed", "--policy", "--metrics", "--output",
    "--resume", "--dry-run", "--format", "--timeout-s", "--link", "--profile", "--agreement",
    "--learned", "--tls", "--tls-ca", "--tls-cert", "--tls-key", "--token-file", "--insecure", "--server-application",
    "--on-outage", "--outage-s", "--link-trace", "--link-trace-end",
    "--meter", "--meter-device", "--meter-basestation", "--meter-shared", "--meter-idle-s", "--load",
}  # fmt: skip


def parsed(*arguments: str) -> Values:
    return command.make_context("eval", list(arguments)).params


def config(*arguments: str) -> RunConfig:
    return run_config(parsed(*arguments), DEFAULT_POLICIES)


def plain(value: RunConfig, name: str) -> object:
    found: object = value.to_dict()
    for part in name.split("."):
        found = found[part]
    return found


def test_no_flags_are_the_defaults_of_the_settings():
    assert config() == RunConfig()
    assert config().digest() == RunConfig().digest()


def test_every_flag_of_eval_is_accounted_for():
    flags = {max(p.opts, key=len) for p in command.params if isinstance(p, click.Option)}
    assert flags == {flag.replace("--no-run-on", "--run-on") for flag in SETTINGS} | ELSEWHERE
    assert not SETTINGS.keys() & ELSEWHERE


@pytest.mark.parametrize("flag", SETTINGS)
def test_flag_sets_its_setting_and_changes_the_digest(flag):
    text, name, expected = SETTINGS[flag]
    if flag == "--estimator":
        (option,) = (p for p in command.params if p.name == "estimator")
        text = expected = next(choice for choice in option.type.choices if choice != option.default)
    # A tree cannot be without the codec that its verdict takes, nor a controller without its budget.
    company = {
        "--tree": ("--codec", "coupled"),
        "--draft-p-min": ("--draft-length", "4"),
        "--recalibrate": ("--risk", "0.1"),
        "--position-time-s": ("--forward-time-s", "0.25"),
    }.get(flag, ())
    changed = config(flag, *([] if text is None else [text]), *company)
    # What is off is not written down.
    assert plain(changed, name) == expected if name != "decode.run_on" else not changed.decode.run_on
    assert changed.digest() != RunConfig().digest()
    # Nothing else moves, but for what follows from it.
    follows = {
        # The LLM runs on behind single drafts.
        "--draft-length": {"decode.run_on"},
        "--draft-p-min": {"decode.draft_length", "decode.run_on"},
        "--tree": {"codec", "decode.run_on"},
        "--recalibrate": {"decode.risk"},
        "--position-time-s": {"timing.forward_s"},
        "--model": {"llm"},
        "--transmit-power-dbm": {"joules.transmit_w"},
    }.get(flag, set())
    assert differing(RunConfig().to_dict(), changed.to_dict()) == {name} | follows


def differing(a: dict, b: dict, prefix: str = "") -> set[str]:
    names: set[str] = set()
    for name in a.keys() | b.keys():
        # What is at its default may be left out.
        own, other = a.get(name), b.get(name)
        if isinstance(own, dict) and isinstance(other, dict):
            names |= differing(own, other, f"{prefix}{name}.")
        elif own != other:
            names.add(prefix + name)
    return names


@pytest.mark.parametrize("name", PROFILE_NAMES)
def test_link_names_a_whole_link(name):
    assert link_settings(parsed("--link", name)) == profile(name)


def test_link_flags_vary_the_named_link_and_leave_the_rest_of_it():
    link = link_settings(parsed("--link", "nr", "--distance-m", "500", "--fading", "slotted", "--airtime", "wire"))
    nr = profile("nr")
    assert link.radio == RadioLink(20e6, 23.0, -96.0, 500.0, 4.0)
    assert (link.fading, link.airtime) == (FadingMode.SLOTTED, AirtimeBasis.WIRE)
    assert (link.rtt_s, link.grant_delay_s, link.downlink) == (nr.rtt_s, nr.grant_delay_s, nr.downlink)


def test_flag_that_says_what_the_link_says_changes_nothing():
    assert config("--rtt-s", "0", "--devices", "1", "--fading", "none") == RunConfig()


def test_zero_is_a_value_and_not_an_omission():
    link = link_settings(parsed("--link", "nr", "--rtt-s", "0", "--grant-delay-s", "0"))
    assert (link.rtt_s, link.grant_delay_s) == (0.0, 0.0)
    assert config("--draft-time-s", "0").timing.draft_s == 0.0
    assert config("--temperature", "0").decode.sampling.temperature == 0.0


def test_link_without_a_radio_gets_one_when_a_flag_speaks_of_it():
    assert link_settings(parsed("--link", "none")).radio is None
    radio = link_settings(parsed("--link", "none", "--bandwidth-hz", "5e6")).radio
    assert radio == RadioLink(bandwidth_hz=5e6)


def test_joules_follow_the_power_that_the_link_sends_with():
    assert config("--transmit-power-dbm", "30").joules.transmit_w == pytest.approx(1.0)
    assert config("--link", "none").joules.transmit_w == 0.0


@pytest.mark.parametrize("arguments", [("--noise-dbm", "500"), ("--link", "nr", "--distance-m", "1e99")])
def test_link_that_cannot_be_is_refused(arguments):
    with pytest.raises(InvalidRequestError, match="SNR"):
        link_settings(parsed(*arguments))


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("flag", [flag for flag, (text, _, value) in SETTINGS.items() if isinstance(value, float)])
def test_number_that_is_none_is_a_usage_error(flag, value):
    with pytest.raises(click.BadParameter):
        parsed(flag, value)


@pytest.mark.parametrize(
    ("model", "llm"),
    [("bundled", "bundled"), ("paper", "paper"), ("paper-torch", "paper-torch"), ("x.gguf", "bundled")],
)
def test_llm_goes_with_the_drafter(model, llm):
    assert default_llm(model) == llm
    assert config("--model", model).llm == llm
    assert config("--model", model, "--llm", "other").llm == "other"


def test_named_server_brings_its_own_llm():
    assert config("--server", "127.0.0.1:1").llm is None


def test_selection_and_policies_are_taken_as_they_are():
    selection = Selection("my.json", 5, 1, 3, 2)
    made = run_config(parsed(), ("u", "slm"), selection)
    assert (made.selection, made.policies) == (selection, ("u", "slm"))
    assert made.clock is ClockMode.SIMULATED
    assert made.link == LinkSettings()


def test_automatic_draft_length_is_a_length_of_its_own():
    assert config("--draft-length", "auto").decode.draft_length == AUTO
    for wrong in ("0", "65", "many"):
        with pytest.raises(click.BadParameter, match="1 … 64, or auto"):
            config("--draft-length", wrong)


@pytest.mark.parametrize("length", [(), ("--draft-length", "1"), ("--draft-length", "auto")])
def test_only_blocks_of_a_length_end_early(length):
    with pytest.raises(click.BadParameter, match="--draft-length 2 or more"):
        config("--draft-p-min", "0.5", *length)
    assert config("--draft-p-min", "0", *length).decode.draft_p_min == 0.0


@pytest.mark.parametrize(
    ("arguments", "policies"),
    [
        (("--tree", "4"), ("hlm",)),
        (("--tree", "4", "--codec", "lattice"), ("hlm",)),
        (("--tree", "4", "--codec", "coupled"), ("u", "slm")),
    ],
)
def test_tree_needs_hlm_and_coupled(arguments, policies):
    with pytest.raises(click.BadParameter, match="--tree needs --policy hlm and --codec coupled: ") as refused:
        run_config(parsed(*arguments), policies)
    assert refused.value.exit_code == 2


@pytest.mark.parametrize("other", [("--draft-length", "4"), ("--draft-length", "auto")])
def test_tree_excludes_blocks(other):
    with pytest.raises(click.BadParameter, match="takes the place of --draft-length"):
        config("--tree", "4", "--codec", "coupled", *other)


def test_a_further_position_has_no_time_without_the_first():
    with pytest.raises(click.BadParameter, match="give the first one's with --forward-time-s"):
        config("--position-time-s", "0.1")


def test_tree_may_have_a_window():
    found = config("--tree", "4", "--codec", "coupled", "--in-flight", "8").decode
    assert (found.tree, found.in_flight) == (4, 8)


@pytest.mark.parametrize(
    ("arguments", "policies"),
    [
        (("--draft-length", "4"), ("hlm",)),
        (("--draft-length", "auto"), ("hlm",)),
        (("--tree", "4", "--codec", "coupled"), ("hlm",)),
        ((), ("llm", "ui")),
    ],
)
def test_the_llm_runs_on_behind_single_drafts_alone(arguments, policies):
    with pytest.raises(click.BadParameter, match="needs --policy hlm with one draft an upload") as refused:
        run_config(parsed("--run-on", *arguments), policies)
    assert refused.value.exit_code == 2


@pytest.mark.parametrize("arguments", [(), ("--in-flight", "3")])
def test_where_it_may_run_on_the_flag_decides(arguments):
    assert config("--run-on", *arguments).decode.run_on and not config("--no-run-on", *arguments).decode.run_on


def test_left_open_it_runs_on_where_drafts_go_one_by_one():
    assert config().decode.run_on and config("--in-flight", "2").decode.run_on
    for arguments in (("--draft-length", "4"), ("--draft-length", "auto"), ("--tree", "4", "--codec", "coupled")):
        assert not config(*arguments).decode.run_on, arguments
    assert not run_config(parsed(), ("llm", "u", "ui")).decode.run_on


def test_a_run_in_the_papers_order_keeps_its_digest():
    # Runs of versions that knew nothing else have no word of it, and waited.
    waits = config("--no-run-on")
    assert "run_on" not in waits.to_dict()["decode"] and waits.digest() != config().digest()
    assert RunConfig.from_dict(waits.to_dict()) == waits
    assert RunConfig.from_dict(config().to_dict()) == config()


def test_budget_implies_the_audit():
    assert config("--risk", "0.1").decode.audits and not config().decode.audits
    assert config("--audit").decode.audits


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--recalibrate", "online"), "give it with --risk"),
        (("--decide", "distribution", "--estimator", "monte-carlo"), "leave --estimator at expected"),
    ],
)
def test_what_cannot_be_asked_of_a_decision_is_a_usage_error(arguments, sentence):
    with pytest.raises(click.BadParameter, match=sentence):
        config(*arguments)
