"""The model hub: whether it can be asked at all, found out within a stated time, and the rows of a data set on it."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import threading
from pathlib import Path

HUB_TIMEOUT_S = 3.0


@functools.cache
def hub_obstacle(timeout_s: float = HUB_TIMEOUT_S) -> str | None:
    """Return None if the model hub answers within `timeout_s`, else why it is not asked; tried once a process.

    HF_HUB_OFFLINE and HF_ENDPOINT are honoured.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    answers: list[str | None] = []

    def ask() -> None:
        try:
            get_session().head(constants.ENDPOINT, timeout=timeout_s)
        except Exception as error:  # whatever stops the request is the answer, and it is reported as such
            answers.append(f"the model hub cannot be reached ({type(error).__name__})")
        else:
            answers.append(None)

    # Name resolution knows no timeout: a daemon thread bounds it, and does not hold the process up at its end.
    thread = threading.Thread(target=ask, name="hub-probe", daemon=True)
    thread.start()
    thread.join(timeout_s)
    return answers[0] if answers else f"the model hub did not answer within {timeout_s:g} s"


def hub_rows(repository: str, revision: str, pattern: str) -> tuple[str, list[object] | None]:
    """Return ("", rows) of a data set's Parquet files that fit `pattern`, in order, else (why not, None).

    They come from the user's cache or, if the hub answers, are downloaded. The revision must be a commit: indices key
    the randomness, so rows must never move.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    if importlib.util.find_spec("pyarrow") is None:
        return "reading the hub's data set needs the package pyarrow", None

    def snapshot(cached: bool) -> list[Path]:
        folder = snapshot_download(
            repository,
            repo_type="dataset",
            revision=revision,
            allow_patterns=pattern,
            local_files_only=cached,
            etag_timeout=HUB_TIMEOUT_S,
        )
        return sorted(Path(folder).glob(pattern))

    files: list[Path] = []
    try:
        files = snapshot(cached=True)
    except LocalEntryNotFoundError:
        obstacle = hub_obstacle()
        if obstacle is not None:
            return f"the data set is not in the local cache and {obstacle}", None
    if not files:
        try:
            files = snapshot(cached=False)
        except Exception as error:  # a download dies in many ways: the reason returned names the one it was
            return f"the data set could not be downloaded ({type(error).__name__})", None
    if not files:
        return f"the data set has no files {pattern}", None
    parquet = importlib.import_module("pyarrow.parquet")
    rows: list[object] = []
    for file in files:
        rows.extend(parquet.read_table(file).to_pylist())
    return "", rows
