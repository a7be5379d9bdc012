"""How this process keeps the blocks that every token needs again."""

from __future__ import annotations

import ctypes

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGE_BYTES = 256 * 1024 * 1024


def keep_large_blocks() -> bool:
    """Make the C library keep freed blocks of up to 256 MiB; return whether it can be told so.

    A distribution over V = 49,152 tokens takes 0.4 MB. By default glibc maps a block of that size afresh and gives it back
    when it is freed, so that each of the dozen arrays of a round is paid for in page faults: a third to a half of a
    verdict's arithmetic, in one measurement. Other C libraries have no such knob and are left alone.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)) and bool(mallopt(_M_TRIM_THRESHOLD, _LARGE_BYTES))
