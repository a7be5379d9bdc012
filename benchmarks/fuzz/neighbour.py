"""A device that behaves: it writes the same answer again and again, and it must come out token by token as if it were alone."""

from __future__ import annotations

import threading
import time

from benchmarks.fuzz.engine import VOCABULARY, Table, TableEngine
from uihlm_device.stream.access import Access
from uihlm_device.stream.client import Connection
from uihlm_device.stream.contract import Contract
from uihlm_device.stream.session import Upload
from uihlm_proto.codecs import codec
from uihlm_proto.randomness import session_key
from uihlm_proto.sampling import Sampling

PROMPT = (5, 9, 2)
TOKENS = 24
PATIENCE_S = 60.0
_PAUSE_S = 0.01


class Neighbour:
    """Writes answers in a thread of its own.

    Attributes:
        answers: finished, all as they should be.
        error: what went wrong, if anything did.
    """

    def __init__(self, target: str, access: Access) -> None:
        """Connect, and write the answer once while nobody else is there."""
        self._connection = Connection(target, VOCABULARY, timeout_s=PATIENCE_S, access=access)
        self._drafter = Table(salt=2)
        self._codec = codec("dense32", VOCABULARY)
        self.answers = 0
        self.error: str | None = None
        self._alone = self.answer()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="neighbour", daemon=True)

    def start(self) -> None:
        """Begin to write answers beside others."""
        self._thread.start()

    def answer(self, pause_s: float = 0.0) -> list[int]:
        """Write one answer under policy `hlm`, one draft a round."""
        sampling, key = Sampling(1.0), session_key(1, 1)
        session = self._connection.session(Contract(TableEngine.fingerprint, sampling, self._codec))
        session.open(PROMPT, key)
        session.ready()
        ids, epoch, told = list(PROMPT), 0, len(PROMPT)
        while len(ids) < len(PROMPT) + TOKENS:
            time.sleep(pause_s)
            drafted = self._codec.draft(sampling.distribution(self._drafter.after(ids)), key, len(ids))
            upload = Upload(epoch, len(ids), context_ids=ids[told:], payloads=(drafted.encode(),))
            verdict = session.verdict(session.upload(upload))
            ids.append(drafted.token if verdict.token is None else verdict.token)
            epoch += verdict.token is not None
            told = len(ids)
        session.close()
        return ids

    def stop(self) -> None:
        """Finish the answer and hang up."""
        self._stop.set()
        self._thread.join(PATIENCE_S)
        if self._thread.is_alive():
            self.error = f"the neighbour hangs: {self.answers} answers, and the next has not come for {PATIENCE_S:g} s"
        self._connection.close()

    def _work(self) -> None:
        try:
            while not self._stop.is_set():
                ids = self.answer(_PAUSE_S)
                if ids != self._alone:
                    self.error = f"the neighbour's answer {self.answers + 1} is {ids}, alone it was {self._alone}"
                    return
                self.answers += 1
        except Exception as error:
            self.error = f"the neighbour's answer {self.answers + 1} failed: {type(error).__name__}: {error}"
