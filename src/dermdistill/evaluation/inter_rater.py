"""Inter-rater agreement: how well people agree with each other on the same kind of images.

A model above it has learnt one annotator's habits as much as lesions; a table without it invites the wrong
conclusion.
"""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dermdistill.core.errors import DataError, UsageError
from dermdistill.core.files import read_csv
from dermdistill.imaging import read_mask
from dermdistill.imaging.find import list_folder
from dermdistill.metrics.intervals import Interval, mean_interval
from dermdistill.metrics.overlap import Counts, count, scores

SEVERAL = re.compile(r"^(?P<image>.+?)_(?:segmentation|mask|annotator)_?(?P<person>[^_]+)$", re.IGNORECASE)


@dataclass(frozen=True)
class InterRaterAgreement:
    """Dice of people against people, in [0, 1]."""

    label: str
    mean: float
    low: float
    high: float
    n: int
    """Images."""
    source: str
    comparable: bool = True
    """Whether the models were scored on masks and images of the same kind."""
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


PUBLISHED = {
    "isic2016": InterRaterAgreement(
        "human against human, ISIC 2016", 0.8685, 0.856, 0.880, 167,
        "computed from the public masks: 167 of the 379 test images of ISIC 2016 have 2 to 5 of them",
    )
}  # fmt: skip
"""Known figures, by the catalogue's name of the data set."""


def find_agreement(source: str | None, info: dict[str, Any]) -> InterRaterAgreement | None:
    """Return the agreement for a data set: what the user names, or the published one of a catalogue's set.

    Args:
        source: A name in PUBLISHED, a CSV (`read_agreement`), a folder with several masks per image
            (`agreement_of_masks`), "none", or None: the published figure where there is one.
        info: The data set's dataset.json.

    Returns:
        The agreement; None where there is none, or none is asked for.

    Raises:
        UsageError: No such name or path.
    """
    catalogue = str(info.get("source", {}).get("catalogue", ""))
    if source is None:
        return PUBLISHED.get(catalogue)
    if source == "none":
        return None
    if source in PUBLISHED:
        published = PUBLISHED[source]
        if catalogue == source:
            return published
        other = (
            f"not comparable: {info.get('title') or info.get('name')} is not {source}, its masks are others"
        )
        return InterRaterAgreement(**{**asdict(published), "comparable": False, "note": other})
    path = Path(source)
    if path.is_dir():
        return agreement_of_masks(path)
    if path.is_file():
        return read_agreement(path)
    raise UsageError(
        f"There is no human agreement {source!r}.",
        f"one of {', '.join(PUBLISHED)}, none, a CSV file, or a folder with several masks per image",
        "Name one of these, or leave --human out.",
    )


def read_agreement(path: Path) -> InterRaterAgreement:
    """Read a CSV: one row per image (columns image_id, dice), or one row in all (mean, low, high, n).

    Dice may be in 0–1 or, when any value is above 1, in percent. A summary row may name ``label`` and
    ``source``. Several rows of one image (pairs of people) are averaged first.

    Args:
        path: The CSV.

    Returns:
        The mean over images with its interval, in [0, 1].

    Raises:
        DataError: Neither layout, or values that are no Dice.
    """
    rows = read_csv(path)
    expected = "columns image_id, dice (a row per image), or mean, low, high, n (one row)"
    try:
        if rows and "dice" in rows[0] and "image_id" in rows[0]:
            by_image: dict[str, list[float]] = defaultdict(list)
            for row in rows:
                by_image[row["image_id"]].append(float(row["dice"]))
            values = np.array([np.mean(of_one) for of_one in by_image.values()])
            values = values / 100 if values.max() > 1 else values
            _check(path, values.tolist())
            interval = mean_interval(values)
            return _of_interval(interval, path.name)
        if len(rows) == 1:
            row = rows[0]
            mean, low, high = (float(row[key]) for key in ("mean", "low", "high"))
            unit = 100 if max(mean, low, high) > 1 else 1
            _check(path, [mean / unit, low / unit, high / unit])
            label, source = row.get("label") or "human against human", row.get("source") or path.name
            return InterRaterAgreement(label, mean / unit, low / unit, high / unit, int(row["n"]), source)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path} is no table of human agreement: {error!r}.",
            expected,
            "Correct the table, or leave --human out.",
        ) from None
    raise DataError(
        f"{path} is no table of human agreement ({len(rows)} rows).",
        expected,
        "Correct the table, or leave --human out.",
    )


def agreement_of_masks(folder: Path) -> InterRaterAgreement:
    """Compare the masks of a folder with several per image: ``IMAGE_Segmentation_1.png``, ``…_2.png`` …

    Per image the mean Dice over all pairs of its masks; then the mean over images with its interval.
    ``_mask_`` and ``_annotator_`` serve as well as ``_Segmentation_``. Images with one mask are left out.
    What the folder holds, `imaging.find.list_folder` says.

    Args:
        folder: It is searched to any depth.

    Returns:
        The mean over images with its interval, in [0, 1].

    Raises:
        DataError: No image has two masks, or two masks of an image differ in size.
    """
    by_image: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(list_folder(folder).images):
        if match := SEVERAL.match(path.stem):
            by_image[match["image"]].append(path)
    several = {name: paths for name, paths in by_image.items() if len(paths) > 1}
    if not several:
        raise DataError(
            f"No image in {folder} has two masks.",
            "files such as IMAGE_Segmentation_1.png, IMAGE_Segmentation_2.png",
            "Give the folder with several masks per image, or leave --human out.",
        )
    values = np.array([_mean_pair_dice(paths) for paths in several.values()])
    interval = mean_interval(values)
    people = sum(map(len, several.values()))
    source = f"{people} masks of {len(several)} images in {folder.name}"
    return _of_interval(interval, source)


def _of_interval(interval: Interval, source: str) -> InterRaterAgreement:
    label = "human against human"
    return InterRaterAgreement(label, interval.mean, interval.low, interval.high, interval.n, source)


def _mean_pair_dice(paths: list[Path]) -> float:
    masks = [read_mask(path)[0] for path in paths]
    if len({mask.shape for mask in masks}) > 1:
        sizes = ", ".join(f"{p.name} {m.shape[1]}×{m.shape[0]}" for p, m in zip(paths, masks, strict=True))
        raise DataError(
            f"Masks of one image differ in size: {sizes}.",
            "masks of one size",
            "Bring the masks of an image to one size, that of the image.",
        )
    pairs = np.array([count(a, b) for a, b in itertools.combinations(masks, 2)], dtype=np.int64)
    return float(scores(Counts(*pairs.T))["dice"].mean())


def _check(path: Path, values: list[float]) -> None:
    if wrong := [v for v in values if not 0 <= v <= 1]:
        raise DataError(
            f"{path} holds {wrong[0]} as Dice.", "values in 0–1, or in 0–100 throughout", "Correct the value."
        )
