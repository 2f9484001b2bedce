"""Groups of images by what makes them hard: raw values → levels → a score with its interval in each.

Cut points are fixed and the same for every data set, so that tables can be compared; they were set while
looking at training images of ISIC 2016 alone. Raw values are saved per image, so other cuts need no new run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SMALL = 30
"""Levels with fewer images are marked: their intervals are wide and their means say little."""
ABSENT = "not measurable"


@dataclass(frozen=True)
class Stratum:
    """A way to group images by one column of per_image.csv."""

    name: str
    column: str
    label: str
    """For people."""
    note: str
    """What the value is, and what it is not."""
    cuts: tuple[float, ...] = ()
    """Ascending; a value equal to a cut belongs above it. None: the column holds the levels themselves."""
    levels: tuple[str, ...] = ()
    """One more than cuts."""

    def level(self, value: str) -> str:
        """The level of one cell of the column."""
        if not self.cuts:
            return value or ABSENT
        if value in ("", "nan"):
            return ABSENT
        return self.levels[int(np.searchsorted(self.cuts, float(value), side="right"))]


STRATA = (
    Stratum("diagnosis", "diagnosis", "Diagnosis", "as the data set's manifest gives it"),
    Stratum(
        "lesion_size", "lesion_fraction", "Lesion size", "true lesion area as a share of the picture",
        (0.10, 0.30), ("small (below 10 %)", "medium (10–30 %)", "large (30 % and more)"),
    ),
    Stratum(
        "contrast", "contrast", "Lesion-to-skin contrast",
        "CIELAB ΔE between the median lesion and the median skin in a ring around it",
        (20.0, 40.0), ("low (ΔE below 20)", "medium (20–40)", "high (40 and more)"),
    ),
    Stratum(
        "skin_tone", "ita", "Estimated skin tone (ITA, a proxy)",
        "individual typology angle of the skin around the lesion (Chardon 1991), from uncalibrated pictures: "
        "light and white balance move it; a proxy, not a skin type. Not measurable where the skin shows no "
        "yellow at all",
        (-30.0, 10.0, 28.0, 41.0, 55.0),
        ("dark (below −30°)", "brown (−30–10°)", "tan (10–28°)", "intermediate (28–41°)", "light (41–55°)",
         "very light (55° and more)"),
    ),
    Stratum(
        "hair", "hair", "Hair (estimated)",
        "share of the pixels outside the lesion that are thin and dark (black-hat): hairs, also rulers, ink",
        (0.01, 0.03), ("none or little (below 1 %)", "some (1–3 %)", "much (3 % and more)"),
    ),
    Stratum(
        "border", "border", "Cut by the picture's border", "whether true lesion pixels lie on the frame",
        (1e-9,), ("inside the picture", "cut by the border"),
    ),
)  # fmt: skip
"""In the order of tables."""


def grouped(stratum: Stratum, rows: Sequence[Mapping[str, str]]) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """(level, places in ``rows``) of each level that occurs, in the stratum's order, then what is unmeasured.

    Args:
        stratum: Which.
        rows: Of per_image.csv; a missing column counts as not measurable.
    """
    found = np.array([stratum.level(row.get(stratum.column, "")) for row in rows])
    order = [*(stratum.levels or sorted({*found.tolist()} - {ABSENT})), ABSENT]
    for level in order:
        places = np.flatnonzero(found == level)
        if len(places):
            yield level, places
