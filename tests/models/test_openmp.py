"""How libgomp was loaded, as it says itself in a process of its own."""

import ctypes.util
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(ctypes.util.find_library("gomp") is None, reason="no libgomp on this system")

CLI = "import os, uihlm_cli; print(dict(os.environ))"
LIBRARY = "import os; from uihlm_models.llama.binding import library; library(); print(dict(os.environ))"


def told(code: str, **set_by_user: str) -> tuple[str, str]:
    """Return what code printed, and what libgomp said when it was loaded."""
    ours = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_DISPLAY_ENV")
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    run = subprocess.run(
        [sys.executable, "-c", code],
        env=environment | {"OMP_DISPLAY_ENV": "VERBOSE"} | set_by_user,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return run.stdout, run.stderr


@pytest.mark.parametrize("code", [CLI, LIBRARY])
def test_threads_that_wait_spin_for_a_while(code):
    printed, said = told(code)
    assert "OMP_WAIT_POLICY = 'ACTIVE'" in said
    assert "GOMP_SPINCOUNT = '300000'" in said
    # Neither processes started from here nor other libraries hear of it.
    assert "OMP_WAIT_POLICY" not in printed
    assert "GOMP_SPINCOUNT" not in printed


def test_what_a_user_has_set_stays():
    printed, said = told(LIBRARY, OMP_WAIT_POLICY="passive")
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in said
    assert "'OMP_WAIT_POLICY': 'passive'" in printed
    _, said = told(LIBRARY, GOMP_SPINCOUNT="7")
    assert "GOMP_SPINCOUNT = '7'" in said
    assert "OMP_WAIT_POLICY = 'ACTIVE'" not in said


RELEASE = """
import os
import time
from uihlm_models import bundled
from uihlm_models.llama.runtime import LlamaRuntime, RuntimeSettings
from uihlm_models.openmp import release_team

def forward():
    runtime.decode_one(7, 0)
    runtime.truncate(0, 0)
    return len(os.listdir("/proc/self/task"))

runtime = LlamaRuntime(bundled.slm_path(), RuntimeSettings(n_ctx=64, n_threads=3, gpu_layers=0))
working = forward()
release_team()
ended_s = time.monotonic() + 10.0
while (released := len(os.listdir("/proc/self/task"))) > working - 2 and time.monotonic() < ended_s:
    time.sleep(0.01)  # threads end in their own time
print(working, released, forward())
"""


def test_a_team_that_is_released_ends_and_comes_back_with_the_next_forward():
    printed, _ = told(RELEASE)
    working, released, again = map(int, printed.split())
    assert (released, again) == (working - 2, working)
