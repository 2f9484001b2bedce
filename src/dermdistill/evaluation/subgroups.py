"""Groups of images by what makes them hard: raw values → levels → scores with their intervals in each.

Cut points are fixed and the same for every data set, so that tables can be compared; they were set while
looking at training images of ISIC 2016 alone. Raw values are saved per image, so other cuts need no new run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dermdistill.evaluation.per_image import PerImage
from dermdistill.metrics.intervals import Interval, Values, mean_interval

SMALL = 30
"""Levels with fewer images are marked: their intervals are wide and their means say little."""
ABSENT = "not measurable"
NOT_KNOWN = "not known"
"""ABSENT of what a manifest says in words."""


@dataclass(frozen=True)
class Subgroup:
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
    optional: bool = False
    """Whether it is passed over where no image has a value."""

    @property
    def absent(self) -> str:
        """The level of images that have no value."""
        return ABSENT if self.cuts else NOT_KNOWN

    def level(self, value: str | float) -> str:
        """Return the level of one cell of the column; a number is taken with the file's six decimals."""
        if not self.cuts:
            return (f"{value:g}" if isinstance(value, float) else value) or self.absent
        if value == "" or np.isnan(float(value)):
            return ABSENT
        return self.levels[int(np.searchsorted(self.cuts, round(float(value), 6), side="right"))]


SUBGROUPS = (
    Subgroup("diagnosis", "diagnosis", "Diagnosis", "as the data set's manifest gives it"),
    Subgroup("style", "style", "Style of the mask", "how it was drawn, as the manifest says", optional=True),
    Subgroup("annotator", "annotator", "Annotator", "who drew the mask, as the manifest says", optional=True),
    Subgroup(
        "lesion_size", "lesion_fraction", "Lesion size", "true lesion area as a share of the picture",
        (0.10, 0.30), ("small (below 10 %)", "medium (10–30 %)", "large (30 % and more)"),
    ),
    Subgroup(
        "contrast", "contrast", "Lesion-to-skin contrast",
        "CIELAB ΔE between the median lesion and the median skin in a ring around it",
        (20.0, 40.0), ("low (ΔE below 20)", "medium (20–40)", "high (40 and more)"),
    ),
    Subgroup(
        "skin_tone", "ita", "Estimated skin tone (ITA, a proxy)",
        "individual typology angle of the skin around the lesion (Chardon 1991), from uncalibrated pictures: "
        "light and white balance move it; a proxy, not a skin type. Not measurable where the skin shows no "
        "yellow at all",
        (-30.0, 10.0, 28.0, 41.0, 55.0),
        ("dark (below −30°)", "brown (−30–10°)", "tan (10–28°)", "intermediate (28–41°)", "light (41–55°)",
         "very light (55° and more)"),
    ),
    Subgroup(
        "hair", "hair", "Hair (estimated)",
        "share of the pixels outside the lesion that are thin and dark (black-hat): hairs, also rulers, ink",
        (0.01, 0.03), ("none or little (below 1 %)", "some (1–3 %)", "much (3 % and more)"),
    ),
    Subgroup(
        "border", "border", "Cut by the picture's border", "whether true lesion pixels lie on the frame",
        (1e-9,), ("inside the picture", "cut by the border"),
    ),
)  # fmt: skip
"""In the order of tables."""


def split_by(subgroup: Subgroup, images: PerImage) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """Yield (level, indices of its images) of each level that occurs, in order, then what is unmeasured.

    Args:
        subgroup: By what to group; a column that the table lacks counts as not measurable.
        images: The scored images.
    """
    column = subgroup.column
    cells: Sequence[str | float] = (
        images.columns[column].tolist() if column in images else images.labels.get(column, [""] * len(images))
    )
    levels = np.array([subgroup.level(cell) for cell in cells])
    order = [*(subgroup.levels or sorted({*levels.tolist()} - {subgroup.absent})), subgroup.absent]
    for level in order:
        indices = np.flatnonzero(levels == level)
        if len(indices):
            yield level, indices


def by_subgroup(
    images: PerImage,
    values: Mapping[str, Values],
    subgroups: Sequence[Subgroup] = SUBGROUPS,
    interval: Callable[[Values], Interval] = mean_interval,
) -> dict[str, dict[str, Any]]:
    """Mean and interval of some values in each level of each subgroup, as plain values for a JSON file.

    Args:
        images: The scored images, which say what belongs to which level.
        values: What is averaged, float64 [n] by the key that its interval gets.
        subgroups: Ways to group.
        interval: Makes the interval: `mean_interval` of scores, `difference_interval` of differences.

    Returns:
        By the subgroup's name: its label, its note, and its levels, each with n and whether it is small.
    """
    found: dict[str, dict[str, Any]] = {}
    for subgroup in subgroups:
        if subgroup.optional and not any(images.labels.get(subgroup.column, ())):
            continue
        levels = [
            {
                "level": level,
                "n": len(indices),
                "small": len(indices) < SMALL,
                **{key: dataclasses.asdict(interval(v[indices])) for key, v in values.items()},
            }
            for level, indices in split_by(subgroup, images)
        ]
        found[subgroup.name] = {"label": subgroup.label, "note": subgroup.note, "levels": levels}
    return found
