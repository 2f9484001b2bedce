"""Unpack zip archives from the internet: nothing outside the target, nothing without bound, and resumable.

A zip may name ``../../.bashrc``, an absolute path or a symbolic link, and a few kilobytes of it may unpack
to terabytes. Every name and every declared size is checked before the first byte is written.
"""

from __future__ import annotations

import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from dermdistill.core.errors import ArchiveError, DataError
from dermdistill.core.files import atomic_path, disk_error
from dermdistill.data.download.http import Progress, Silent

MAX_BYTES = 64 * 2**30
"""Most bytes that one archive may unpack to (the largest official one is about 10 GiB)."""
MAX_RATIO = 100.0
"""Most bytes unpacked per byte packed. Images hardly shrink; a bomb's ratio is about 1000."""
RATIO_FREE = 2**20
"""Members up to this many bytes may have any ratio: a plain mask of few kilobytes packs very well."""
MAX_MEMBERS = 200_000
BLOCK = 1 << 20


def unpack(
    archive: Path,
    target: Path,
    *,
    skip: Callable[[str], bool] = lambda name: False,
    progress: Progress | None = None,
    max_bytes: int = MAX_BYTES,
    max_ratio: float = MAX_RATIO,
) -> Path:
    """Unpack a zip archive into ``target``, which appears under its name only when complete.

    A broken-off attempt leaves ``target`` + ``.partial``; the next one goes on there, file by file.

    Args:
        archive: The zip file.
        target: Folder to create; one that is there already is complete and taken as it is.
        skip: Names of members to leave out.
        progress: Told about every block written.
        max_bytes: Largest unpacked size.
        max_ratio: Largest ratio of unpacked to packed size.

    Raises:
        ArchiveError: Not a zip, truncated, encrypted, damaged, or unsafe. Nothing unsafe is written.
        DataError: The disk is full.
    """
    if target.is_dir():
        return target
    progress = progress or Silent()
    partial = target.with_name(target.name + ".partial")
    try:
        with zipfile.ZipFile(archive) as bundle:
            members = [
                info for info in bundle.infolist() if not info.is_dir() and not _is_junk(info.filename)
            ]
            paths = {info: partial / _check_member(archive, info) for info in members}
            members = [info for info in members if not skip(info.filename)]
            if not members:
                raise zipfile.BadZipFile("it holds no files")
            if len(set(paths.values())) < len(paths):
                raise zipfile.BadZipFile("it holds two files of one name")
            _check_sizes(archive, members, max_bytes, max_ratio)
            _check_space(archive, members, target)
            progress.expect(sum(info.file_size for info in members))
            partial.mkdir(parents=True, exist_ok=True)
            for info in members:
                if not (paths[info].is_file() and paths[info].stat().st_size == info.file_size):
                    _write(bundle, info, paths[info])
                progress.advance(info.file_size)
        partial.replace(target)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ArchiveError(
            f"{archive} cannot be unpacked: {error}.",
            "a complete zip archive",
            "Delete it and fetch it again.",
        ) from error
    except OSError as error:
        raise disk_error(error, target) from error
    return target


def _is_junk(name: str) -> bool:
    """What desktop systems add to archives."""
    path = PurePosixPath(name)
    return "__MACOSX" in path.parts or path.name in (".DS_Store", "Thumbs.db") or path.name.startswith("._")


def _check_member(archive: Path, info: zipfile.ZipInfo) -> PurePosixPath:
    """The member's relative path, if it is safe on every system."""
    name = info.filename
    path = PurePosixPath(name)
    kind = stat.S_IFMT(info.external_attr >> 16)
    problem = ""
    if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or "\0" in name:
        problem = "points outside the folder it is unpacked to"
    elif not path.parts:
        problem = "has no name"
    elif kind not in (0, stat.S_IFREG):
        problem = "is not a plain file (a link or a device)"
    elif info.flag_bits & 0x1:
        problem = "is encrypted"
    if problem:
        raise ArchiveError(
            f"{archive}: the member {name!r} {problem}.",
            "plain files with relative paths",
            "This is not the official archive: do not use it. Fetch it again from the official address.",
        )
    return path


def _check_sizes(archive: Path, members: list[zipfile.ZipInfo], max_bytes: int, max_ratio: float) -> None:
    total = sum(info.file_size for info in members)
    problem = ""
    if len(members) > MAX_MEMBERS:
        problem = f"{len(members)} files (at most {MAX_MEMBERS})"
    elif total > max_bytes:
        problem = f"{total} bytes (at most {max_bytes})"
    elif total > RATIO_FREE and total > max_ratio * archive.stat().st_size:
        problem = f"{total} bytes from {archive.stat().st_size} (at most {max_ratio:.0f} times as many)"
    else:
        for info in members:
            # A member of its own ratio; overlapping members share their packed bytes, which the total sees.
            if info.file_size > max(RATIO_FREE, max_ratio * info.compress_size):
                problem = f"{info.file_size} bytes from {info.compress_size} in {info.filename}"
                break
    if problem:
        raise ArchiveError(
            f"{archive} would unpack to {problem}: it looks like a zip bomb.",
            "images, which hardly shrink in a zip",
            "Do not use it. Fetch the archive again from the official address.",
        )


def _check_space(archive: Path, members: list[zipfile.ZipInfo], target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    needed, free = sum(info.file_size for info in members), shutil.disk_usage(target.parent).free
    if needed > free:
        raise DataError(
            f"The disk has {free / 2**20:.0f} MiB free at {target.parent}.",
            f"{needed / 2**20:.0f} MiB to unpack {archive.name}",
            "Free some space, or choose another --root; the same command goes on where it stopped.",
        )


def _write(bundle: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> None:
    """Write one member under a temporary name; zipfile stops at the declared size and checks the CRC."""
    with atomic_path(path) as temporary, bundle.open(info) as source, temporary.open("wb") as stream:
        shutil.copyfileobj(source, stream, BLOCK)
