"""Named pairs of models that `--model` takes.

preset        device (SLM)                             base station (LLM)
bundled       SmolLM2-135M-Instruct less 4 blocks      SmolLM2-135M-Instruct, both without a hub (bundled.py)
paper         TinyLlama-1.1B-Chat-v1.0, GGUF Q4_K_M    Llama-2-7B-Chat, GGUF Q4_K_M
paper-torch   TinyLlama-1.1B-Chat-v1.0, safetensors    Llama-2-7b-chat-hf, safetensors (gated: accept its licence first)

Presets name commits, so that the same weights are fetched for ever; `ModelSource.commit` records what was. Another
revision is had by naming the model, `owner/name@revision`, instead of the preset.
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
        Role.DRAFTER: HubModel(
            "TheBloke/TinyLlama-1.1B-Chat-v1.0-GGUF",
            "tinyllama-1.1b-chat-v1.0.Q4_K_M.gguf",
            "52e7645ba7c309695bec7ac98f4f005b139cf465",
        ),
        Role.TARGET: HubModel(
            "TheBloke/Llama-2-7B-Chat-GGUF",
            "llama-2-7b-chat.Q4_K_M.gguf",
            "191239b3e26b2882fb562ffccdd1cf0f65402adb",
        ),
    },
    "paper-torch": {
        Role.DRAFTER: HubModel(
            "TinyLlama/TinyLlama-1.1B-Chat-v1.0", revision="fe8a4ea1ffedaf415f4da2f062534de366a451e6"
        ),
        Role.TARGET: HubModel("meta-llama/Llama-2-7b-chat-hf", revision="f5db02db724555f92da89c216ac04704f23d4590"),
    },
}

PRESETS: tuple[str, ...] = (BUNDLED, *HUB_PRESETS)
