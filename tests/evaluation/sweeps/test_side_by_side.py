"""Prompts side by side: every task is answered once, workers are processes, and a worker that dies is noticed."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import pytest

from sweep_workers import Echo
from uihlm_evaluation.prompts.datasets import Example
from uihlm_evaluation.sweeps.side_by_side import Task, WorkerError, answers
from uihlm_proto.errors import UnavailableError


def task(index, instruction="say"):
    return Task(Example(index, instruction, "", ""), ("slm", "u"))


def test_one_job_answers_here_and_in_order():
    done = list(answers(Echo(), [task(4), task(2)], 1))
    assert [[(label, sample.prompt) for label, sample, _ in prompt] for prompt in done] == [
        [("slm", 4), ("u", 4)],
        [("slm", 2), ("u", 2)],
    ]
    assert {sample.text for prompt in done for _, sample, _ in prompt} == {str(os.getpid())}


def test_two_jobs_answer_every_task_once_in_processes_of_their_own():
    done = list(answers(Echo(pause_s=0.05), [task(index) for index in range(12)], 2))
    assert sorted(sample.prompt for prompt in done for _, sample, _ in prompt) == sorted([*range(12)] * 2)
    processes = {sample.text for prompt in done for _, sample, _ in prompt}
    assert len(processes) == 2
    assert str(os.getpid()) not in processes
    assert all(records[0].token == sample.prompt for prompt in done for _, sample, records in prompt)


def test_worker_that_dies_ends_the_run_with_a_sentence_and_keeps_what_was_done():
    done = []
    with pytest.raises(WorkerError, match=r"exit code 9 .*--resume"):
        for prompt in answers(Echo(), [task(0), task(1, "die")], 2):
            done.append(prompt[0][1].prompt)
    assert done == [0]


def test_error_of_a_worker_is_raised_as_itself():
    with pytest.raises(UnavailableError, match="the base station is gone"):
        list(answers(Echo(), [task(0, "lost"), task(1)], 2))


ORPHAN = """
import sys
sys.path[:0] = {path!r}
from sweep_workers import Echo
from uihlm_evaluation.prompts.datasets import Example
from uihlm_evaluation.sweeps.side_by_side import Task, answers

if __name__ == "__main__":
    tasks = [Task(Example(n, "say", "", ""), ("u",) * 200) for n in range(2)]
    tasks.insert(0, Task(Example(9, "say", "", ""), ("u",)))
    for prompt in answers(Echo(pause_s=0.1), tasks, 2):
        print(prompt[0][1].text, flush=True)
"""


def test_workers_end_when_their_parent_is_killed(tmp_path):
    script = tmp_path / "orphan.py"
    script.write_text(ORPHAN.format(path=[entry for entry in sys.path if entry]))
    parent = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    worker = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    try:
        assert ended(worker, within_s=10.0), "the worker went on without anybody to work for"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)


def ended(process, within_s):
    """Whether a process that is no child of ours is gone in time."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False
