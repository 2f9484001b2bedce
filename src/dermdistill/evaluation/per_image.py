"""The table per_image.csv: what is saved of each image, so that means, tests and subgroups follow from it.

It needs numpy alone, so that whoever only reads results opens neither a network nor a plotting library.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dermdistill.core.errors import DataError
from dermdistill.core.files import read_csv, write_csv
from dermdistill.metrics.intervals import Values
from dermdistill.metrics.overlap import SCORES, Counts, scores

COUNTS = ("tp", "fp", "fn", "tn")
OUTLINES = ("boundary_f", "hd95")
AGREEMENT = ("agreement_dice", "agreement_difference")
APPEARANCE = ("lesion_fraction", "contrast", "ita", "hair", "border")
MEASURES = (*SCORES, *OUTLINES)
"""What is averaged over images; all in 0–1 but hd95, in percent of the diagonal (lower is better)."""
COLUMNS = ["image_id", "diagnosis", *COUNTS, *SCORES, *OUTLINES, *AGREEMENT, *APPEARANCE]
"""The columns that an evaluation of a run on prepared data writes, in this order."""
TEXT = ("image_id", "diagnosis", "annotator", "style")
"""Columns that are text even where every cell of them looks like a number."""

_WORDS = {"true": 1.0, "false": 0.0, "": math.nan}


@dataclass(frozen=True, eq=False)
class PerImage:
    """What is known of n images, one value per image and column.

    Over several seeds it holds each image's mean. It has no counts then, as the mean of counts would give
    other scores than the mean of scores.

    Examples:
        >>> import numpy as np
        >>> counts = Counts(*np.array([[80, 10, 10, 900], [0, 0, 0, 1000]]).T)
        >>> images = PerImage.from_counts(["a", "b"], counts, labels={"diagnosis": ["nevus", ""]})
        >>> images["dice"].round(3).tolist()
        [0.889, 1.0]
        >>> images.labels["diagnosis"]
        ['nevus', '']
    """

    image_id: list[str]
    columns: dict[str, Values]
    """Numbers, float64 [n] by the name of the column; NaN where a value is not measurable."""
    labels: dict[str, list[str]] = field(default_factory=dict)
    """Text by the name of the column (``diagnosis``, or a manifest's own), "" where there is none."""

    @classmethod
    def from_counts(
        cls,
        image_id: Sequence[str],
        counts: Counts,
        *,
        measured: Mapping[str, Values] | None = None,
        labels: Mapping[str, list[str]] | None = None,
    ) -> PerImage:
        """Make the table of the counts of pixels, with every overlap score computed from them.

        Args:
            image_id: Of each image, n names.
            counts: Of each image.
            measured: Further columns of numbers, float64 [n] each.
            labels: Columns of text, n each.
        """
        counted = {name: np.asarray(getattr(counts, name), dtype=np.float64) for name in COUNTS}
        columns = {**counted, **scores(counts), **(measured or {})}
        return cls(list(image_id), columns, dict(labels or {}))

    def __len__(self) -> int:
        return len(self.image_id)

    def __getitem__(self, column: str) -> Values:
        """The values of a column of numbers, float64 [n]."""
        return self.columns[column]

    def __contains__(self, column: str) -> bool:
        return column in self.columns

    @property
    def counts(self) -> Counts:
        """The counts of pixels.

        Raises:
            KeyError: The table has none.
        """
        return Counts(*(np.asarray(self.columns[name], dtype=np.int64) for name in COUNTS))

    def measures(self) -> dict[str, Values]:
        """Return those of MEASURES that the table holds, float64 [n] each."""
        return {name: self.columns[name] for name in MEASURES if name in self.columns}

    def rows(self) -> Iterator[dict[str, str]]:
        """Yield the rows as in the file: six decimals, an empty cell where a value is not measurable."""
        for i, name in enumerate(self.image_id):
            row = {"image_id": name, **{key: texts[i] for key, texts in self.labels.items()}}
            for key, values in self.columns.items():
                row[key] = _text(key, float(values[i]))
            yield row

    def write(self, path: Path) -> None:
        """Write the table as CSV, atomically."""
        write_csv(path, self.rows(), ["image_id", *self.labels, *self.columns])


def bounds_of(measure: str) -> tuple[float, float]:
    """Return the smallest and the largest value that one of MEASURES can take."""
    return (0.0, 100.0) if measure == "hd95" else (0.0, 1.0)


def read_per_image(path: Path, required: Sequence[str] = ("dice",)) -> PerImage:
    """Read what `PerImage.write` wrote, or another table with an image_id and the required columns.

    A column whose every cell is a number, true, false or empty becomes numbers; every other one is text.
    Where the counts of pixels are there, the scores are computed from them anew, without the file's rounding.

    Args:
        path: The CSV file.
        required: Columns of numbers that the caller needs.

    Raises:
        DataError: The file is missing or empty, lacks a required column, or holds text in one of numbers.
    """
    table = read_csv(path)
    missing = [name for name in ("image_id", *required) if table and name not in table[0]]
    if not table or missing:
        raise DataError(
            f"{path} has {'no column ' + ', '.join(missing) if table else 'no rows'}.",
            f"one row per image with image_id, {', '.join(required)}",
            "Run dermdistill evaluate again.",
        )
    columns: dict[str, Values] = {}
    labels: dict[str, list[str]] = {}
    for name in table[0]:
        cells = [row[name] or "" for row in table]
        numbers = None if name in TEXT else as_numbers(cells)
        if numbers is not None:
            columns[name] = numbers
        elif name in COLUMNS and name not in TEXT:
            raise DataError(
                f"{path}: the column {name} holds something that is no number.",
                "numbers, or empty cells where there is none",
                "Run dermdistill evaluate again.",
            )
        elif name != "image_id":
            labels[name] = cells
    if all(name in columns and np.isfinite(columns[name]).all() for name in COUNTS):
        columns |= scores(Counts(*(columns[name].astype(np.int64) for name in COUNTS)))
    return PerImage([row["image_id"] for row in table], columns, labels)


def as_numbers(cells: Sequence[str | None]) -> Values | None:
    """Float64 [n] with NaN for empty cells and 1 and 0 for true and false; None when a cell is no number.

    Examples:
        >>> as_numbers(["1.5", "", "true"]).tolist()
        [1.5, nan, 1.0]
        >>> as_numbers(["1.5", "nevus"]) is None
        True
    """
    texts = [(cell or "").strip() for cell in cells]
    try:
        return np.array([_WORDS[t.lower()] if t.lower() in _WORDS else float(t) for t in texts])
    except ValueError:
        return None


def _text(column: str, value: float) -> str:
    if math.isnan(value):
        return ""
    return str(int(value)) if column in COUNTS else f"{value:.6f}"
