"""per_image.csv: what is saved of each image, so that every mean, test and stratum can be made from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dermdistill.core.errors import DataError
from dermdistill.core.files import read_csv, write_csv
from dermdistill.metrics.overlap import SCORES, Counts, Values, scores

COUNTS = ("tp", "fp", "fn", "tn")
OUTLINES = ("boundary_f", "hd95")
AGREEMENT = ("agreement_dice", "agreement_difference")
APPEARANCE = ("lesion_fraction", "contrast", "ita", "hair", "border")
MEASURES = (*SCORES, *OUTLINES)
"""What is averaged over images; all in 0–1 but hd95, in percent of the diagonal (lower is better)."""
COLUMNS = ["image_id", "diagnosis", *COUNTS, *SCORES, *OUTLINES, *AGREEMENT, *APPEARANCE]


@dataclass(frozen=True, eq=False)
class PerImage:
    """n images of one split, scored by one run."""

    image_id: list[str]
    diagnosis: list[str]
    counts: Counts
    more: dict[str, Values]
    """The columns of OUTLINES, AGREEMENT and APPEARANCE, float64 [n]; NaN where not measurable."""

    def __len__(self) -> int:
        return len(self.image_id)

    def measures(self) -> dict[str, Values]:
        """Every one of MEASURES, float64 [n], the scores computed anew from the counts."""
        return {**scores(self.counts), **{name: self.more[name] for name in OUTLINES}}

    def rows(self) -> list[dict[str, str]]:
        """As in the file; an empty cell where a value is not measurable."""
        measured = {**scores(self.counts), **self.more}
        table = []
        for i, (name, diagnosis) in enumerate(zip(self.image_id, self.diagnosis, strict=True)):
            row = {"image_id": name, "diagnosis": diagnosis}
            row |= {key: str(int(getattr(self.counts, key)[i])) for key in COUNTS}
            for key, values in measured.items():
                row[key] = "" if np.isnan(values[i]) else f"{values[i]:.6f}"
            table.append(row)
        return table

    def write(self, path: Path) -> None:
        """Write as CSV, atomically."""
        write_csv(path, self.rows(), COLUMNS)


def read_per_image(path: Path) -> PerImage:
    """Read what `PerImage.write` wrote.

    Raises:
        DataError: Missing, empty, or without the columns of this version.
    """
    table = read_csv(path)
    if not table:
        raise DataError(f"{path} has no rows.", "a row per image", "Evaluate the run again.")
    try:
        counts = Counts(*(np.array([int(row[key]) for row in table], dtype=np.int64) for key in COUNTS))
        more = {
            key: np.array([float(row[key] or "nan") for row in table])
            for key in (*OUTLINES, *AGREEMENT, *APPEARANCE)
        }
        return PerImage([row["image_id"] for row in table], [row["diagnosis"] for row in table], counts, more)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read: {error!r}.",
            f"the columns {', '.join(COLUMNS)}",
            "Evaluate the run again.",
        ) from None
