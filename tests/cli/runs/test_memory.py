"""What the commands ask of the C library."""

import platform

import numpy as np
import pytest

from uihlm_cli.runs.memory import keep_large_blocks


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has the knob")
def test_a_freed_distribution_is_used_again_without_new_pages():
    resource = pytest.importorskip("resource")
    assert keep_large_blocks()

    def faults(count):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(count):
            np.ones(49_152)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    faults(10)
    # 96 pages an array, were each mapped afresh.
    assert faults(100) < 100 * 96 / 10
