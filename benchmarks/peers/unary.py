"""A baseline: one unary RPC a token, in the manner of the open U-HLM replication. Written by us from a description of it.

What the description says: unary gRPC, an RPC for every token, skipped ones included; the 100 likeliest entries of x on the air,
cut *after* the draft was drawn; the prefix sent as text and tokenised anew at every verification; no key-value cache kept on
the device. It is a measure of time, not of quality: what it writes is not the LLM's (PEERS: x cut after the draw, drafts
outside the 100 always accepted).

`keeps_caches` makes it the kindest version of itself: ids on the air in place of text, and a cache kept at both ends.

Every draft is uploaded here (`hlm`), on the same weights in llama.cpp, so that nothing but the machinery differs.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from concurrent import futures
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt

from benchmarks.peers.peer import TEMPERATURE
from uihlm_models.llama.runtime import LlamaRuntime, RuntimeSettings
from uihlm_proto.sampling import Sampling, draw

ENTRIES = 100
_HEAD = struct.Struct("<I")
_METHOD = "/baseline.Unary/Verify"
_ENTRY = np.dtype([("token", "<u4"), ("p", "<f4")])

FloatArray = npt.NDArray[np.float64]


@dataclass(slots=True)
class _Model:
    """A GGUF that answers with the distribution after some ids, with or without what it ran before."""

    path: Path
    threads: int
    keeps_cache: bool
    runtime: LlamaRuntime = field(init=False)
    held: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.runtime = LlamaRuntime(self.path, RuntimeSettings(n_ctx=2048, n_threads=self.threads))

    def after(self, ids: Sequence[int]) -> FloatArray:
        """Return the next token's distribution, `[V]`."""
        same = next((at for at, (a, b) in enumerate(zip(self.held, ids, strict=False)) if a != b), None)
        shared = min(len(self.held), len(ids)) if same is None else same
        start = min(shared, len(ids) - 1) if self.keeps_cache else 0
        self.runtime.truncate(0, start)
        new = list(ids[start:])
        self.runtime.decode(new, range(start, len(ids)), 0, [False] * (len(new) - 1) + [True])
        self.held = list(ids)
        return Sampling(TEMPERATURE).distribution(self.runtime.logits()[0])


class Unary:
    """Device and server of the baseline (`Peer`). A context manager."""

    def __init__(self, slm: Path, llm: Path, threads: int, keeps_caches: bool) -> None:
        self._slm, self._llm = _Model(slm, threads, keeps_caches), _Model(llm, threads, keeps_caches)
        self._by_text = not keeps_caches
        self._names = self._slm.runtime.tokenizer.pieces()
        self._random = np.random.default_rng(0)
        self.accepted = self.judged = 0

    def __enter__(self) -> Unary:
        """Serve on loopback and connect."""
        self._server = grpc.server(futures.ThreadPoolExecutor(1))
        self._server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(
                    "baseline.Unary", {"Verify": grpc.unary_unary_rpc_method_handler(self._verify)}
                ),
            )
        )
        port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.enable_http_proxy", 0)])
        self._ask: Any = self._channel.unary_unary(_METHOD)
        return self

    def __exit__(self, *exception: object) -> None:
        """Stop."""
        self._channel.close()
        self._server.stop(None).wait()

    def write(self, prompt: Sequence[int], tokens: int, seed: int) -> int:
        """Write an answer; see `Peer`."""
        self._random = np.random.default_rng(seed)
        # Every answer prefills its own prompt, as every other peer's does.
        self._slm.held = self._llm.held = []
        ids = list(prompt)
        for _ in range(tokens):
            x = self._slm.after(ids)
            token = draw(x, float(self._random.random()))
            likeliest = np.argpartition(x, -ENTRIES)[-ENTRIES:]
            top = np.empty(ENTRIES, _ENTRY)
            top["token"], top["p"] = likeliest, x[likeliest]
            prefix = self._text(ids) if self._by_text else np.array(ids, "<u4").tobytes()
            answer: bytes = self._ask(_HEAD.pack(token) + top.tobytes() + prefix)
            ids.append(int.from_bytes(answer, "little"))
        return len(ids) - len(prompt)

    def _text(self, ids: Sequence[int]) -> bytes:
        tokenizer = self._slm.runtime.tokenizer
        # Control tokens add nothing to a text, but the prompt's turns are marked with them.
        return b"".join(tokenizer.piece(token) or self._names[token].encode() for token in ids)

    def _verify(self, request: bytes, context: object) -> bytes:
        token = int(_HEAD.unpack_from(request)[0])
        top = np.frombuffer(request, _ENTRY, ENTRIES, _HEAD.size)
        prefix = request[_HEAD.size + top.nbytes :]
        tokenizer = self._llm.runtime.tokenizer
        ids = (
            tokenizer.encode(prefix.decode("utf-8", "replace"))
            if self._by_text
            else np.frombuffer(prefix, "<u4").tolist()
        )
        y = self._llm.after(ids)
        place = np.flatnonzero(top["token"] == token)
        self.judged += 1
        if place.size == 0 or self._random.random() * top["p"][place[0]] <= y[token]:
            self.accepted += 1
            return token.to_bytes(4, "little")
        x = np.zeros_like(y)
        x[top["token"]] = top["p"]
        residual = np.maximum(y - x / x.sum(), 0.0)
        return draw(residual, float(self._random.random())).to_bytes(4, "little")
