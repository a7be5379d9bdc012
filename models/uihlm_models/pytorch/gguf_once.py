"""A GGUF file, parsed once: transformers does so three times, for its configuration, its tokenizer and its weights, and
lists the names of its tensors anew for every module of the model. Of the bundled LLM that was most of the time of a load.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator
from unittest.mock import patch

# The library's names are one process's: two loads at once would put each other's back.
_ONE_AT_A_TIME = threading.RLock()


@contextlib.contextmanager
def gguf_read_once() -> Iterator[None]:
    """Let whatever reads a GGUF file meanwhile get what the first reading of it gave; nothing is kept after."""
    import gguf

    reader, name_map = functools.cache(gguf.GGUFReader), functools.cache(gguf.get_tensor_name_map)
    with _ONE_AT_A_TIME, patch.multiple(gguf, GGUFReader=reader, get_tensor_name_map=name_map):
        yield
