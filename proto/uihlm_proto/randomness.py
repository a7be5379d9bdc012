"""Counter-based randomness that both ends share.

Every draw is a pure function of where it is used:

    word(key, role, position, index) = Philox4x64-10(key; counter)[index mod 4]
    counter = (index div 4 + 1, position, role, 0)

with the first counter word the least significant. A retry, a rollback or a lost message therefore cannot shift any later
draw, and the integers are the same on every platform (vectors in tests/proto/test_randomness.py). Philox is that of
Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3" (SC 2011), run here by NumPy; the +1 leaves counter word 0 to
NumPy, which counts before it draws.

A word w becomes a number in the open interval (0, 1) by  (w >> 12) · 2⁻⁵² + 2⁻⁵³: no draw is ever exactly 0 or 1.
"""

from __future__ import annotations

import enum
import functools
import hashlib
import threading
from typing import Any

import numpy as np
import numpy.typing as npt

KEY_BYTES = 16

# From so many on, words are remembered: those of a race take as long as the rest of it.
_MANY = 1024
# Races of the last few positions, of 400 kB each at V = 49,152.
_REMEMBERED = 8
# Single words are made for so many neighbouring positions at once, and those of so many runs remembered.
_RUN = 16
_RUNS = 4096

FloatArray = npt.NDArray[np.float64]


class Role(enum.IntEnum):
    """What a draw is for. The numbers are part of the protocol: never renumber."""

    DRAFT = 1
    ACCEPT = 2
    RESIDUAL = 3
    BONUS = 4
    GUMBEL = 5
    MONTE_CARLO = 6
    THIN = 7
    FADING = 8


def session_key(seed: int, prompt_index: int) -> bytes:
    """Return the 16-byte key of one prompt's session: a hash of the run's seed and the prompt's index in its data set.

    Two prompts with the same text have different indices, hence different noise.
    """
    message = b"uihlm.v1" + seed.to_bytes(8, "little", signed=True) + prompt_index.to_bytes(8, "little", signed=True)
    return hashlib.blake2b(message, digest_size=KEY_BYTES).digest()


def words(key: bytes, role: Role, position: int, count: int) -> npt.NDArray[np.uint64]:
    """Return the words of indices 0 … count-1 at one (key, role, position), `[count]` of uint64; many are read-only."""
    return _many(key, role, position, count) if count >= _MANY else _made(key, role, position, count)


def _made(key: bytes, role: Role, position: int, count: int) -> npt.NDArray[np.uint64]:
    if len(key) != KEY_BYTES:
        raise ValueError(f"a session key has {KEY_BYTES} bytes, got {len(key)}")
    generator, state = _generator()
    state["state"]["key"][:] = np.frombuffer(key, "<u8")
    state["state"]["counter"][:] = (0, position, int(role), 0)
    generator.state = state
    raw: npt.NDArray[np.uint64] = generator.random_raw(count)
    return raw


@functools.lru_cache(maxsize=_REMEMBERED)
def _many(key: bytes, role: Role, position: int, count: int) -> npt.NDArray[np.uint64]:
    """Return the words of a race, made once for both ends where they share a process, and for a device that drafts anew."""
    raw = _made(key, role, position, count)
    raw.flags.writeable = False
    return raw


# A generator is made once a thread and then only placed: making one asks the system for entropy that nobody needs.
_of_thread = threading.local()


def _generator() -> tuple[np.random.Philox, Any]:
    """Return this thread's generator, and a state that stands before a counter."""
    if not hasattr(_of_thread, "made"):
        generator = np.random.Philox(key=0)
        _of_thread.made = generator, generator.state
    made: tuple[np.random.Philox, Any] = _of_thread.made
    return made


def to_uniform(words: npt.NDArray[np.uint64]) -> FloatArray:
    """Return the numbers in (0, 1) that words stand for, in float64."""
    numbers = (words >> np.uint64(12)).astype(np.float64)
    numbers *= 2.0**-52
    numbers += 2.0**-53
    return numbers


def uniforms(key: bytes, role: Role, position: int, count: int) -> FloatArray:
    """Return numbers uniform in (0, 1) for indices 0 … count-1, `[count]` of float64."""
    return to_uniform(words(key, role, position, count))


def uniform(key: bytes, role: Role, position: int) -> float:
    """Return the number uniform in (0, 1) of index 0."""
    return _run(key, role, position // _RUN)[position % _RUN]


@functools.lru_cache(maxsize=_RUNS)
def _run(key: bytes, role: Role, number: int) -> tuple[float, ...]:
    """Return the uniforms of a run of positions: after a forward, which empties the caches, one takes as long as a dozen."""
    positions = range(number * _RUN, (number + 1) * _RUN)
    return tuple(_between(int(_made(key, role, position, 1)[0])) for position in positions)


def _between(word: int) -> float:
    """Return what `to_uniform` has for a word, to the last bit: n + ½ is exact for n < 2⁵²."""
    return ((word >> 12) + 0.5) * 2.0**-52


class Draws:
    """The draws of one session key, some of them made ahead of time: while an engine runs, noise costs nobody a wait."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._ahead: tuple[Role, int, npt.NDArray[np.uint64]] | None = None

    def prepare(self, role: Role, position: int, count: int) -> None:
        """Make `count` words now; what was prepared before and not used is dropped."""
        self._ahead = role, position, words(self._key, role, position, count)

    def words(self, role: Role, position: int, count: int) -> npt.NDArray[np.uint64]:
        """Return the words of indices 0 … count-1, `[count]` of uint64."""
        # Read once: another thread may prepare something else meanwhile.
        ahead = self._ahead
        if ahead is not None and ahead[:2] == (role, position) and ahead[2].size >= count:
            return ahead[2][:count]
        return words(self._key, role, position, count)

    def uniform(self, role: Role, position: int) -> float:
        """Return the number uniform in (0, 1) of index 0."""
        return uniform(self._key, role, position)


def exponentials(key: bytes, role: Role, position: int, count: int) -> FloatArray:
    """Return unit exponentials -log U for indices 0 … count-1, `[count]` of float64."""
    return -np.log(uniforms(key, role, position, count))
