"""How glibc is to hand out memory to a process that trains, which it must be told before it starts.

By itself it returns big tensors to the kernel at every free and faults them in again, in pages of
4 KiB, at the next allocation: 265,000 page faults a step and 1.25-1.6x its time (13.8M parameters).
`mallopt` in a running process does not help: it knows no huge pages, which are the better half
(eight casts of 8 MB: 13.8 ms as it comes, 13.9 with the thresholds alone, 8.3 with all three).
"""

import os
import platform
import sys

MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "68719476736",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}


def with_kept_memory() -> None:
    """Be this very command in an environment with `MEMORY`, unless it says anything of it."""
    if platform.libc_ver()[0] == "glibc" and not MEMORY.keys() & os.environ.keys():
        sys.stdout.flush()
        os.execve(sys.executable, sys.orig_argv, {**os.environ, **MEMORY})
