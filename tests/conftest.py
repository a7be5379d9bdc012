"""What all tests share: each worker's own core, which files go first, and how large samples are."""

from __future__ import annotations

import os

import pytest

# A file is one worker's. The longest first, so that at the end no worker has one before it while the other is through.
LONGEST = ("docs/test_commands.py", "test_losslessness.py", "referee/test_verdict.py", "basestation/test_fuzz.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; `--no-loadscope-reorder` keeps xdist from putting those with most tests there."""
    items.sort(key=lambda item: next((n for n, name in enumerate(LONGEST) if item.path.match(name)), len(LONGEST)))


def pytest_configure() -> None:
    """Tie each worker of pytest-xdist to a core of its own, where there is one for each.

    A base station and a device in one process hand each round on through six threads. Between two cores every one of these
    steps wakes a core that sleeps: on a virtual machine that took more time than the round.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is None or not hasattr(os, "sched_setaffinity"):
        return
    cores = sorted(os.sched_getaffinity(0))
    if int(os.environ["PYTEST_XDIST_WORKER_COUNT"]) <= len(cores):
        os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw"))]})


@pytest.fixture(scope="session")
def thorough(request: pytest.FixtureRequest) -> bool:
    """Whether samples are large: always, but for a quick look (`-m "not slow"`)."""
    return "not slow" not in request.config.option.markexpr
