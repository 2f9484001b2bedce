"""Which image files a user means by the paths on a command line."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable
from pathlib import Path

from dermdistill.core.errors import UsageError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")
"""Of the formats that `imaging` reads."""
LINES = "predictions.jsonl"
"""What predictions are listed in; the mark of a folder of results."""


def find_images(paths: Iterable[str | Path]) -> list[Path]:
    """Image files named by files, folders (searched to any depth) and globs (``**`` too).

    Each file once, however often it is named; in the order given, those of a folder or glob in natural order.
    Subfolders that hold ``predictions.jsonl`` are an earlier call's results, and are left out. A file named
    by itself is taken whatever its suffix.

    Raises:
        UsageError: A path or glob names nothing.
    """
    found: dict[Path, Path] = {}
    for given in map(str, paths):
        path = Path(given)
        if path.is_dir():
            inside = _images_under(path)
        elif path.exists():
            inside = [path]
        else:
            matches = (Path(p) for p in glob.glob(given, recursive=True))  # noqa: PTH207 (absolute ones too)
            inside = [p for p in matches if _is_image(p)]
        if not inside:
            raise UsageError(
                f"{given} names no image.",
                f"a file, a folder or a glob of {', '.join(SUFFIXES)} files",
                "Check the path; folders are searched to any depth.",
            )
        for each in sorted(inside, key=_natural):
            found.setdefault(each.resolve(), each)
    return list(found.values())


def _images_under(folder: Path) -> list[Path]:
    images: list[Path] = []
    for place, inner, names in os.walk(folder):
        here = Path(place)
        inner[:] = [name for name in inner if not (here / name / LINES).exists()]
        images += [here / name for name in names if _is_image(here / name)]
    return images


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file()


def _natural(path: Path) -> list[tuple[int, int | str]]:
    """photo2 before photo10."""
    return [
        (0, int(part)) if part.isdecimal() else (1, part.lower()) for part in re.split(r"(\d+)", str(path))
    ]
