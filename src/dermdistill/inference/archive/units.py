"""The units of work that an archive is divided into."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dermdistill.core.errors import UsageError
from dermdistill.imaging.find import SKIPPED_FOLDERS, SUFFIXES
from dermdistill.inference.archive.addresses import arrow, open_address, open_parquet

IMAGES_EACH = 512
"""Image files of one unit: what a dead worker has to do again, and rows of a partition."""


@dataclass(frozen=True)
class Unit:
    """What one partition is made of."""

    kind: str
    """images, tar or parquet."""
    root: str
    """The address whose file system it lies in, such as s3://bucket/folder; a local path."""
    paths: tuple[str, ...]
    """Within that file system; of a tar or Parquet file one."""
    row_group: int = -1
    """Of a Parquet file."""

    def name(self, fingerprint: str) -> str:
        """The partition's file name, from the unit and the ``fingerprint`` of model and settings."""
        text = json.dumps([asdict(self), fingerprint])
        return f"part-{hashlib.sha256(text.encode()).hexdigest()[:24]}.parquet"


def find_units(sources: Sequence[str], *, images_each: int = IMAGES_EACH) -> list[Unit]:
    """Units of all that the sources name.

    Args:
        sources: Files, folders (searched to any depth) and globs, local or as addresses: image files, tars
            and Parquet files.
        images_each: Image files of one unit.

    Raises:
        UsageError: A source names nothing, or cannot be reached.
        DataError: A Parquet file cannot be read.
    """
    units: list[Unit] = []
    taken: set[tuple[str, str]] = set()
    for source in sources:
        system, path = open_address(source)
        found = [p for p in _files(system, path, source) if (system.type_name, p) not in taken]
        taken.update((system.type_name, p) for p in found)
        images = [p for p in found if p.lower().endswith(SUFFIXES)]
        units += [
            Unit("images", source, tuple(images[i : i + images_each]))
            for i in range(0, len(images), images_each)
        ]
        units += [Unit("tar", source, (p,)) for p in found if p.lower().endswith(".tar")]
        for p in found:
            if p.lower().endswith(".parquet"):
                groups = open_parquet(system, p).num_row_groups
                units += [Unit("parquet", source, (p,), group) for group in range(groups)]
    return units


def _files(system: Any, path: str, source: str) -> list[str]:
    """Files of a kind that can be read, sorted."""
    pa = arrow()
    magic = re.search(r"[*?\[]", path)
    base = path[: magic.start()].rpartition("/")[0] if magic else path
    info = system.get_file_info(base)
    if info.type == pa.fs.FileType.File:
        return [base]
    found: list[str] = []
    if info.type == pa.fs.FileType.Directory:
        suffixes = (*SUFFIXES, ".tar", ".parquet")
        infos = system.get_file_info(pa.fs.FileSelector(base, recursive=True))
        found = sorted(i.path for i in infos if i.is_file and i.path.lower().endswith(suffixes))
        found = [p for p in found if not _is_passed_over(p[len(base) :])]
        if magic:
            pattern = re.compile(fnmatch.translate(path))
            found = [p for p in found if pattern.match(p)]
    if not found:
        raise UsageError(
            f"{source} names no image, tar or Parquet file.",
            f"a file, a folder or a glob of {', '.join(SUFFIXES)}, .tar or .parquet files",
            "Check the address; folders are searched to any depth.",
        )
    return found


def _is_passed_over(inside: str) -> bool:
    """Whether a path within a folder is hidden, or what systems and tools leave beside pictures."""
    parts = inside.strip("/").lower().split("/")
    return any(part.startswith(".") or part in SKIPPED_FOLDERS for part in parts)
