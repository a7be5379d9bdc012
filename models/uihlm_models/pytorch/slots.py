"""A key-value cache with a row for each session, so that one forward runs many of them at their own positions.

    row i holds lengths[i] positions; its n_i new ids take lengths[i] … lengths[i] + n_i − 1
    ids are padded on the left to Q = max n_i, keys to K = max(lengths[i] + n_i); what a row must not see is masked

With one row in a forward nothing is padded or masked by hand: it is what a cache of its own would run. Imported with
transformers, never before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import Cache
from transformers.cache_utils import DynamicLayer

from uihlm_models.errors import ModelError
from uihlm_models.pytorch.runtime import PREFILL_CHUNK, Float32Array, TorchModel
from uihlm_models.pytorch.tree import ancestry, masks, run_tree

# Positions by which rows grow at least.
_GROWTH = 256


@dataclass(frozen=True, slots=True)
class SlotRun:
    """One row's part of a forward.

    Attributes:
        slot: the row.
        ids: to run after what it holds, at least one.
        rows: how many rows of logits to return, of the last ids.
        parents: makes the last `len(parents)` of the ids a tree (tree.py) after those before; None is a chain.
    """

    slot: int
    ids: Sequence[int]
    rows: int
    parents: Sequence[int] | None = None


class TorchSlots:
    """The rows. Not for use by two threads at once."""

    def __init__(self, model: TorchModel, count: int, max_context: int) -> None:
        """Prepare `count` rows of at most `max_context` positions and a draft tree; memory is taken as they fill."""
        self._model = model
        self._cache = _SlotCache(model.layer_count, count, max_context)

    def length(self, slot: int) -> int:
        """Return how many positions a row holds."""
        return int(self._cache.layers[0].lengths[slot])

    def cut(self, slot: int, keep_len: int) -> None:
        """Roll a row back to its first `keep_len` positions."""
        for layer in self._cache.layers:
            layer.lengths[slot] = min(layer.lengths[slot], keep_len)

    def keep_path(self, slot: int, start: int, path: Sequence[int]) -> None:
        """Keep the first `start` positions of a row and, right after them, those of its last tree's nodes in `path`."""
        moved = list(path) != list(range(len(path)))
        with torch.inference_mode():
            for layer in self._cache.layers:
                if moved:
                    places = torch.tensor([start + node for node in path], device=layer.keys.device)
                    for tensor in (layer.keys, layer.values):
                        tensor[slot, :, start : start + len(path)] = tensor[slot].index_select(1, places)
                layer.lengths[slot] = start + len(path)

    def run(self, runs: Sequence[SlotRun]) -> list[Float32Array]:
        """Run every part, each in a row of its own, and return its raw logits, `[rows, V]`.

        If this raises, the rows that took part are unusable until they are cut to 0.

        Raises:
            ModelError: if the model does not keep one cache position per token.
        """
        found: dict[int, Float32Array] = {}
        for group in _groups(runs):
            logits = [self._alone(group[0])] if len(group) == 1 else self._together(group)
            found |= {run.slot: rows for run, rows in zip(group, logits, strict=True)}
        return [found[run.slot] for run in runs]

    def _alone(self, run: SlotRun) -> Float32Array:
        self._cache.select([run.slot], None)
        if run.parents is None:
            return self._model.run(self._cache, run.ids, run.rows)
        chain, nodes = run.ids[: len(run.ids) - len(run.parents)], run.ids[len(run.ids) - len(run.parents) :]
        return run_tree(self._model, self._cache, chain, nodes, run.parents, run.rows)

    def _together(self, runs: Sequence[SlotRun]) -> list[Float32Array]:
        counts = [len(run.ids) for run in runs]
        starts = [self.length(run.slot) for run in runs]
        queries = max(counts)
        keys = max(start + count for start, count in zip(starts, counts, strict=True))
        ids = np.zeros((len(runs), queries), np.int64)
        own = np.zeros((len(runs), queries), np.int64)
        positions = np.tile(np.arange(keys), (len(runs), 1))
        # What pads a query sees the first key: it has to see something.
        visible = np.zeros((len(runs), queries, keys), np.bool_)
        visible[:, :, 0] = True
        for row, (run, start, count) in enumerate(zip(runs, starts, counts, strict=True)):
            chain = count - len(run.parents or ())
            parents = [*range(-1, chain - 1), *(parent + chain for parent in run.parents or ())]
            seen, depth = ancestry(parents)
            ids[row, queries - count :] = run.ids
            own[row, queries - count :] = start + depth
            positions[row, start : start + count] = start + depth
            visible[row, queries - count :, :start] = True
            visible[row, queries - count :, start : start + count] = seen
        wanted = max(run.rows for run in runs)
        device = self._model.module.device
        self._cache.select([run.slot for run in runs], counts)
        with torch.inference_mode():
            output = self._model.module(
                torch.from_numpy(ids).to(device),
                attention_mask=masks(self._model, visible, own, positions),
                position_ids=torch.from_numpy(own).to(device),
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=max(wanted, 1),
            )
            logits = output.logits.float().cpu().numpy()
        if any(self.length(run.slot) != start + count for run, start, count in zip(runs, starts, counts, strict=True)):
            raise ModelError(
                f"{self._model.label} does not keep one cache position per token: use a model with plain attention"
            )
        return [logits[row, logits.shape[1] - run.rows :].copy() for row, run in enumerate(runs)]


