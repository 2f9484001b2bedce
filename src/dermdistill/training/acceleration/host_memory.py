"""Memory that one step on a CPU frees is kept for the next one, and not handed to the system in between.

The GNU C library maps a block of 32 MB or more anew each time it is asked for, and gives back what is free at
the heap's end. A step of a U-Net at 256×256 makes and drops hundreds of megabytes of feature maps: the system
clears every page of them again, in every step (3,000 to 6,000 page faults per image: a tenth of the time).

Source: https://man7.org/linux/man-pages/man3/mallopt.3.html
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
"""Names of `mallopt`, from malloc.h."""
_MOST_MAPPED = 65536
"""The library's own value of M_MMAP_MAX."""
_LARGE = 2**25
"""Bytes that the library's own threshold of mapping grows to in a process that frees such blocks."""


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Keep freed memory in this process for as long as the block lasts; afterwards give it back.

    On a system without the GNU C library nothing changes.
    """
    if sys.platform != "linux" or not hasattr(library := ctypes.CDLL(None), "malloc_trim"):  # as musl
        yield
        return
    library.mallopt(_MMAP_MAX, 0)
    library.mallopt(_TRIM_THRESHOLD, -1)  # never
    try:
        yield
    finally:
        library.mallopt(_MMAP_MAX, _MOST_MAPPED)
        library.mallopt(_MMAP_THRESHOLD, _LARGE)
        library.mallopt(_TRIM_THRESHOLD, 2 * _LARGE)
        library.malloc_trim(ctypes.c_size_t(0))
