"""What all tests share: each worker's own core, and how large samples are."""

from __future__ import annotations

import os

import pytest


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
