"""Draft trees in Torch: every branch in one forward, and afterwards the one path that stands.

Node i attends to all cached positions and to its own ancestors:

    mask[i, j] = 0 where j is cached, an ancestor of i or i itself (and within the layer's window), else −∞
    position[i] = start + depth[i]

The cache then holds the nodes in the order they came; `keep_path` closes the gaps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from uihlm_models.errors import ModelError
from uihlm_models.pytorch.runtime import PREFILL_CHUNK, Float32Array, TorchModel


def run_tree(
    model: TorchModel,
    cache: Any,
    chain: Sequence[int],
    nodes: Sequence[int],
    parents: Sequence[int],
    rows: int,
    done: int = 0,
) -> Float32Array:
    """Run a chain after what `cache` holds and a tree after the chain; return the logits of the last `rows` nodes.

    Args:
        model: whose forward it is.
        cache: of one sequence; unusable if this raises.
        chain: ids before the tree, as after an eviction; may be empty.
        nodes: ids of the tree, at least one.
        parents: index of each node's parent, before it; −1 is the end of the chain.
        rows: at most len(nodes) − done.
        done: how many of the nodes the cache holds already, from earlier calls; `chain` is then empty.

    Returns:
        Raw logits, `[rows, V]`.

    Raises:
        ModelError: if the model takes no positions or masks, or does not keep one cache position per token.
    """
    import torch

    if chain:
        model.run(cache, chain, 0)
    start = cache.get_seq_length() - done
    seen, depth = ancestry(parents)
    kept: list[Float32Array] = []
    with torch.inference_mode():
        for first in range(done, len(nodes), PREFILL_CHUNK):
            last = min(first + PREFILL_CHUNK, len(nodes))
            wanted = min(max(rows - (len(nodes) - last), 0), last - first)
            output = model.module(
                torch.tensor([list(nodes[first:last])], device=model.module.device),
                attention_mask=masks(
                    model,
                    np.concatenate([np.ones((last - first, start), np.bool_), seen[first:last, :last]], axis=1)[None],
                    start + depth[None, first:last],
                    np.concatenate([np.arange(start), start + depth[:last]])[None],
                ),
                position_ids=torch.tensor(start + depth[first:last], device=model.module.device)[None],
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=max(wanted, 1),
            )
            if cache.get_seq_length() != start + last:
                raise ModelError(
                    f"{model.label} does not keep one cache position per token: it cannot run a draft tree"
                )
            if wanted:
                kept.append(output.logits[0, -wanted:].float().cpu().numpy())
    return np.concatenate(kept) if kept else np.empty((0, model.vocabulary_size), np.float32)


def keep_path(cache: Any, start: int, path: Sequence[int]) -> None:
    """Keep the first `start` positions of `cache` and, right after them, those of the tree's nodes in `path`."""
    import torch

    with torch.inference_mode():
        for layer in cache.layers:
            if list(path) != list(range(len(path))):
                places = torch.tensor([start + node for node in path], device=layer.keys.device)
                for tensor in (layer.keys, layer.values):
                    tensor[..., start : start + len(path), :] = tensor.index_select(-2, places)
            layer.keys = layer.keys[..., : start + len(path), :]
            layer.values = layer.values[..., : start + len(path), :]


def ancestry(parents: Sequence[int]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """Return who sees whom, `[node, node]`, itself included, and each node's depth, `[node]`."""
    seen = np.eye(len(parents), dtype=np.bool_)
    for node, parent in enumerate(parents):
        if parent >= 0:
            seen[node] |= seen[parent]
    return seen, seen.sum(axis=1) - 1


def masks(
    model: TorchModel, visible: npt.NDArray[np.bool_], own: npt.NDArray[np.int64], positions: npt.NDArray[np.int64]
) -> Any:
    """Return the mask to add to attention scores, `[batch, 1, query, key]`, or one for each kind of layer.

    Args:
        model: whose windows count.
        visible: which keys a query may see but for windows, `[batch, query, key]`.
        own: position of each query, `[batch, query]`.
        positions: of each key, `[batch, key]`.
    """
    import torch

    config = model.module.config.get_text_config()
    own, positions = own[:, :, None], positions[:, None, :]

    def mask(kind: str) -> Any:
        allowed = visible
        if kind == "sliding_attention":
            allowed = visible & (own - positions < config.sliding_window)
        elif kind == "chunked_attention":
            allowed = visible & (own // config.attention_chunk_size == positions // config.attention_chunk_size)
        dtype = model.module.dtype
        blocked = torch.from_numpy(~allowed).to(model.module.device)[:, None]
        return torch.zeros(blocked.shape, dtype=dtype, device=blocked.device).masked_fill(
            blocked, torch.finfo(dtype).min
        )

    kinds = set(getattr(config, "layer_types", None) or ())
    if not kinds:
        return mask("sliding_attention" if getattr(config, "sliding_window", None) else "full_attention")
    return mask(kinds.pop()) if len(kinds) == 1 else {kind: mask(kind) for kind in sorted(kinds)}
