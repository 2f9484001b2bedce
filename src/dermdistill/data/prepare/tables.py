"""Tables that come with images: a manifest of the user's own, and the labels of ISIC 2016 and PH2.

A manifest may have any of these columns, whatever their case; others are named and passed over, but for one
whose cells are splits: that is refused, since to pass it over would mix training and test.

- ``image_id`` (also ``image``, ``image_name``, ``isic_id``): required; a file ending is cut off.
- ``split``, or one column ending in ``_split``: train, val, test; rows where it is empty are left out.
- ``diagnosis`` (also ``dx``), or one column ending in ``_diagnosis``.
- ``group`` (else ``patient_id``, else ``lesion_id``): images of one group stay in one split. Where a cell is
  empty, the next of these columns counts.
- ``annotator`` and ``style`` (or one column ending in ``_annotator``, ``_style``): who drew the mask, and
  how; scores are then given by each.
- ``native_width`` and ``native_height`` are passed over: scores are given at the size of the mask file.
"""

from __future__ import annotations

import csv
import logging
import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dermdistill.core.errors import DataError, UsageError
from dermdistill.data.prepare.pairing import listed
from dermdistill.data.prepare.people_tables import NOT_GIVEN, fold, read_people_table
from dermdistill.imaging.find import SUFFIXES, printable

logger = logging.getLogger(__name__)

ID_COLUMNS = ("image_id", "image", "image_name", "isic_id")
DIAGNOSIS_COLUMNS = ("diagnosis", "dx")
GROUP_COLUMNS = ("group", "patient_id", "lesion_id")
PH2_DIAGNOSES = {"0": "common nevus", "1": "atypical nevus", "2": "melanoma"}
SPLIT_NAMES = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """What a manifest says about one image. An empty ``split``: it does not say."""

    split: str = ""
    diagnosis: str = ""
    group: str = ""
    annotator: str = ""
    style: str = ""


@dataclass(frozen=True)
class Table:
    """A manifest read: the entries by image id, the ids left out, and the columns used."""

    entries: dict[str, Entry]
    left_out: list[str]
    split_column: str | None
    diagnosis_column: str | None
    group_columns: list[str]
    annotator_column: str | None = None
    style_column: str | None = None
    unused_columns: list[str] = field(default_factory=list)


def read_table(
    path: Path,
    split_column: str | None = None,
    diagnosis_column: str | None = None,
    annotator_column: str | None = None,
    style_column: str | None = None,
) -> Table:
    """Read a manifest of the user's own.

    Args:
        path: CSV with a header.
        split_column: Which column gives the split; needed where several end in ``_split``.
        diagnosis_column: Which one gives the diagnosis. By default ``diagnosis``, else the column that goes
            with the split's (``isic2016_split``, ``isic2016_diagnosis``), else the only one ending so.
        annotator_column: Which one says who drew the mask; by default ``annotator``, else the only
            one ending in ``_annotator``.
        style_column: Which one says how it was drawn; by default ``style``, else the only one ending in
            ``_style``.

    Returns:
        The entries. Cells such as NA, null and - are read as empty, which is logged with their number.

    Raises:
        DataError: Not CSV, no ids, ids twice, a split for no image, or unknown split names (all of them
            listed).
        UsageError: A named column is not there, the choice between several is open, or a column that is not
            used holds splits.
    """
    columns, rows = read_people_table(path)
    by_name = {fold(column): column for column in columns}
    id_column = next((by_name[name] for name in ID_COLUMNS if name in by_name), None)
    if id_column is None:
        raise DataError(
            f"{path} has the columns {', '.join(columns)}.",
            f"one of {', '.join(ID_COLUMNS)}",
            "Rename the column that holds the ids.",
        )
    split_column = _choose(path, columns, split_column, ("split",), "_split", "--split-column")
    if diagnosis_column is None and split_column is not None:
        twin = fold(split_column).removesuffix("split") + "diagnosis"
        diagnosis_column = by_name.get(twin)
    diagnosis_column = _choose(
        path, columns, diagnosis_column, DIAGNOSIS_COLUMNS, "_diagnosis", "--diagnosis-column"
    )
    annotator_column = _choose(
        path, columns, annotator_column, ("annotator",), "_annotator", "--annotator-column"
    )
    style_column = _choose(path, columns, style_column, ("style",), "_style", "--style-column")
    group_columns = [by_name[name] for name in GROUP_COLUMNS if name in by_name]
    named = [split_column, diagnosis_column, annotator_column, style_column]
    used = [id_column, *named, *group_columns]
    unused = [column for column in columns if column and column not in used]
    _check_unused(path, rows, unused, split_column)
    not_given = Counter[str]()
    entries: dict[str, Entry] = {}
    left_out, doubles, unknown = [], [], []
    for row in rows:
        image_id = _bare(row[id_column])
        split, diagnosis, annotator, style = (_value(row, column, not_given) for column in named)
        split, group = split.lower(), _group(row, group_columns, not_given)
        if image_id in entries or not image_id:
            doubles.append(image_id or "(empty)")
        elif split_column is not None and not split:
            left_out.append(image_id)
        elif split and split not in SPLIT_NAMES:
            unknown.append(f"{image_id}: {split!r}")
        else:
            entries[image_id] = Entry(SPLIT_NAMES.get(split, ""), diagnosis, group, annotator, style)
    if doubles:
        raise DataError(
            f"{path} has ids that are empty or stand there twice: {listed(doubles)}",
            "each id once",
            "Fill in the empty ids and remove the double rows.",
        )
    if unknown:
        raise DataError(
            f"{path} has unknown splits in {split_column}: {listed(unknown)}",
            "train, val, test, or empty to leave the image out",
            "Correct these cells, or name another column with --split-column.",
        )
    if not entries:
        raise DataError(
            f"{path} has no split in any row: {split_column} is empty.",
            "train, val or test in the rows that are to be used",
            "Fill in the column, or name another one with --split-column.",
        )
    if not_given:
        counts = ", ".join(f"{count} in {column}" for column, count in not_given.items())
        logger.info("%s: cells such as NA are read as empty: %s.", path, counts)
    if unused:
        logger.info("%s: columns that are not used: %s.", path, ", ".join(map(printable, unused)))
    return Table(
        entries,
        left_out,
        split_column,
        diagnosis_column,
        group_columns,
        annotator_column,
        style_column,
        unused,
    )


