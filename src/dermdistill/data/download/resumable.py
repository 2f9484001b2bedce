"""Fetch one file over HTTP so that a break costs only what was lost.

The bytes grow in ``<name>.part``; beside it, ``<name>.part.json`` remembers what the server said about the
file (length, ETag, date), so that the next attempt asks for the rest only, and only if it is still the same
file. The final name appears once the checksum is right.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import Path

from dermdistill.core.errors import ArchiveError
from dermdistill.core.files import disk_error, hash_file
from dermdistill.data.download.catalog import Checksum
from dermdistill.data.download.http import Progress, Silent, Transfer

logger = logging.getLogger(__name__)


def download(
    urls: Sequence[str],
    target: Path,
    *,
    checksum: Checksum | None = None,
    size: int | None = None,
    progress: Progress | None = None,
    verify: bool = True,
    backoff: float = 1.0,
    stop: threading.Event | None = None,
) -> Path:
    """Fetch a file from the first address that serves it.

    Args:
        urls: Addresses of the same file, best first.
        target: Where to put it; a file that is there already is taken as it is (it was checked).
        checksum: Expected digest, if known.
        size: Expected length in bytes, if known.
        progress: Told about every block.
        verify: Compare with ``checksum`` and ``size``.
        backoff: Seconds before the second attempt; doubled for each further one.
        stop: When set, the transfer ends with an error; what was fetched is kept.

    Raises:
        ArchiveError: The file is not the expected one; found and expected values are given.
        DataError: No address serves it, or the disk is full.
    """
    if target.is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    transfer = Transfer(part, progress or Silent(), stop or threading.Event(), backoff)
    try:
        transfer.run(urls)
        if verify and transfer.joined and _differences(part, checksum, size):
            # Pieces of two different files may have been joined: only a fresh copy tells.
            logger.warning("%s does not match after it was continued; fetching it again.", target.name)
            transfer.forget()
            transfer.run(urls)
        if verify and (difference := _differences(part, checksum, size)):
            raise mismatch(target.name, *difference)
        part.replace(target)
    except OSError as error:
        raise disk_error(error, target) from error
    transfer.note.unlink(missing_ok=True)
    return target


def check_file(path: Path, checksum: Checksum | None, size: int | None) -> None:
    """Compare a file with its expected length and digest.

    Raises:
        ArchiveError: They differ; both values are given.
    """
    if difference := _differences(path, checksum, size):
        raise mismatch(str(path), *difference)


def mismatch(name: str, found: str, expected: str) -> ArchiveError:
    """The error for a file that is not the expected one."""
    return ArchiveError(
        f"{name} has the {found}.",
        expected,
        "It may be damaged (delete it and try again), or the published file may have changed: "
        "if you trust where it came from, add --no-verify.",
    )


def _differences(path: Path, checksum: Checksum | None, size: int | None) -> tuple[str, str] | None:
    """(found, expected) of the first difference."""
    if size is not None and path.stat().st_size != size:
        return f"length {path.stat().st_size} bytes", f"{size} bytes"
    if checksum is not None:
        digest = hash_file(path, checksum.algorithm)
        if digest != checksum.value.lower():
            return f"{checksum.algorithm} {digest}", f"{checksum.algorithm} {checksum.value.lower()}"
    return None