def _groups(runs: Sequence[SlotRun]) -> list[list[SlotRun]]:
    """Cut into forwards of at most a third padding; parts of one length go together."""
    found: list[list[SlotRun]] = []
    real = 0
    for run in sorted(runs, key=lambda run: (len(run.ids), run.slot)):
        padded = len(run.ids) * (len(found[-1]) + 1) if found else 0
        if not found or 2 * padded > 3 * (real + len(run.ids)) or len(run.ids) > PREFILL_CHUNK:
            found.append([])
            real = 0
        found[-1].append(run)
        real += len(run.ids)
    return [sorted(group, key=lambda run: run.slot) for group in found]


@dataclass(frozen=True, slots=True)
class _Selection:
    """Which rows a forward is for: of every new id its place in the batch, its row and its position."""

    slots: list[int]
    batch: npt.NDArray[np.int64]
    query: npt.NDArray[np.int64]
    slot: npt.NDArray[np.int64]
    position: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]


class _SlotLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values of one layer, `[slot, head, position, d]`, all rows in one tensor."""

    def __init__(self, cache: _SlotCache) -> None:
        super().__init__()
        self._cache = cache
        self.lengths = np.zeros(cache.count, np.int64)

    def update(self, key_states: Any, value_states: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """Write the new positions of the selected rows; return all positions of those rows."""
        selection = self._cache.selection
        if selection is None:
            slot, count = self._cache.slots[0], key_states.shape[-2]
            start = int(self.lengths[slot])
            self._reserve(key_states, value_states, slot + 1, start + count)
            for tensor, states in ((self.keys, key_states), (self.values, value_states)):
                tensor[slot, :, start : start + count] = states[0]
            self.lengths[slot] += count
            rows: Any = slice(slot, slot + 1)
            return self.keys[rows, :, : start + count], self.values[rows, :, : start + count]
        longest = int(selection.position.max()) + 1
        self._reserve(key_states, value_states, max(selection.slots) + 1, longest)
        batch, query, slots, positions = self._cache.places(key_states.device)
        self.keys[slots, :, positions] = key_states[batch, :, query]
        self.values[slots, :, positions] = value_states[batch, :, query]
        self.lengths[selection.slots] += selection.counts
        first, last = selection.slots[0], selection.slots[-1]
        # Neighbours are read where they stand; others are copied together.
        contiguous = last - first + 1 == len(selection.slots)
        rows = slice(first, last + 1) if contiguous else selection.slots
        return self.keys[rows, :, :longest], self.values[rows, :, :longest]

    def get_seq_length(self) -> int:
        """Return the positions of the selected row."""
        return int(self.lengths[self._cache.slots[0]])

    def _reserve(self, key_states: Any, value_states: Any, rows: int, positions: int) -> None:
        """Make room for so many rows and positions, by doubling within the limits."""
        held = (0, 0) if self.keys is None else (self.keys.shape[0], self.keys.shape[2])
        if rows <= held[0] and positions <= held[1]:
            return
        rows = held[0] if rows <= held[0] else max(rows, min(2 * held[0], self._cache.count))
        if positions > held[1]:
            positions = max(positions, min(max(2 * held[1], _GROWTH), self._cache.max_context))
        else:
            positions = held[1]
        for name, states in (("keys", key_states), ("values", value_states)):
            grown = torch.zeros(
                (rows, states.shape[1], positions, states.shape[3]), dtype=states.dtype, device=states.device
            )
            if held[0]:
                grown[: held[0], :, : held[1]] = getattr(self, name)
            setattr(self, name, grown)
        self.is_initialized = True


class _SlotCache(Cache):  # type: ignore[misc]
    """What transformers writes to: the layers, and which rows the next forward is for."""

    def __init__(self, layers: int, count: int, max_context: int) -> None:
        self.count = count
        self.max_context = max_context
        self.slots: list[int] = [0]
        self.selection: _Selection | None = None
        self._places: dict[Any, tuple[Any, ...]] = {}
        super().__init__(layers=[_SlotLayer(self) for _ in range(layers)])

    def select(self, slots: list[int], counts: Sequence[int] | None) -> None:
        """Name the rows of the next forward and their new ids; None for one row that takes whatever comes."""
        self.slots, self.selection = slots, None
        self._places = {}
        if counts is None:
            return
        queries, lengths = max(counts), self.layers[0].lengths
        pairs = list(zip(slots, counts, strict=True))
        self.selection = _Selection(
            slots,
            np.concatenate([np.full(count, row) for row, count in enumerate(counts)]),
            np.concatenate([np.arange(queries - count, queries) for count in counts]),
            np.concatenate([np.full(count, slot) for slot, count in pairs]),
            np.concatenate([np.arange(lengths[slot], lengths[slot] + count) for slot, count in pairs]),
            np.array(counts),
        )

    def places(self, device: Any) -> tuple[Any, ...]:
        """Return the selection's indices as tensors on a device."""
        assert self.selection is not None
        if device not in self._places:
            arrays = (self.selection.batch, self.selection.query, self.selection.slot, self.selection.position)
            self._places[device] = tuple(torch.from_numpy(array).to(device) for array in arrays)
        return self._places[device]