def read_labels(path: Path) -> dict[str, str]:
    """Diagnoses of ISIC 2016 Part 3 (no header): ``benign`` or ``malignant``; the test file says 0 and 1.

    Raises:
        DataError: The file is something else (an error page saved under its name, for instance).
    """
    names = {"benign": "benign", "malignant": "malignant", "0": "benign", "1": "malignant"}
    labels = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            for line, cells in enumerate(csv.reader(stream), start=1):
                value = cells[1].strip().lower().removesuffix(".0") if len(cells) == 2 else ""
                if value not in names:
                    raise DataError(
                        f"{path}, line {line}: {cells}.",
                        "an image id, and benign, malignant, 0 or 1",
                        "Fetch the file again: this may be an error page saved under its name.",
                    )
                labels[cells[0].strip()] = names[value]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path} cannot be read as CSV: {error}.",
            "a CSV file of ids and diagnoses, in UTF-8",
            "Fetch the file again.",
        ) from error
    return labels


def read_ph2_labels(path: Path) -> dict[str, str]:
    """Diagnoses of ``PH2_dataset.txt``: ``common nevus``, ``atypical nevus`` or ``melanoma``, by image id.

    The file is a table for people: rows of cells between ``||``, the clinical diagnosis a number, with a key
    to the numbers below the table. Rows that do not read so are passed over.

    Raises:
        DataError: No row of it reads so.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error}.",
            "PH2_dataset.txt as it was unpacked",
            "Check the file, or remove it to prepare the images without diagnosis.",
        ) from error
    labels: dict[str, str] = {}
    column = 2  # of the clinical diagnosis, where no header says otherwise
    for line in lines:
        cells = [cell.strip() for cell in line.strip().removeprefix("||").split("||")]
        titles = [cell.lower() for cell in cells]
        if titles[0] == "name" and "clinical diagnosis" in titles:
            column = titles.index("clinical diagnosis")
        elif re.fullmatch(r"IMD\d+", cells[0]) and len(cells) > column and cells[column] in PH2_DIAGNOSES:
            labels[cells[0]] = PH2_DIAGNOSES[cells[column]]
    if not labels:
        raise DataError(
            f"{path} names no diagnosis.",
            "rows such as || IMD003 || … || 0 || …, the third cell 0, 1 or 2",
            "Fetch PH2 again, or remove this file to prepare the images without diagnosis.",
        )
    return labels


def _choose(
    path: Path, columns: list[str], named: str | None, usual: tuple[str, ...], ending: str, flag: str
) -> str | None:
    """The named column, else one of the usual ones, else the only one with the ending, else none."""
    by_name = {fold(column): column for column in columns}
    if named is not None:
        if fold(named) not in by_name:
            raise UsageError(
                f"{path} has no column {named!r}.",
                f"one of {', '.join(columns)}",
                "Correct the name of the column.",
            )
        return by_name[fold(named)]
    for name in usual:
        if name in by_name:
            return by_name[name]
    candidates = [column for name, column in by_name.items() if name.endswith(ending)]
    if len(candidates) > 1:
        raise UsageError(
            f"{path} has several columns for one thing: {', '.join(candidates)}.",
            "one",
            f"Choose with {flag}.",
        )
    return candidates[0] if candidates else None


def _check_unused(
    path: Path, rows: Sequence[Mapping[str, str]], unused: Sequence[str], split_column: str | None
) -> None:
    """Refuse a table whose split would be passed over in silence."""
    for column in unused:
        values = {row[column].lower() for row in rows} - NOT_GIVEN
        if split_column is None and values and values <= SPLIT_NAMES.keys():
            raise UsageError(
                f"{path} has a column {printable(column)!r} with the cells {', '.join(sorted(values))}, "
                "which would not be used.",
                "the split named, where there is one",
                f"Add --split-column {shlex.quote(column)}, or take the column out of the table.",
            )


def _value(row: Mapping[str, str], column: str | None, not_given: Counter[str]) -> str:
    """The cell, empty where it says that nothing is known (which is counted)."""
    value = row[column] if column is not None else ""
    if column is not None and value and value.lower() in NOT_GIVEN:
        not_given[column] += 1
        return ""
    return value


def _group(row: Mapping[str, str], columns: Sequence[str], not_given: Counter[str]) -> str:
    """The first column with a value; another than the first is named with it: 7 and 7 may be two things."""
    for i, column in enumerate(columns):
        if value := _value(row, column, not_given):
            return f"{column} {value}" if i else value
    return ""


def _bare(image_id: str) -> str:
    suffix = Path(image_id).suffix
    return image_id.removesuffix(suffix) if suffix.lower() in SUFFIXES else image_id
