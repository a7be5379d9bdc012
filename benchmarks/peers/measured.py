"""What clocks say of peers that write, and of bare forwards."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.peers.alone import Alone, forward_times
from benchmarks.peers.ours import Judged
from benchmarks.peers.peer import Peer

# Drafts a block, by codec: both judges, since acceptance differs.
BLOCKS = {"coupled": (2, 3, 4), "dense32": (2, 3, 4)}
LENGTHS = sorted({length for those in BLOCKS.values() for length in those})


# Where the LLM writes alone, tokens a message (`--stream-interval`) besides one.
INTERVAL = 8

# Blocks that end with a draft in doubt (`--draft-p-min`): at most so many drafts, as many as the blocks they are held against,
# and the probability below which one is in doubt. With a greater one most would be single drafts.
EARLY_LENGTH, EARLY_P_MIN = 2, 0.4


def interval_name() -> str:
    """Return what `llm` is called with several tokens a message."""
    return f"llm, {INTERVAL} tokens a message"


def block_name(codec: str, length: int) -> str:
    """Return what blocks of so many drafts are called among the peers."""
    return f"hlm, {codec}, blocks of {length}"


def early_name(codec: str) -> str:
    """Return what blocks that end with a draft in doubt are called."""
    return f"hlm, {codec}, blocks of up to {EARLY_LENGTH} that end below {EARLY_P_MIN}"


# Held against each other within a few per cent: the LLM alone, and the blocks that the bound is highest for on CPUs.
NEAREST = (
    *("llama.cpp", "llm", interval_name(), "bare stream"),
    *(name for codec, lengths in BLOCKS.items() for name in (block_name(codec, min(lengths)), early_name(codec))),
)

BlockAnswers = list[Judged]
Blocks = Mapping[str, BlockAnswers]  # by peer


@dataclass(frozen=True, slots=True)
class Measured:
    """By one clock.

    Attributes:
        rates: tokens a second of every peer, by prompt.
        forwards_s: seconds of bare forwards (`forward_times`), turn by turn.
        alone_s: seconds of a token of the LLM's own loop, without prefill, turn by turn.
    """

    rates: dict[str, list[float]]
    forwards_s: Sequence[Mapping[tuple[str, int], float]]
    alone_s: Sequence[float]

    def plus(self, other: Measured) -> Measured:
        """Return both together; no peer is in both."""
        return Measured(
            self.rates | other.rates, [*self.forwards_s, *other.forwards_s], [*self.alone_s, *other.alone_s]
        )


class Stopwatch:
    """What some clocks say of answers and of bare forwards."""

    def __init__(self, read: Mapping[str, Callable[[], float]]) -> None:
        self._read = read
        # By clock, peer and prompt: tokens and seconds.
        self._answers: dict[str, dict[str, dict[int, tuple[int, float]]]] = {clock: {} for clock in read}
        self._forwards: dict[str, list[Mapping[tuple[str, int], float]]] = {clock: [] for clock in read}

    def write(self, name: str, peer: Peer, prompt: Sequence[int], tokens: int, number: int) -> None:
        """Let a peer write an answer to prompt `number`."""
        began_s = {clock: now() for clock, now in self._read.items()}
        written = peer.write(prompt, tokens, number)
        ended_s = {clock: now() for clock, now in self._read.items()}
        if written != tokens:
            raise RuntimeError(f"{name} wrote {written} of {tokens} tokens: its figure would not compare")
        for clock in self._read:
            own = self._answers[clock].setdefault(name, {})
            before, before_s = own.get(number, (0, 0.0))
            own[number] = before + tokens, before_s + ended_s[clock] - began_s[clock]

    def forwards(self, llm: Alone, slm: Alone, prefix: Sequence[int], turns: int) -> None:
        """Time the bare forwards behind the bound of blocks, after some ids."""
        for clock, now in self._read.items():
            self._forwards[clock].append(forward_times(llm, slm, prefix, LENGTHS, turns, now))

    def measured(self, alone_s: Sequence[Mapping[str, float]]) -> dict[str, Measured]:
        """Return what each clock says; `alone_s` is what the LLM's own loop has told, by clock (`Alone.token_s`)."""
        return {
            clock: Measured(
                {name: [tokens / seconds for tokens, seconds in own.values()] for name, own in answers.items()},
                self._forwards[clock],
                [token_s[clock] for token_s in alone_s],
            )
            for clock, answers in self._answers.items()
        }
