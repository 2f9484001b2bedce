"""One process prepares, the others wait: several devices, or two terminals, may ask for the same data set."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def locked(folder: Path, doing: str = "preparing") -> Iterator[None]:
    """Hold the folder's lock; the system frees it when the process ends, however it ends.

    Args:
        folder: It is made where it is missing.
        doing: What the other process does, for the message of the one that waits.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w", encoding="utf-8") as stream:
        try:
            if not _acquire(stream, wait=False):
                logger.warning("Another process is %s %s; waiting for it.", doing, folder)
                _acquire(stream, wait=True)
        except OSError as error:
            # Some network file systems have no locks; the writes themselves are atomic.
            logger.warning("%s cannot be locked (%s): let only one process work on it.", folder, error)
        yield


def _acquire(stream: IO[str], *, wait: bool) -> bool:
    if sys.platform == "win32":
        import msvcrt

        try:
            msvcrt.locking(stream.fileno(), msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
        except OSError:
            if wait:
                return _acquire(stream, wait=True)  # LK_LOCK gives up after ten seconds
            return False
        return True
    import fcntl

    try:
        fcntl.flock(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True
