"""Tables as people write them: other separators, stray blanks, ids with paths or without their zeros."""

from __future__ import annotations

import csv
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection
from pathlib import Path, PurePosixPath

from dermdistill.core.errors import DataError
from dermdistill.core.files import unguard_cell
from dermdistill.imaging.find import SUFFIXES, name_key

SEPARATORS = (",", ";", "\t", "|")
NOT_GIVEN = {"", "na", "n/a", "#n/a", "nan", "null", "none", "-", "--"}
"""Cells that mean that nothing is known, in small letters."""


def read_people_table(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Read a table with a header, whatever separates its cells.

    The separator is that of a first line ``sep=;``, else the one that the header has most of. Blanks around
    cells are cut off, rows of empty cells are left out. UTF-8 and, with its mark, UTF-16 are read.

    Args:
        path: The file.

    Returns:
        The header, and the rows by it; a cell that a row lacks is empty.

    Raises:
        DataError: The file is missing, no text, has no rows, or two columns of one name.
    """
    try:
        raw = path.read_bytes()
        text = raw.decode("utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except FileNotFoundError:
        raise DataError(
            f"{path} does not exist.", "a CSV file with a header", "Check the path of the table."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} cannot be read as CSV: {error}.",
            "a CSV file in UTF-8 with a header",
            "Save it as CSV in UTF-8.",
        ) from error
    lines = text.splitlines(keepends=True)
    separator = None
    if lines and (line := re.fullmatch(r'"?sep=(.)"?\s*', lines[0], flags=re.IGNORECASE)):
        separator = line[1]
        lines = lines[1:]
    if separator is None:
        header = next((line for line in lines if line.strip()), "")
        separator = max(SEPARATORS, key=header.count)
    try:
        cells = [
            [unguard_cell(cell.strip()) for cell in row] for row in csv.reader(lines, delimiter=separator)
        ]
    except csv.Error as error:
        raise DataError(
            f"{path} cannot be read as CSV: {error}.",
            "a CSV file in UTF-8 with a header",
            "Save it as CSV in UTF-8.",
        ) from error
    cells = [row for row in cells if any(row)]
    if len(cells) < 2:
        raise DataError(
            f"{path} has no rows.", "a header and one row per image", "Add the rows, or leave the table out."
        )
    columns = cells[0]
    while columns and not columns[-1]:
        columns.pop()
    if twice := [name for name, count in Counter(map(fold, columns)).items() if count > 1 and name]:
        raise DataError(
            f"{path} has several columns called {', '.join(twice)}.",
            "each name once, whatever its case",
            "Rename or remove one of them.",
        )
    return columns, [
        dict(zip(columns, row + [""] * (len(columns) - len(row)), strict=False)) for row in cells[1:]
    ]


def fold(name: str) -> str:
    """A column's name for comparison: without case and outer blanks, blanks and hyphens as underscores."""
    return re.sub(r"[\s-]+", "_", name.strip().casefold())


def match_ids(table_ids: Collection[str], file_ids: Collection[str]) -> dict[str, str]:
    """Which of the files' ids each id of a table means.

    As it is written; else without regard to case; else without folders and the file's ending; else without
    leading zeros. A looser reading counts only where it fits one id on each side.

    Args:
        table_ids: Ids of the table.
        file_ids: Ids of the files.

    Returns:
        File ids by those of the table; ids that mean none are absent.

    Examples:
        >>> match_ids(["IMG_1", "images/img_002.jpg", "x"], ["IMG_1", "IMG_002"])
        {'IMG_1': 'IMG_1', 'images/img_002.jpg': 'IMG_002'}
    """
    matched = {name: name for name in table_ids if name in file_ids}
    for reading in (name_key, _bare_key, _zeroless_key):
        free = set(file_ids) - set(matched.values())
        unmatched = [name for name in table_ids if name not in matched]
        files, ids = _by(reading, free), _by(reading, unmatched)
        matched |= {
            names[0]: files[key][0]
            for key, names in ids.items()
            if len(names) == 1 and len(files.get(key, ())) == 1
        }
    return matched


def _by(reading: Callable[[str], str], names: Collection[str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[reading(name)].append(name)
    return groups


def _bare_key(name: str) -> str:
    bare = PurePosixPath(name.replace("\\", "/"))
    return name_key(bare.stem if bare.suffix.lower() in SUFFIXES else bare.name)


def _zeroless_key(name: str) -> str:
    return re.sub(r"0*(\d+)", r"\1", _bare_key(name))
