"""A thread that forwards run in: an engine's own, and in its process whatever must take turns with them (llama/turns.py).

Each thread that runs forwards has a team of OpenMP threads. One that has not worked for a while sleeps and must be woken, and
with two of them there are more threads than cores, so that they spin but briefly (openmp.py). A forward that is handed to the
thread that ran the one before finds its team awake.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from typing import TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")


class ForwardThread(threading.Thread):
    """Runs what it is given in the order in which it comes, until it is ended."""

    def __init__(self, name: str) -> None:
        """Start the thread."""
        super().__init__(name=name, daemon=True)
        self._jobs: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._ended = False
        self.start()

    def put(self, job: Callable[[], object]) -> bool:
        """Give it a job, and do not wait; False if it has been ended, and the job will not run."""
        with self._lock:
            if not self._ended:
                self._jobs.put(job)
            return not self._ended

    def call(self, work: Callable[[], T]) -> T:
        """Run some work there and wait for it; its error is raised here.

        Raises:
            EndedError: if the thread has been ended; then the work has not run.
        """
        answer: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

        def job() -> None:
            try:
                answer.put((work(), None))
            except BaseException as error:
                answer.put((None, error))

        try:
            result, failure = answer.get() if self.put(job) else (None, EndedError(f"the thread {self.name} has ended"))
        except BaseException:
            # Interrupted: the work may write to memory that is freed next.
            self._settle()
            raise
        if failure is not None:
            raise failure
        return result  # type: ignore[return-value]

    def end(self) -> None:
        """Let it finish what it has been given, and stop; safe to call twice."""
        with self._lock:
            self._ended = True
            self._jobs.put(None)

    def run(self) -> None:
        """Do one job after the other."""
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except Exception:
                log.exception("a job of the thread %s failed", self.name)

    def _settle(self) -> None:
        """Wait until all that it has been given so far is done."""
        passed = threading.Event()
        if self.put(passed.set):
            passed.wait()
        else:
            self.join()


class EndedError(RuntimeError):
    """A forward thread takes no more work."""
