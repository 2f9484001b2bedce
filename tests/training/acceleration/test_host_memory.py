"""Freed memory stays in the process while a network trains on a CPU, and goes back afterwards."""

from __future__ import annotations

import contextlib
import platform
import resource
from pathlib import Path

import pytest
import torch

from dermdistill.training.acceleration.host_memory import freed_memory_kept

LARGE = 12 * 2**20
"""Numbers of 4 bytes: 48 MB, which the GNU C library maps anew each time."""

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="no GNU C library")


def faults(rounds: int = 8) -> int:
    """Pages that the system clears while a large block is made, written and dropped so many times."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        torch.ones(LARGE)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()


def test_the_system_clears_a_block_once_and_gets_it_back_even_after_an_error() -> None:
    held = 0
    with contextlib.suppress(ZeroDivisionError), freed_memory_kept():
        faults()  # the heap grows
        assert faults() < 4 * LARGE // resource.getpagesize()
        held = resident_bytes()
        held //= 0
    assert held - resident_bytes() > 3 * LARGE
