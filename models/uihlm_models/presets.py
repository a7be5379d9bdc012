"""Named pairs of models that `--model` takes.

preset        device (SLM)                             base station (LLM)
bundled       SmolLM2-135M-Instruct less 4 blocks      SmolLM2-135M-Instruct, both without a hub (bundled.py)
paper         TinyLlama-1.1B-Chat-v1.0, GGUF Q4_K_M    Llama-2-7B-Chat, GGUF Q4_K_M
paper-torch   TinyLlama-1.1B-Chat-v1.0, safetensors    Llama-2-7b-chat-hf, safetensors (gated: accept its licence first)

Revisions are names on the hub ("main"), not commits: which commit that was is known once the files are here, and is
recorded then (`ModelSource.commit`), so that a result says exactly which weights made it. To pin, name the model with
`owner/name@commit` instead of the preset.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Role(enum.Enum):
    """Which end of the link runs the model."""

    DRAFTER = "drafter"
    TARGET = "target"


@dataclass(frozen=True, slots=True)
class HubModel:
    """A model on the hub.

    Attributes:
        repository: `owner/name`.
        file: the one GGUF file to fetch; None fetches the safetensors model.
        revision: branch, tag or commit.
    """

    repository: str
    file: str | None = None
    revision: str = "main"

    def __str__(self) -> str:
        """Return it as `--model` takes it."""
        path = self.repository if self.file is None else f"{self.repository}/{self.file}"
        return path if self.revision == "main" else f"{path}@{self.revision}"


BUNDLED = "bundled"

HUB_PRESETS: dict[str, dict[Role, HubModel]] = {
    "paper": {
        Role.DRAFTER: HubModel("TheBloke/TinyLlama-1.1B-Chat-v1.0-GGUF", "tinyllama-1.1b-chat-v1.0.Q4_K_M.gguf"),
        Role.TARGET: HubModel("TheBloke/Llama-2-7B-Chat-GGUF", "llama-2-7b-chat.Q4_K_M.gguf"),
    },
    "paper-torch": {
        Role.DRAFTER: HubModel("TinyLlama/TinyLlama-1.1B-Chat-v1.0"),
        Role.TARGET: HubModel("meta-llama/Llama-2-7b-chat-hf"),
    },
}

PRESETS: tuple[str, ...] = (BUNDLED, *HUB_PRESETS)
