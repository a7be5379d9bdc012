"""A GGUF file, parsed once: transformers does so three times, for its configuration, its tokenizer and its weights, and
lists the names of its tensors anew for every module of the model. Of the bundled LLM that was most of the time of a load.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator

# What transformers asks of the library, and what one load always gets the same answer to.
_ASKED = ("GGUFReader", "get_tensor_name_map")
# The library's names are one process's: two loads at once would put each other's back.
_ONE_AT_A_TIME = threading.RLock()


@contextlib.contextmanager
def gguf_read_once() -> Iterator[None]:
    """Let whatever reads a GGUF file meanwhile get what the first reading of it gave; nothing is kept after."""
    import gguf

    with _ONE_AT_A_TIME:
        own = {name: getattr(gguf, name) for name in _ASKED}
        try:
            for name, function in own.items():
                setattr(gguf, name, functools.cache(function))
            yield
        finally:
            for name, function in own.items():
                setattr(gguf, name, function)
