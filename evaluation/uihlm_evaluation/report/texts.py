"""The texts that a run's files name by number only: of token ids and of prompts.

Neither is needed for a number. Where one cannot be had, the notice says so and why; nothing takes its place in silence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from uihlm_evaluation.prompts.datasets import Dataset, load
from uihlm_evaluation.report.folder import RunFolder
from uihlm_models.errors import ModelError
from uihlm_models.tokenizer import Tokenizer
from uihlm_proto.errors import UihlmError

# Answers that a tokenizer must spell as the run did before its texts are believed.
_CHECKED = 20


@dataclass(frozen=True, slots=True)
class Texts:
    """What stands behind the ids of a run.

    Attributes:
        pieces: the bytes that each token id of the run adds to a text; None where they cannot be told.
        prompts: the user's turn by prompt index; empty where the data set is not here.
        notices: why something is missing, in sentences.
    """

    pieces: dict[int, bytes] | None
    prompts: dict[int, str]
    notices: tuple[str, ...]


def find_texts(folder: RunFolder) -> Texts:
    """Return the texts behind a run's token ids and prompt indices, as far as this machine has them."""
    notices = []
    pieces: dict[int, bytes] | None = None
    prompts: dict[int, str] = {}
    try:
        pieces = pieces_of(folder, drafter_tokenizer(folder))
    except (ModelError, UihlmError, ImportError) as error:
        notices.append(
            f"Tokens are shown by their ids: the text of an id comes from the drafter's tokenizer, and {error}."
        )
    try:
        prompts = _prompts(folder)
    except UihlmError as error:
        notices.append(f"Prompts are shown by their index only: {error}.")
    return Texts(pieces, prompts, tuple(notices))


def drafter_tokenizer(folder: RunFolder) -> Tokenizer:
    """Return the tokenizer of the drafter that the run's settings name.

    Raises:
        ModelError: if its weights are not to be had.
    """
    from uihlm_device.drafters.loading import Drafters, DrafterSettings
    from uihlm_models.presets import Role
    from uihlm_models.sources import resolve

    config = folder.document["config"]
    return Drafters(resolve(config["model"], Role.DRAFTER), DrafterSettings(config["backend"])).tokenizer


def pieces_of(folder: RunFolder, tokenizer: Tokenizer) -> dict[int, bytes]:
    """Return the bytes of every token id of a run.

    Raises:
        ModelError: if the tokenizer does not spell the run's answers as they stand in its samples.
    """
    ids = [int(token) for token in np.unique(folder.rounds.token)]
    strangers = [token for token in ids if not 0 <= token < tokenizer.vocabulary_size]
    if strangers:
        raise ModelError(f"that of {folder.document['config']['model']} knows no id {strangers[0]}")
    rounds = folder.rounds
    for sample in [sample for sample in folder.samples if not sample.failed][:_CHECKED]:
        own = rounds.token[(rounds.row == rounds.labels.index(sample.policy)) & (rounds.prompt == sample.prompt)]
        if tokenizer.decode([int(token) for token in own]) != sample.text:
            raise ModelError(
                f"that of {folder.document['config']['model']} spells prompt {sample.prompt} under {sample.policy} other "
                "than the run did: it is another model's"
            )
    return {token: tokenizer.piece(token) for token in ids}


def _prompts(folder: RunFolder) -> dict[int, str]:
    """Return the user turns of the run's data set, if it is still the one that was run."""
    facts = folder.document["dataset"]
    name = folder.document["config"]["selection"]["dataset"]
    whole = load(name)
    wanted: Sequence[int] = facts["indices"]
    kept = set(wanted)
    examples = tuple(example for example in whole.examples if example.index in kept)
    if Dataset(examples, whole.label).digest != facts["sha256"]:
        raise UihlmError(f"{name} no longer holds the prompts that were run")
    return {example.index: example.user_turn for example in examples}
