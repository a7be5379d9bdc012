"""`chat --policy auto` on a link that changes: as good as the best fixed way; fake pair, virtual clock."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fake_pair import STOP, AsciiTokenizer, V, Weights, chatty, endless, installed
from fakes import FakeEngine, mixed, serving
from proxy import Proxy
from uihlm_cli import assembly
from uihlm_cli.assembly import Device, opened_device
from uihlm_cli.chat.pilot import Pilot
from uihlm_cli.device import main
from uihlm_device.conversation import Conversation
from uihlm_device.decode_settings import DecodeSettings
from uihlm_device.outages.outage import OnOutage, Outage
from uihlm_evaluation.calibration.plan_figures import PlanFigures, TreeFigures
from uihlm_evaluation.calibration.profile import Profile, ProfileError
from uihlm_evaluation.planning.bundled import bundled_profile
from uihlm_evaluation.planning.equations import Conditions, Model
from uihlm_evaluation.planning.plan import Objective
from uihlm_evaluation.planning.sizes import Sizes
from uihlm_evaluation.planning.ways import LLM, SLM, Way
from uihlm_evaluation.runs.configuration import ClockMode, RunConfig
from uihlm_proto.codecs import codec
from uihlm_proto.randomness import session_key
from uihlm_proto.sampling import Sampling
from uihlm_wireless.link import Link
from uihlm_wireless.settings import LinkSettings
from uihlm_wireless.timing import TimingProfile

# An LLM worth drafting for where it is near: 100 ms a forward, drafts of 5 ms.
TIMING = TimingProfile(0.005, 0.1, 0.002)
FIGURES = PlanFigures(
    "by the test", 8, 400, V, 0.5, 0.005, 0.005, 0.005, 0.1, 0.002, trees=(TreeFigures(8, 2.4, 3.0, 8.0),)
)
NEAR, FAR = LinkSettings(radio=None, rtt_s=0.01), LinkSettings(radio=None, rtt_s=0.6)
# Answers on each stretch of the link.
STRETCHES = ((NEAR, 10), (FAR, 10), (NEAR, 10))
CONFIG = RunConfig(
    policies=("hlm",),
    decode=DecodeSettings(Sampling(0.6), max_tokens=32),
    codec="coupled",
    link=NEAR,
    clock=ClockMode.SIMULATED,
    timing=TIMING,
)


@pytest.fixture(autouse=True)
def weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Weights:
    piece = lambda self, token: b"" if token == STOP else bytes([token])  # noqa: E731
    monkeypatch.setattr(AsciiTokenizer, "piece", piece, raising=False)
    return installed(monkeypatch, tmp_path)


@pytest.fixture
def talkative(weights: Weights) -> None:
    """Answers end at their limit alone."""

    weights.speaks = endless


@pytest.fixture
def links(monkeypatch: pytest.MonkeyPatch) -> list[Link]:
    """Every link that a device opens."""
    made: list[Link] = []

    class Changing(Link):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            made.append(self)

    monkeypatch.setattr(assembly, "Link", Changing)
    return made


@pytest.fixture
def profile() -> Profile:
    return replace(bundled_profile(), plan=FIGURES)


def seconds_a_token(links: list[Link], answers: Callable[[Device], Callable[[Conversation], object]]) -> float:
    """Chat over every stretch of the link; `answers` makes what writes one answer."""
    with opened_device(CONFIG, None, 60.0) as device:
        write = answers(device)
        conversation = Conversation(session_key(1, 0))
        tokens = 0
        for link, count in STRETCHES:
            links[-1].settings = link
            for _ in range(count):
                conversation.extend(list(b"[Why?]>"))
                tokens += len(list(write(conversation)))
        conversation.end_session()
        return device.clock.now() / tokens


def fixed(way: Way) -> Callable[[Device], Callable[[Conversation], object]]:
    decode = replace(
        CONFIG.decode, draft_length=way.draft_length, in_flight=way.in_flight, tree=way.tree, run_on=way.run_on
    )
    return lambda device: device.decoder(way.policy, CONFIG.rules, decode).answer


FIXED = (LLM, Way("hlm"), Way("hlm", run_on=True), Way("hlm", draft_length=3), Way("hlm", tree=8))


def test_on_a_link_that_changes_auto_is_near_the_best_fixed_way_and_beats_the_worst_as_planned(
    links, profile, talkative
):
    chosen: list[Way] = []

    def auto(device: Device) -> Callable[[Conversation], object]:
        pilot = Pilot(device, CONFIG, Objective.TOKENS, profile)

        def write(conversation: Conversation) -> object:
            chosen.append(pilot.auto.way)
            return pilot.answer(conversation)

        return write

    own = seconds_a_token(links, auto)
    others = {way: seconds_a_token(links, fixed(way)) for way in FIXED}
    assert own <= 1.1 * min(others.values()), others
    # What the plan says it gains on the worst fixed way. The first answer of a stretch is written before anything was seen
    # of it, in the way of the stretch before.
    model = Model(FIGURES, Sizes(codec("coupled", V)))

    def planned_s(way: Way, link: LinkSettings) -> float:
        return 1.0 / model.predict(way, Conditions(link, tokens=32, opens=False)).tok_s

    worst = max(others, key=lambda way: others[way])
    best = {link: min(FIXED, key=lambda way: planned_s(way, link)) for link, _ in STRETCHES}
    seen = [NEAR, *(link for link, _ in STRETCHES)]
    promised = sum(count * planned_s(worst, link) for link, count in STRETCHES) / sum(
        planned_s(best[before], link) + (count - 1) * planned_s(best[link], link)
        for before, (link, count) in zip(seen, STRETCHES, strict=False)
    )
    assert others[worst] / own >= promised
    # It goes over to the LLM alone after one answer on the far link, comes back as soon, and stays in between.
    assert LLM not in chosen[:11] and set(chosen[11:21]) == {LLM} and LLM not in chosen[21:]
    assert sum(before != after for before, after in itertools.pairwise(chosen)) <= 6


def chat(*arguments: object, typed: str) -> Result:
    flags = ["--policy", "auto", "--max-tokens", "24", "--seed", "2", *map(str, arguments)]
    result = CliRunner().invoke(main, ["chat", *flags], input=typed)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_stats_say_what_comes_next_and_why(weights):
    result = chat(
        "--clock",
        "simulated",
        "--rtt-s",
        "0.5",
        "--draft-time-s",
        "0.01",
        "--forward-time-s",
        "0.02",
        typed="a\n/stats\n",
    )
    assert result.exit_code == 0, result.output
    assert "next answer      llm: use the LLM alone: " in result.stderr
    assert "seen             round trip 500 ms" in result.stderr


def test_auto_and_its_objective_can_be_set_between_answers(weights):
    typed = "/set policy auto\n/set objective forwards\na\n/stats\n/set policy slm\nb\n"
    result = chat("--policy", "hlm", "--clock", "simulated", typed=typed)
    assert result.exit_code == 0, result.output
    assert "LLM forwards a token, against" in result.stderr
    assert result.stderr.count("uploaded 0%") == 1, "the second answer alone is slm's"


@pytest.mark.parametrize(
    "flags", [("--draft-length", "4"), ("--draft-p-min", "0.5"), ("--in-flight", "2"), ("--tree", "8"), ("--run-on",)]
)
def test_what_auto_chooses_is_not_given_to_it(weights, flags):
    result = chat(*flags, typed="a\n")
    assert result.exit_code == 2 and "auto chooses them for each answer" in result.stderr


@pytest.mark.parametrize("objective", ["tokens", "forwards"])
def test_in_an_outage_this_device_writes_alone_and_asks_again_once_it_is_over(weights, objective, monkeypatch):
    engine = FakeEngine(mixed(chatty(1), chatty(2), 0.4), V, [STOP])
    with serving(engine) as address, Proxy(address) as proxy:
        config = replace(CONFIG, decode=replace(CONFIG.decode, outage=Outage(OnOutage.LOCAL, 1.0)))
        with opened_device(config, str(proxy.address), 60.0) as device:
            pilot = Pilot(device, config, Objective(objective), None)
            conversation = Conversation(session_key(1, 0))
            origins, ways = [], []
            for state in ("there", "away", "away", "back"):
                # A machine that is busy answers late; one that is away does not answer, however long one knocks.
                monkeypatch.setattr("uihlm_cli.chat.pilot._KNOCK_S", 1.0 if state == "away" else 30.0)
                if state == "away":
                    proxy.away()
                elif state == "back":
                    proxy.back()
                conversation.extend(list(b"[Why?]>"))
                records = list(pilot.answer(conversation))
                origins.append({record.origin.value for record in records})
                ways.append(pilot.auto.way)
            conversation.end_session()
    assert "outage" not in origins[0] and origins[2] == {"outage"} and "outage" not in origins[3]
    assert ways[1] == ways[2] == SLM and SLM not in (ways[0], ways[3])
    assert "cannot be reached" not in pilot.told


def test_a_setting_that_cannot_be_had_is_taken_back_whole(weights):
    """A profile without a plan: `auto` is refused, and neither listed nor in the way of the next change."""
    typed = "/set policy auto\n/set\n/set seed 7\na\n"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("uihlm_cli.chat.loop.Pilot", refuses)
        result = chat("--policy", "hlm", "--clock", "simulated", typed=typed)
    # A script in which something failed.
    assert result.exit_code == 1
    assert result.stderr.count("no plan here") == 1
    assert "seed = 7" in result.stderr and "policy = auto" not in result.stderr


def refuses(*arguments):
    raise ProfileError("no plan here")
