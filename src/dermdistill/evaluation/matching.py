"""Which mask, picture and prediction belong together: by their names, as `prepare` has it.

A mask is called like its picture, perhaps with _segmentation, _mask or _lesion after it. Several masks of one
picture lie in a folder for each person (masks/a, masks/b), or have the person's name at the end
(IMAGE_Segmentation_1.png, IMAGE_annotator_b.png).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dermdistill.core.errors import DataError
from dermdistill.core.files import read_csv
from dermdistill.data.prediction_files import PREDICTION_SUFFIXES, files_by_name, list_files
from dermdistill.data.prepare.pairing import listed, mask_stem
from dermdistill.data.prepare.tables import ID_COLUMNS
from dermdistill.evaluation.inter_rater import SEVERAL
from dermdistill.imaging.find import SUFFIXES, name_key

logger = logging.getLogger(__name__)

ONE = ""
"""The rater's name where a picture has one mask."""


@dataclass(frozen=True)
class Sample:
    """What belongs to one picture."""

    image_id: str
    masks: dict[str, Path]
    """True masks by rater; the rater is ONE where there is one mask."""
    image: Path | None = None
    prediction: Path | None = None
    labels: dict[str, str] = field(default_factory=dict)
    """The manifest's columns."""


@dataclass(frozen=True)
class Matched:
    """The samples, by id, and what has no partner."""

    samples: list[Sample]
    images_without_mask: list[str]
    masks_without_image: list[str]
    predictions_without_mask: list[str]

    def partnerless(self) -> dict[str, list[str]]:
        """What has no partner, by what it lacks; only what there is."""
        found = {
            "pictures without a mask": self.images_without_mask,
            "masks without a picture": self.masks_without_image,
            "predictions without a mask": self.predictions_without_mask,
        }
        return {reason: names for reason, names in found.items() if names}


def match(
    masks: Path, *, images: Path | None = None, predictions: Path | None = None, manifest: Path | None = None
) -> Matched:
    """Find what belongs together.

    Args:
        masks: Folder of the true masks, searched to any depth.
        images: Folder of the pictures; None: there are none.
        predictions: Folder of masks or maps that a tool made; None: there is none.
        manifest: CSV with an id column, whose other columns become labels.

    Raises:
        DataError: A folder is missing or empty, names are ambiguous, or nothing belongs together.
    """
    true = _true_masks(masks, apart=images is not None and images.resolve() == masks.resolve())
    pictures = files_by_name(images, SUFFIXES, (masks, predictions)) if images else None
    if pictures is not None and images is not None and images.resolve() == masks.resolve():
        pictures = {name: path for name, path in pictures.items() if mask_stem(path.stem) == path.stem}
    made = files_by_name(predictions, PREDICTION_SUFFIXES, (masks, images)) if predictions else None
    names = sorted(true if pictures is None else true.keys() & pictures.keys())
    for folder, others, what in ((images, pictures, "pictures"), (predictions, made, "predictions")):
        if others is not None and not (true.keys() & others.keys()):
            raise DataError(
                f"None of the {what} in {folder} ({listed(list(others), 3) or 'none'}) has the name "
                "of a mask "
                f"in {masks} ({listed(list(true), 3)}).",
                "masks called like their picture, with _Segmentation, _mask, _lesion or nothing after it",
                "Check the two folders.",
            )
    labels = _labels(manifest, set(names)) if manifest else {}
    samples = [
        Sample(
            name,
            true[name],
            None if pictures is None else pictures[name],
            None if made is None else made.get(name),
            labels.get(name, {}),
        )
        for name in names
    ]
    return Matched(
        _with_proper_names(samples),
        sorted(pictures.keys() - true.keys()) if pictures is not None else [],
        sorted(true.keys() - pictures.keys()) if pictures is not None else [],
        sorted(made.keys() - true.keys()) if made is not None else [],
    )


def _with_proper_names(samples: Sequence[Sample]) -> list[Sample]:
    """The pictures' own spelling as ids, where there are pictures; else that of the first mask."""
    found = []
    for sample in samples:
        path = sample.image or next(iter(sample.masks.values()))
        stem = path.stem
        if sample.image is None:
            several = SEVERAL.match(stem)
            stem = several["image"] if several else mask_stem(stem)
        found.append(Sample(stem, sample.masks, sample.image, sample.prediction, sample.labels))
    return found


def _true_masks(folder: Path, *, apart: bool) -> dict[str, dict[str, Path]]:
    """Masks by picture and rater; ``apart``: pictures lie among them, which have no ending."""
    by_name: dict[str, list[tuple[str, Path]]] = {}
    for path in list_files(folder, SUFFIXES):
        several = SEVERAL.match(path.stem)
        if apart and not several and mask_stem(path.stem) == path.stem:
            continue
        name = name_key(several["image"] if several else mask_stem(path.stem))
        within = path.relative_to(folder).parts
        rater = several["person"] if several else within[0] if len(within) > 1 else ONE
        by_name.setdefault(name, []).append((rater, path))
    if not by_name:
        raise DataError(f"There are no masks in {folder}.", f"files {', '.join(SUFFIXES)}", "Check the path.")
    found: dict[str, dict[str, Path]] = {}
    problems = []
    for name, these in by_name.items():
        raters = dict(these)
        if len(raters) < len(these):
            problems.append(f"{name} has {len(these)} masks: {listed([path for _, path in these])}")
        found[name] = raters if len(raters) > 1 else {ONE: these[0][1]}
    if problems:
        raise DataError(
            f"Names are ambiguous: {listed(problems, 3)}",
            "one mask for each picture and person",
            "Rename some, or put each person's masks into a folder of their own.",
        )
    return found


def _labels(manifest: Path, names: set[str]) -> dict[str, dict[str, str]]:
    rows = read_csv(manifest)
    column = next((name for name in ID_COLUMNS if rows and name in rows[0]), None)
    if column is None:
        raise DataError(
            f"{manifest} has {'the columns ' + ', '.join(map(str, rows[0])) if rows else 'no rows'}.",
            f"one of {', '.join(ID_COLUMNS)}, and any other columns",
            "Rename the column that holds the ids.",
        )
    found: dict[str, dict[str, str]] = {}
    for row in rows:
        given = (row[column] or "").strip()
        name = name_key(given) if name_key(given) in names else name_key(Path(given).stem)
        found[name] = {key: (value or "").strip() for key, value in row.items() if key and key != column}
    if not (names & found.keys()):
        raise DataError(
            f"None of the ids in {manifest} ({listed([row[column] for row in rows], 3)}) is one of "
            "the pictures' "
            f"({listed(sorted(names), 3)}).",
            "ids like the pictures' names",
            "Check the id column, or leave --manifest out.",
        )
    empty: Mapping[str, str] = dict.fromkeys(next(iter(found.values())), "")
    return {name: found.get(name, dict(empty)) for name in names}
