"""One process prepares, the others wait: several devices, or two terminals, may ask for the same data set."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

from dermdistill.core.errors import UsageError

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def locked(folder: Path, doing: str = "preparing") -> Iterator[None]:
    """Hold the folder's lock while the block runs; wait for it where another process has it.

    The system frees the lock when the process ends, however it ends. Where the file system has no locks,
    that is said and the block runs all the same: the writes themselves are atomic.

    Args:
        folder: The folder; it is made where it is missing.
        doing: What the other process does, for the message of the one that waits.
    """
    from filelock import FileLock, Timeout  # 40 ms: only those who lock pay for it

    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            logger.warning("Another process is %s %s; waiting for it.", doing, folder)
            lock.acquire()
    except (OSError, NotImplementedError) as error:
        logger.warning("%s cannot be locked (%s): let only one process work on it.", folder, error)
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def held(path: Path, doing: str) -> Iterator[None]:
    """Hold a lock while the block runs, or refuse where another process has it.

    Args:
        path: The lock's file; its folder is made where it is missing.
        doing: What the other process does, for the message.

    Raises:
        UsageError: Another process has it.
    """
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UsageError(
            f"Another process {doing}.",
            "one process for each run",
            "Wait for it or stop it, or choose another --name.",
        ) from None
    except (OSError, NotImplementedError) as error:
        logger.warning("%s cannot be locked (%s): let only one process work on it.", path, error)
    try:
        yield
    finally:
        lock.release()
