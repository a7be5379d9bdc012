"""What simulated devices upload.   python -m benchmarks.cell.traces OUT.json

Recorded: the uploads of the real decode loop on the bundled pair under `coupled`, whose verdicts depend on nothing but key and
LLM, so that a replay is answered as the recording was. Synthetic: one draft an upload, whatever it is.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from uihlm_proto.codecs import codec
from uihlm_proto.codecs.ids import encode_id
from uihlm_proto.sampling import Sampling

RECORDED = Path(__file__).parent / "traces.json"
TEMPERATURE = 0.6
GENERATE = 8


@dataclass(frozen=True, slots=True)
class Step:
    """One upload.

    Attributes:
        skipped: ids committed without asking.
        payloads: the drafts.
        generate: tokens the LLM is to write instead.
        runs_on: whether the LLM may run on with the verdict.
    """

    skipped: Sequence[int] = ()
    payloads: Sequence[bytes] = ()
    generate: int = 0
    runs_on: bool = False


@dataclass(frozen=True, slots=True)
class Trace:
    """One answer.

    Attributes:
        prompt: its ids.
        seed, index: of the session key.
        steps: the uploads.
        tokens: written in all, where that is known.
        unasked: of them the last, which no upload follows: those that a skipping policy ends on.
    """

    prompt: Sequence[int]
    seed: int
    index: int
    steps: Sequence[Step]
    tokens: int = 0
    unasked: int = 0


def synthetic(name: str, vocabulary_size: int, prompt: int, tokens: int, count: int = 8) -> list[Trace]:
    """Return answers of one draft an upload under a codec; the drafts are of one distribution, and mostly fall."""
    generator = np.random.default_rng(1)
    uplink = codec(name, vocabulary_size)
    x = Sampling(TEMPERATURE).distribution((3 * generator.normal(size=vocabulary_size)).astype(np.float32))
    traces = []
    for index in range(count):
        drafts = [uplink.draft(x, bytes(16), position).encode() for position in range(min(tokens, 16))]
        steps = [Step(payloads=[drafts[i % len(drafts)]]) for i in range(tokens)]
        ids = [int(i) for i in generator.integers(0, vocabulary_size, prompt)]
        traces.append(Trace(ids, 0, index, steps))
    return traces


def repeated(traces: Sequence[Trace], times: int) -> list[Trace]:
    """Return longer answers of the same uploads: one draft yields one token whatever becomes of it."""
    return [replace(trace, steps=[*trace.steps] * times) for trace in traces]


def running_on(traces: Sequence[Trace]) -> list[Trace]:
    """Return the same uploads, each but the last of an answer letting the LLM run on, as `hlm` does unless told otherwise."""
    return [
        replace(trace, steps=[*(replace(step, runs_on=True) for step in trace.steps[:-1]), *trace.steps[-1:]])
        for trace in traces
    ]


def alone(traces: Sequence[Trace]) -> list[Trace]:
    """Return the same prompts, answered by the LLM alone."""
    return [
        replace(trace, steps=[Step(generate=GENERATE)] * max(1, round(trace.tokens / GENERATE))) for trace in traces
    ]


def recorded(path: Path = RECORDED) -> dict[str, list[Trace]]:
    """Return the recorded answers of each policy."""
    content = json.loads(path.read_text(encoding="utf-8"))
    size = content["vocabulary_size"]
    return {
        name: [
            Trace(
                content["prompts"][answer["index"]],
                content["seed"],
                answer["index"],
                [Step(skipped, [encode_id(token, size) for token in drafts]) for skipped, drafts in answer["steps"]],
                answer["tokens"],
                _unasked(answer),
            )
            for answer in answers
        ]
        for name, answers in content["policies"].items()
    }


def _unasked(answer: dict[str, Any]) -> int:
    """Return the tokens behind the last upload. A single draft makes one token; under blocks the LLM ends every answer."""
    steps = answer["steps"]
    if any(len(drafts) > 1 for _, drafts in steps):
        return 0
    return max(0, answer["tokens"] - sum(len(skipped) + len(drafts) for skipped, drafts in steps))


class _Tape:
    """A session whose uploads are written down."""

    def __init__(self, session: Any, steps: list[Any]) -> None:
        self._session = session
        self._steps = steps

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def upload(self, upload: Any) -> int:
        """Write down and send."""
        drafts = [int.from_bytes(payload, "little") for payload in upload.payloads]
        self._steps.append([[*upload.context_ids, *upload.skipped_ids], drafts])
        number: int = self._session.upload(upload)
        return number


def record(prompts: int, tokens: int, seed: int, threads: int) -> dict[str, Any]:
    """Run the bundled pair over shipped prompts under every policy and return what is to be saved."""
    from uihlm_basestation.engines.loading import EngineSettings, load_engine
    from uihlm_basestation.local import local_basestation
    from uihlm_device.conversation import Conversation
    from uihlm_device.decode_settings import DecodeSettings
    from uihlm_device.decoder import Decoder
    from uihlm_device.drafters.loading import Drafters, DrafterSettings
    from uihlm_device.rules.policies import PolicySettings, policy
    from uihlm_device.stream.client import Connection
    from uihlm_device.stream.contract import Contract
    from uihlm_evaluation.prompts.datasets import load
    from uihlm_models.chat_format import ChatFormat
    from uihlm_models.presets import Role
    from uihlm_models.sources import resolve
    from uihlm_proto.randomness import session_key
    from uihlm_wireless.clock import SimulatedClock
    from uihlm_wireless.interceptor import LinkInterceptor
    from uihlm_wireless.ledger import Ledger
    from uihlm_wireless.link import Link
    from uihlm_wireless.settings import profile
    from uihlm_wireless.timing import TimingProfile

    engine = load_engine(resolve("bundled", Role.TARGET), EngineSettings(threads=threads))
    drafters = Drafters(resolve("bundled", Role.DRAFTER), DrafterSettings(threads=threads))
    first_turn = ChatFormat(drafters.tokenizer).first_turn
    ids = [first_turn(example.user_turn) for example in load("shipped").examples[:prompts]]
    uplink, sampling = codec("coupled", engine.vocabulary_size), Sampling(TEMPERATURE)
    lengths = {"hlm": 1, "hlm, 4 drafts": 4, "hlm, 8 drafts": 8, "u": 1, "ui": 1}
    found: dict[str, list[Any]] = {}
    with local_basestation(engine) as address:
        for name, length in lengths.items():
            clock, ledger = SimulatedClock(), Ledger()
            link = LinkInterceptor(Link(profile("none"), clock), ledger)
            rule = policy(name.split(",", maxsplit=1)[0], PolicySettings())
            with Connection(str(address), engine.vocabulary_size, [link]) as connection:
                contract = Contract(engine.fingerprint, sampling, uplink)
                for index, prompt in enumerate(ids):
                    steps: list[Any] = []
                    decoder = Decoder(
                        drafters.for_policy(rule),
                        uplink,
                        rule,
                        DecodeSettings(sampling, tokens, draft_length=length),
                        clock,
                        ledger,
                        TimingProfile(),
                        lambda steps=steps, connection=connection, contract=contract: _Tape(  # type: ignore[misc]
                            connection.session(contract), steps
                        ),
                    )
                    conversation = Conversation(session_key(seed, index))
                    conversation.extend(list(prompt))
                    written = sum(1 for _ in decoder.answer(conversation))
                    conversation.end_session()
                    found.setdefault(name, []).append({"index": index, "tokens": written, "steps": steps})
    return {"vocabulary_size": engine.vocabulary_size, "seed": seed, "prompts": ids, "policies": found}


def main() -> None:
    """Record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", nargs="?", default=str(RECORDED))
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    content = record(options.prompts, options.tokens, options.seed, options.threads)
    Path(options.output).parent.mkdir(parents=True, exist_ok=True)
    Path(options.output).write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
