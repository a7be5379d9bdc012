"""What does an exact token cost on the air?   python -m benchmarks.uplink DATA.json --prompts 10

Policy `hlm` on the bundled pair over real prompts (Alpaca format), as the way it asks is varied: codec, drafts an upload,
uploads in flight, trees; the LLM alone beside all of them. Each variant writes the same prompts on each link.

    payload bits, acceptance, tokens a trip, LLM forwards a token, joules a token      counts: exact
    tokens a second                                                                    virtual clock

The clock is charged compute times measured alone at the start, on this machine: a draft, and a + b·(positions − 1) for the
LLM's forward. A tree's drafts run in batches; growing one is charged what it took here, so its rates carry this machine's
noise.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from uihlm_basestation.engines.engine import Work
from uihlm_basestation.engines.loading import EngineSettings, load_engine
from uihlm_basestation.local import local_basestation
from uihlm_cli.runs.memory import keep_large_blocks
from uihlm_device.conversation import Conversation
from uihlm_device.decode_settings import DecodeSettings
from uihlm_device.decoder import Decoder
from uihlm_device.drafters.loading import Drafters, DrafterSettings
from uihlm_device.rules.policies import PolicySettings, policy
from uihlm_device.stream.client import Connection, Contract
from uihlm_device.tokens import Origin, TokenRecord
from uihlm_evaluation.prompts.datasets import load
from uihlm_models.chat_format import ChatFormat
from uihlm_models.presets import Role
from uihlm_models.sources import resolve
from uihlm_proto.codecs import codec
from uihlm_proto.randomness import session_key
from uihlm_proto.sampling import Sampling
from uihlm_wireless.clock import SimulatedClock
from uihlm_wireless.energy import JouleProfile
from uihlm_wireless.interceptor import LinkInterceptor
from uihlm_wireless.ledger import Ledger
from uihlm_wireless.link import Link
from uihlm_wireless.settings import LinkSettings, profile
from uihlm_wireless.timing import TimingProfile

TEMPERATURE = 0.6
LINKS = {
    "no link": LinkSettings(radio=None),
    "RTT 10 ms": LinkSettings(radio=None, rtt_s=0.010),
    "RTT 50 ms": LinkSettings(radio=None, rtt_s=0.050),
    "RTT 150 ms": LinkSettings(radio=None, rtt_s=0.150),
    "paper": profile("paper"),
}


@dataclass(frozen=True, slots=True)
class Variant:
    """One way of asking."""

    name: str
    codec: str = "coupled"
    draft_length: int = 1
    in_flight: int = 1
    tree: int = 0
    policy: str = "hlm"


VARIANTS = (
    Variant("llm alone", policy="llm"),
    *(Variant(name, name) for name in ("dense32", "dense16")),
    *(Variant(f"lattice K={k}", f"lattice:k={k},l={size}") for k, size in ((8, 64), (16, 128), (32, 512), (64, 1024))),
    Variant("coupled"),
    *(Variant(f"coupled L={length}", draft_length=length) for length in (2, 3, 4, 6, 8)),
    *(Variant(f"coupled in flight {window}", in_flight=window) for window in (2, 4, 16)),
    *(Variant(f"coupled L={length} in flight 2", draft_length=length, in_flight=2) for length in (2, 4)),
    *(Variant(f"coupled tree {nodes}", tree=nodes) for nodes in (4, 16, 64)),
)


@dataclass(frozen=True, slots=True)
class Figures:
    """What a variant comes to on a link."""

    payload_bit: float
    wire_byte: float
    acceptance: float | None
    tokens_a_trip: float | None
    llm_forwards: float
    llm_positions: float
    joules: float
    tok_s: float


class Bench:
    """The pair, loaded once."""

    def __init__(self, data: str, prompts: int, tokens: int, threads: int) -> None:
        self.tokens = tokens
        self.drafters = Drafters(resolve("bundled", Role.DRAFTER), DrafterSettings(threads=threads))
        self.engine = load_engine(resolve("bundled", Role.TARGET), EngineSettings(threads=threads))
        first_turn = ChatFormat(self.drafters.tokenizer).first_turn
        self.prompts = [first_turn(example.user_turn) for example in load(data).examples[:prompts]]
        self.timing = self._measured()

    def _measured(self) -> TimingProfile:
        """Return the compute times, with nothing beside."""
        drafter = self.drafters.for_policy(policy("hlm", PolicySettings()))
        ids, x = self.prompts[0], codec("coupled", drafter.vocabulary_size)
        drafter.forward(0, ids)
        draft_s = []
        for position in range(len(ids), len(ids) + 40):
            started_s = time.perf_counter()
            record = drafter.forward(position, [7])
            x.draft(Sampling(TEMPERATURE).distribution(record.logits), bytes(16), position)
            draft_s.append(time.perf_counter() - started_s)
        self.engine.forward([Work(1, 0, ids, 1)])
        held, forward_s = len(ids), {}
        for positions in (1, 2, 3, 5, 9, 17):
            took_s = []
            for _ in range(12):
                started_s = time.perf_counter()
                self.engine.forward([Work(1, held, [7] * positions, positions)])
                took_s.append(time.perf_counter() - started_s)
            forward_s[positions] = float(np.median(took_s))
        self.engine.close_session(1)
        further = [(taken - forward_s[1]) / (count - 1) for count, taken in forward_s.items() if count > 1]
        return TimingProfile(float(np.median(draft_s)), forward_s[1], max(0.0, float(np.median(further))))

    def run(self, address: str, variant: Variant, settings: LinkSettings) -> Figures:
        """Write every prompt in one way on one link."""
        rule = policy(variant.policy, PolicySettings())
        drafter = self.drafters.for_policy(rule)
        uplink = codec(variant.codec, drafter.vocabulary_size)
        # Growing a tree runs batches of several sizes: what they took is charged.
        timing = TimingProfile(None, self.timing.forward_s, self.timing.position_s) if variant.tree else self.timing
        clock, ledger = SimulatedClock(), Ledger()
        decode = DecodeSettings(
            Sampling(TEMPERATURE),
            self.tokens,
            draft_length=variant.draft_length,
            in_flight=variant.in_flight,
            tree=variant.tree,
        )
        records: list[TokenRecord] = []
        links = [LinkInterceptor(Link(settings, clock, timing), ledger)]
        with Connection(address, drafter.vocabulary_size, links) as connection:
            contract = Contract(drafter.fingerprint, decode.sampling, uplink)
            decoder = Decoder(
                drafter, uplink, rule, decode, clock, ledger, timing, lambda: connection.session(contract)
            )
            for index, prompt in enumerate(self.prompts):
                conversation = Conversation(session_key(0, index))
                conversation.extend(list(prompt))
                records += decoder.answer(conversation)
                conversation.end_session()
        return _figures(records, settings, clock.now())


def _figures(records: Sequence[TokenRecord], settings: LinkSettings, elapsed_s: float) -> Figures:
    tokens, judged = len(records), sum(r.uploaded for r in records)
    rejected = sum(r.origin is Origin.RESAMPLED for r in records)
    trips = sum(r.wire_bytes > 0 for r in records)
    transmit_w = settings.radio.transmit_power_w if settings.radio is not None else 0.0
    joules = JouleProfile(transmit_w).energy_j(
        sum(r.airtime_s for r in records), sum(r.draft_s for r in records), sum(r.forward_s for r in records)
    )
    return Figures(
        payload_bit=sum(r.payload_bits for r in records) / tokens,
        wire_byte=sum(r.wire_bytes for r in records) / tokens,
        acceptance=1.0 - rejected / judged if judged else None,
        tokens_a_trip=tokens / trips if judged else None,
        llm_forwards=sum(r.llm_forwards for r in records) / tokens,
        llm_positions=sum(r.llm_positions for r in records) / tokens,
        joules=joules.total_j / tokens,
        tok_s=tokens / elapsed_s,
    )


def main() -> None:
    """Measure and print; --json writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", help="prompts in the Alpaca format")
    parser.add_argument("--prompts", type=int, default=10)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    keep_large_blocks()
    bench = Bench(options.data, options.prompts, options.tokens, options.threads)
    timing = bench.timing
    assert timing.draft_s is not None and timing.forward_s is not None
    print(
        f"charged: draft {1e3 * timing.draft_s:.1f} ms, LLM forward {1e3 * timing.forward_s:.1f} ms + "
        f"{1e3 * timing.position_s:.2f} ms a further position"
    )
    heads = [
        "payload bit",
        "wire B",
        "accept",
        "tok/trip",
        "LLM fwd",
        "LLM pos",
        "J/tok",
        *(f"tok/s {name}" for name in LINKS),
    ]
    print(f"{'variant':24}" + "".join(f"{head:>16}" for head in heads))
    figures = {}
    with local_basestation(bench.engine) as address:
        for variant in VARIANTS:
            on = {name: bench.run(str(address), variant, settings) for name, settings in LINKS.items()}
            first = on["no link"]
            cells = [
                f"{first.payload_bit:.1f}",
                f"{first.wire_byte:.0f}",
                "–" if first.acceptance is None else f"{first.acceptance:.3f}",
                "–" if first.tokens_a_trip is None else f"{first.tokens_a_trip:.2f}",
                f"{first.llm_forwards:.2f}",
                f"{first.llm_positions:.2f}",
                f"{on['paper'].joules:.2f}",
                *(f"{figure.tok_s:.3g}" for figure in on.values()),
            ]
            print(f"{variant.name:24}" + "".join(f"{cell:>16}" for cell in cells), flush=True)
            figures[variant.name] = {name: asdict(figure) for name, figure in on.items()}
    if options.json:
        Path(options.json).write_text(
            json.dumps({"charged": asdict(timing), "variants": figures}, indent=1), encoding="utf-8"
        )


if __name__ == "__main__":
    main()
