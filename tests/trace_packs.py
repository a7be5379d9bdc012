"""Trace packs of a known law, for tests of what scores rules on them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from synthetic_trace import lawful, trace_of
from uihlm_evaluation.calibration.trace import Trace
from uihlm_evaluation.calibration.tracing import TRACE
from uihlm_evaluation.traces.columns import described
from uihlm_evaluation.traces.manifest import Manifest, Store
from uihlm_evaluation.traces.pack import TracePack


def pack_of(trace: Trace, held_out=None, seed=0) -> TracePack:
    """A pack of a trace; every other prompt is held out unless it is said which."""
    prompts = [int(prompt) for prompt in np.unique(trace.prompt)]
    held = prompts[1::2] if held_out is None else list(held_out)
    manifest = Manifest(
        store=Store.NPZ, dataset="a known law", prompts_digest="d" * 64, seed=seed, config={}, provenance={},
        slm=("small", "5" * 64), llm=("large", None), train=tuple(p for p in prompts if p not in held),
        held_out=tuple(held), held_out_share=0.5, tokens=len(trace), columns=described(trace),
    )  # fmt: skip
    return TracePack(manifest, trace)


def saved(pack: TracePack, folder: Path) -> Path:
    """The same on disk."""
    folder.mkdir()
    pack.trace.save(folder / TRACE)
    pack.manifest.save(folder)
    return folder


def lawful_pack(prompts=20, tokens=40, seed=0) -> TracePack:
    """Rejection grows with u; nothing else tells of it."""
    return pack_of(lawful(prompts=prompts, tokens=tokens, seed=seed))


def telling_pack(prompts=20, tokens=40, seed=0) -> TracePack:
    """The first number of the hidden state alone tells of rejection."""
    generator = np.random.default_rng(seed)
    hidden = generator.normal(size=(prompts * tokens, 6))
    beta = 1.0 / (1.0 + np.exp(-3.0 * hidden[:, 0]))
    u = generator.uniform(size=prompts * tokens)
    return pack_of(trace_of(u, beta, np.repeat(np.arange(prompts), tokens), hidden=hidden))


def with_columns(pack: TracePack, **columns) -> TracePack:
    """The same pack with other columns."""
    return TracePack(pack.manifest, dataclasses.replace(pack.trace, **columns))
