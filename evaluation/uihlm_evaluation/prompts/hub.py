"""Whether the model hub can be asked at all, found out within a stated time."""

from __future__ import annotations

import functools
import threading

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
