"""A GGUF of a real model's shape with random weights: what a model of that size takes in time, without a download.

4-bit k-quants as `Q4_K_M` deals them out (output, and in half of the blocks values and the down projection, in 6 bits). The
blocks are random bits under scales that give the weights a deviation of 0.02, so that activations stay finite; what such a
model writes means nothing.

    q4_K block, 256 weights, 144 bytes:  d, dmin (float16), 12 bytes of 6-bit scales and minima, 128 bytes of 4-bit values
    q6_K block, 256 weights, 210 bytes:  128 + 64 bytes of 6-bit values, 16 signed scales, d (float16)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

_BLOCK = 256
_Q4_K_BYTES, _Q6_K_BYTES = 144, 210
_DEVIATION = 0.02
# File type of llama.cpp: mostly Q4_K, medium.
_FILE_TYPE = 15


@dataclass(frozen=True, slots=True)
class Shape:
    """A Llama's shape; widths are multiples of 256."""

    name: str
    vocabulary: int
    width: int
    hidden: int
    blocks: int
    heads: int
    key_value_heads: int
    context: int = 2048


TINY_LLAMA = Shape("TinyLlama-1.1B-shaped", 32000, 2048, 5632, 22, 32, 4)


def write(path: Path, shape: Shape, seed: int = 0) -> None:
    """Write the file; 0.67 GB for TINY_LLAMA."""
    from gguf import GGMLQuantizationType, GGUFWriter

    random = np.random.default_rng(seed)
    writer = GGUFWriter(path, "llama")
    _describe(writer, shape)

    def weights(name: str, rows: int, columns: int, six_bits: bool = False) -> None:
        data = _q6_k(random, rows, columns) if six_bits else _q4_k(random, rows, columns)
        kind = GGMLQuantizationType.Q6_K if six_bits else GGMLQuantizationType.Q4_K
        writer.add_tensor(name, data, raw_dtype=kind)

    def norm(name: str) -> None:
        writer.add_tensor(name, np.ones(shape.width, np.float32))

    narrow = shape.width // shape.heads * shape.key_value_heads
    weights("token_embd.weight", shape.vocabulary, shape.width)
    norm("output_norm.weight")
    weights("output.weight", shape.vocabulary, shape.width, six_bits=True)
    for block in range(shape.blocks):
        at, more = f"blk.{block}.", _more_bits(block, shape.blocks)
        norm(f"{at}attn_norm.weight")
        weights(f"{at}attn_q.weight", shape.width, shape.width)
        weights(f"{at}attn_k.weight", narrow, shape.width)
        weights(f"{at}attn_v.weight", narrow, shape.width, six_bits=more)
        weights(f"{at}attn_output.weight", shape.width, shape.width)
        norm(f"{at}ffn_norm.weight")
        weights(f"{at}ffn_gate.weight", shape.hidden, shape.width)
        weights(f"{at}ffn_up.weight", shape.hidden, shape.width)
        weights(f"{at}ffn_down.weight", shape.width, shape.hidden, six_bits=more)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _more_bits(block: int, blocks: int) -> bool:
    eighth = blocks // 8
    return block < eighth or block >= 7 * eighth or (block - eighth) % 3 == 2


def _describe(writer: Any, shape: Shape) -> None:
    writer.add_name(shape.name)
    writer.add_file_type(_FILE_TYPE)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_feed_forward_length(shape.hidden)
    writer.add_block_count(shape.blocks)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.key_value_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(shape.width // shape.heads)
    writer.add_vocab_size(shape.vocabulary)
    # A vocabulary of the right size: control pieces, bytes, then names without a meaning.
    normal, unknown, control, byte = 1, 2, 3, 6
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{value:02X}>" for value in range(256))]
    kinds = [unknown, control, control] + [byte] * 256
    others = shape.vocabulary - len(pieces)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([*pieces, *(f"piece{number}" for number in range(others))])
    writer.add_token_scores([0.0] * len(pieces) + [-float(number) for number in range(others)])
    writer.add_token_types(kinds + [normal] * others)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


def _half(value: float) -> npt.NDArray[np.uint8]:
    return np.frombuffer(np.float16(value).tobytes(), np.uint8)


def _q4_k(random: np.random.Generator, rows: int, columns: int) -> npt.NDArray[np.uint8]:
    """Return random rows, `[rows, bytes]`: w = d·scale·q − dmin·minimum, scale and minimum of 6 bits, q of 4."""
    count = columns // _BLOCK
    data = random.integers(0, 256, (rows, count, _Q4_K_BYTES), np.uint8)
    # q has mean 7.5 and, times a scale of mean 31.5, a deviation of about 200.
    d = _DEVIATION / 200.0
    data[:, :, 0:2], data[:, :, 2:4] = _half(d), _half(7.5 * d)
    return data.reshape(rows, count * _Q4_K_BYTES)


def _q6_k(random: np.random.Generator, rows: int, columns: int) -> npt.NDArray[np.uint8]:
    """Return random rows, `[rows, bytes]`: w = d·scale·(q − 32), scale of 8 bits with sign, q of 6."""
    count = columns // _BLOCK
    data = random.integers(0, 256, (rows, count, _Q6_K_BYTES), np.uint8)
    data[:, :, -2:] = _half(_DEVIATION / (18.5 * 74.0))
    return data.reshape(rows, count * _Q6_K_BYTES)
