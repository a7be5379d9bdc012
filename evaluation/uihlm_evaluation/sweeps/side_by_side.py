"""Several prompts at once, each in a process of its own with models of its own.

A language model on few cores gains little from a second thread, and two processes of one thread each get more done (measured:
docs/performance.md). Each worker takes a prompt, answers it under every row, and sends the answers back; the parent alone
writes files. A worker that dies ends the run with a sentence; what was done stays.
"""

from __future__ import annotations

import multiprocessing
import queue
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from typing import Any

from uihlm_device.tokens import TokenRecord
from uihlm_evaluation.prompts.datasets import Example
from uihlm_evaluation.runs.samples import Sample
from uihlm_proto.errors import UihlmError

_POLL_S = 0.5

Answered = tuple[str, Sample, list[TokenRecord]]
# Answers one prompt under the row of a label.
Answer = Callable[[str, Example], tuple[Sample, list[TokenRecord]]]
# Opens a worker's models and closes them again. It crosses to another process: a picklable callable.
OpenWorker = Callable[[], AbstractContextManager[Answer]]


@dataclass(frozen=True, slots=True)
class Task:
    """A prompt and the labels of the rows it is to be answered under, in walking order."""

    example: Example
    labels: tuple[str, ...]


class WorkerError(UihlmError):
    """A worker process ended before its work did."""


def answers(open_worker: OpenWorker, tasks: Sequence[Task], jobs: int) -> Iterator[list[Answered]]:
    """Yield the answers of one prompt after the other, in whatever order they are done.

    With one job everything runs in this process.

    Raises:
        UihlmError: what a worker could not go on with, or that one died.
    """
    if jobs <= 1:
        with open_worker() as answer:
            for task in tasks:
                yield [(label, *answer(label, task.example)) for label in task.labels]
        return
    context = multiprocessing.get_context("spawn")
    todo: Any = context.Queue()
    done: Any = context.Queue()
    for task in tasks:
        todo.put(task)
    workers = [
        context.Process(target=_work, args=(open_worker, todo, done), daemon=True) for _ in range(min(jobs, len(tasks)))
    ]
    try:
        for worker in workers:
            todo.put(None)
            worker.start()
        for _ in tasks:
            outcome = _next(done, workers)
            if isinstance(outcome, Exception):
                raise outcome
            yield outcome
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.join()


def _next(done: Any, workers: Sequence[BaseProcess]) -> list[Answered] | Exception:
    while True:
        try:
            outcome: list[Answered] | Exception = done.get(timeout=_POLL_S)
            return outcome
        except queue.Empty:
            dead = next((worker for worker in workers if worker.exitcode), None)
            if dead is not None:
                raise WorkerError(
                    f"a worker process ended with exit code {dead.exitcode} (out of memory?): go on with --resume, "
                    "and with a smaller --jobs if it happens again"
                ) from None


def _work(open_worker: OpenWorker, todo: Any, done: Any) -> None:
    """A worker's life."""
    # Ctrl-C reaches the whole group: the parent decides, and ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with open_worker() as answer:
            while (task := todo.get()) is not None:
                answered: list[Answered] = []
                for label in task.labels:
                    # A parent that was killed could not end its workers, and nobody reads what they would still do.
                    if not _parent_lives():
                        return
                    answered.append((label, *answer(label, task.example)))
                done.put(answered)
    except UihlmError as error:
        done.put(error)


def _parent_lives() -> bool:
    parent = multiprocessing.parent_process()
    return parent is not None and parent.is_alive()
