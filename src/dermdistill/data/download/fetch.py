"""Bring all files of a catalogue's data set into its folder: download (in parallel), or take them from a
folder; check; unpack.

::

    data/<name>/archives/<file>       downloads, and <file>.part while they grow
    data/<name>/raw/<archive>/        unpacked
    data/<name>/raw/<archive>.json    stamp: where it came from and its digest; written last
"""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dermdistill.core.errors import ArchiveError, DataError
from dermdistill.core.files import atomic_path, disk_error, hash_file, read_json, write_json
from dermdistill.data.download.archives import unpack
from dermdistill.data.download.catalog import RemoteFile, Source
from dermdistill.data.download.resumable import check_file, download
from dermdistill.imaging.find import list_folder

logger = logging.getLogger(__name__)

PARALLEL = 4
"""Files fetched at the same time: enough to fill a line that limits each connection, polite to the server."""


class BytesBar:
    """A tqdm bar of bytes that several threads may push, until ``stop`` is set."""

    def __init__(self, title: str, stop: threading.Event, *, show: bool) -> None:
        self._stop = stop
        self._bar: Any = tqdm(
            desc=title, total=0, unit="B", unit_scale=True, unit_divisor=1024, disable=not show
        )
        self._lock = threading.Lock()

    def expect(self, count: int) -> None:
        """So many bytes more are to come."""
        with self._lock:
            self._bar.total = (self._bar.total or 0) + count
            self._bar.refresh()

    def advance(self, count: int) -> None:
        """So many bytes have come.

        Raises:
            DataError: Stopped; what was fetched or unpacked is kept.
        """
        with self._lock:
            self._bar.update(count)
        if self._stop.is_set():
            raise DataError(
                "Fetching was stopped.",
                "downloads that are left to finish",
                "Run the same command again: it goes on where it stopped.",
            )

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.close()


def fetch_source(
    source: Source,
    folder: Path,
    *,
    archives: Path | None = None,
    bases: Sequence[str] | None = None,
    verify: bool = True,
    progress: bool = True,
    backoff: float = 1.0,
) -> list[dict[str, Any]]:
    """Download or find, check and unpack every file of ``source`` below ``folder``.

    Args:
        source: Entry of the catalogue.
        folder: The data set's folder (``data/<name>``).
        archives: Take the files from this folder instead of the network.
        bases: Addresses to use instead of the catalogue's.
        verify: Compare lengths and digests.
        progress: Show a bar.
        backoff: See :func:`dermdistill.data.download.resumable.download`.

    Returns:
        One record per file: ``file``, ``from``, digest by algorithm, ``verified``.

    Raises:
        ArchiveError: A file is not the expected one, or unsafe to unpack.
        DataError: Files are absent (all are listed with their addresses), or the disk is full.
    """
    addresses = tuple(bases) if bases is not None else source.bases
    todo = [file for file in source.files if not _stamp(folder, file).is_file()]
    archive_paths = _find_archives(source, todo, archives, addresses) if archives is not None else {}
    stop = threading.Event()
    bar = BytesBar(f"{source.name}: fetching and unpacking", stop, show=progress and bool(todo))

    def bring(file: RemoteFile) -> None:
        try:
            if file.file in archive_paths:
                path, origin = archive_paths[file.file], str(archive_paths[file.file].resolve())
                if verify:
                    check_file(path, file.checksum, file.bytes)
            else:
                urls = file.urls(addresses)
                path, origin = folder / "archives" / file.file, " or ".join(urls)
                if verify and path.is_file():
                    check_file(path, file.checksum, file.bytes)  # it may have come with --no-verify
                download(
                    urls, path, checksum=file.checksum, size=file.bytes,
                    progress=bar, verify=verify, backoff=backoff, stop=stop,
                )  # fmt: skip
            _place(file, path, folder, bar)
            write_json(_stamp(folder, file), _record(file, path, origin, verify))
        except BaseException:
            stop.set()  # the others end at their next block; what they have is kept
            raise

    try:
        with ThreadPoolExecutor(PARALLEL, thread_name_prefix="fetch") as pool:
            futures = [pool.submit(bring, file) for file in todo]
            try:
                _wait(futures)
            except BaseException:
                stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
                raise
    finally:
        bar.close()
    return [read_json(_stamp(folder, file)) for file in source.files]


def raw_path(folder: Path, file: RemoteFile) -> Path:
    """Where an archive is unpacked to, or a plain file lies."""
    return folder / "raw" / (file.stem if file.file.endswith(".zip") else file.file)


def _wait(futures: Sequence[Any]) -> None:
    """Raise the first error that is a cause, not a consequence of stopping the others."""
    errors = [error for future in futures if (error := future.exception()) is not None]
    stopped = [
        error for error in errors if isinstance(error, DataError) and error.found.endswith("was stopped.")
    ]
    for error in [error for error in errors if error not in stopped] + stopped:
        raise error


def _stamp(folder: Path, file: RemoteFile) -> Path:
    path = raw_path(folder, file)
    return path.with_name(path.name + ".json")


def _place(file: RemoteFile, path: Path, folder: Path, bar: BytesBar) -> None:
    target = raw_path(folder, file)
    if file.file.endswith(".zip"):
        unpack(path, target, skip=_is_superpixels, progress=bar)
        return
    try:
        with atomic_path(target) as temporary:
            shutil.copyfile(path, temporary)
    except OSError as error:
        raise disk_error(error, target) from error


def _is_superpixels(name: str) -> bool:
    """ISIC 2017 ships a superpixel PNG beside every image; nothing here uses it."""
    return name.lower().endswith("_superpixels.png")


def _record(file: RemoteFile, path: Path, origin: str, verify: bool) -> dict[str, Any]:
    checksum = file.checksum
    record: dict[str, Any] = {"file": file.file, "from": origin, "bytes": path.stat().st_size}
    if checksum is None:
        logger.warning("%s: no checksum is known for it, so it was not compared with one.", file.file)
        return record | {"sha256": hash_file(path), "verified": False}
    # Verified: the digest is the expected one, there is no need to read the file again.
    value = checksum.value if verify else hash_file(path, checksum.algorithm)
    return record | {checksum.algorithm: value, "verified": verify}


def _find_archives(
    source: Source, files: Sequence[RemoteFile], archives: Path, bases: Sequence[str]
) -> dict[str, Path]:
    """Every file's path below a folder of hand-fetched archives."""
    if not archives.is_dir():
        raise DataError(
            f"{archives} is not a folder.",
            f"a folder with the files of {source.name}",
            "Check --archives, or leave it out to download them.",
        )
    suffixes = {Path(file.file).suffix.lower() for file in files}
    there = {path.name: path for path in sorted(list_folder(archives, suffixes).images, reverse=True)}
    absent = [file for file in files if file.file not in there]
    if absent:
        lines = "\n".join(f"    {file.file}  from  {' or '.join(file.urls(tuple(bases)))}" for file in absent)
        # Folders by name, for a hint alone; they are not read.
        unpacked = [file.file for file in absent if any(p.is_dir() for p in archives.rglob(file.stem))]
        hint = (
            f" (unpacked folders are not taken here, keep the zip: {', '.join(unpacked)})" if unpacked else ""
        )
        raise ArchiveError(
            f"{archives} lacks {len(absent)} of {len(files)} files of {source.name}:\n{lines}",
            "the files as they were published, with their own names",
            f"Fetch them by hand and put them there{hint}, or leave --archives out.",
        )
    return {file.file: there[file.file] for file in files}
