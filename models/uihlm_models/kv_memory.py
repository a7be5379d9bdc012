"""How much memory a session's keys and values take.

bytes of a position = 2 · layers · key-value heads · width of a head · bytes of a number
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from uihlm_models.errors import ModelError
from uihlm_models.llama.binding import library, load_model, metadata

_NUMBER_BYTES = 2


@dataclass(frozen=True, slots=True)
class KvShape:
    """What a GGUF says of its cache.

    Attributes:
        position_bytes: of one position of one session, in 16-bit numbers.
        trained: positions the model was trained for.
    """

    position_bytes: int
    trained: int

    @classmethod
    def of(cls, path: Path) -> KvShape:
        """Read a file's header.

        Raises:
            ModelError: if the file cannot be read or does not say.
        """
        model = load_model(path, vocabulary_only=True)
        try:
            name = metadata(model, "general.architecture") or ""

            def number(key: str) -> int | None:
                text = metadata(model, f"{name}.{key}")
                return int(text) if text is not None and text.isdigit() else None

            layers, heads, width = (number(key) for key in ("block_count", "attention.head_count", "embedding_length"))
            trained = number("context_length")
            if not layers or not heads or not width or not trained:
                raise ModelError(f"{path.name} does not say how large its cache is: serve it without --kv-memory")
            # Where layers differ the file holds a list: the count of query heads is then an upper bound.
            key_heads = number("attention.head_count_kv") or heads
            key = number("attention.key_length") or width // heads
            value = number("attention.value_length") or width // heads
            return cls(layers * key_heads * (key + value) * _NUMBER_BYTES, trained)
        finally:
            library().llama_model_free(model)


def caches_within(budget_bytes: int, cache_bytes: int) -> int:
    """Return how many caches fit in a budget.

    Raises:
        ModelError: if not one does.
    """
    if cache_bytes > budget_bytes:
        raise ModelError(
            f"one session's cache takes {cache_bytes / 2**20:.1f} MiB and {budget_bytes / 2**20:.1f} MiB are allowed: allow "
            "more with --kv-memory, or fewer positions with --max-context"
        )
    return budget_bytes // cache_bytes
