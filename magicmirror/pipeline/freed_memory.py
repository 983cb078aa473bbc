"""Keep freed memory in the process, for models on a CPU.

glibc hands a large buffer back to the system when it is freed, and every page of the next one is a fault. Networks
allocate the same large buffers again and again: on the preview model that is a quarter of a request's CPU time
(``docs/performance.md``). The price is that the process stays as large as it ever was.
"""

from __future__ import annotations

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8
_NEVER = 2**31 - 1
_TOP_PAD_BYTES = 64 * 2**20


def keep_freed_memory() -> bool:
    """Tell the allocator to reuse freed memory instead of giving it back.

    To be called before the first thread is started: memory of a thread that has an arena of its own is given back all
    the same.

    Returns:
        Whether it was told; only glibc can be.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = ((_M_ARENA_MAX, 1), (_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _NEVER), (_M_TOP_PAD, _TOP_PAD_BYTES))
    return all(bool(mallopt(name, value)) for name, value in settings)
