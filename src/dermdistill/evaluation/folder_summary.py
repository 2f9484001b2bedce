"""What an evaluation of plain folders amounts to: means, subgroups, agreement, and what it was made of."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from dermdistill.artifacts.card import versions
from dermdistill.evaluation.inter_rater import InterRaterAgreement
from dermdistill.evaluation.per_image import PerImage
from dermdistill.evaluation.subgroups import SUBGROUPS, Subgroup, by_subgroup
from dermdistill.inference.predictor import Predictor
from dermdistill.metrics.intervals import Interval, mean_interval
from dermdistill.metrics.overlap import SCORES

IN_SUBGROUPS = ("dice", "jaccard")

WITHOUT_PICTURES = ("lesion_size", "border")
"""Subgroups that follow from the true masks alone."""

MOST_LEVELS = 12
"""A manifest's column with more values than this is no grouping."""


def bounds_in(images: PerImage, measure: str) -> tuple[float, float]:
    """The smallest and the largest value of a measure on these images."""
    if measure == "hd95":
        return 0.0, 100.0
    if measure in ("hd95_px", "hd95_mm"):
        diagonal = np.hypot(images["height"], images["width"])
        return 0.0, float(np.nanmax(diagonal * (images["mm_per_pixel"] if measure == "hd95_mm" else 1)))
    return (0.0, float(max(4.0, np.nanmax(images[measure])))) if measure == "area_ratio" else (0.0, 1.0)


def means(images: PerImage) -> dict[str, Interval]:
    """Mean of each measure over the images that have it, with its interval."""
    found = {}
    more = ("precision", "area_ratio", "boundary_f", "hd95", "hd95_px", "hd95_mm", "auc", "ece")
    for measure in (*SCORES, *more):
        if measure not in images:
            continue
        values = images[measure]
        values = values[np.isfinite(values)]
        found[f"{measure}_per_image_mean"] = mean_interval(values, bounds=bounds_in(images, measure))
    return found


def subgroup_scores(images: PerImage, *, pictures: bool) -> dict[str, Any]:
    """Dice and Jaccard by subgroup: what the true masks and pictures tell, and the manifest's columns."""
    ours = [one for one in SUBGROUPS if pictures or one.name in WITHOUT_PICTURES]
    chosen = [one for one in ours if one.column in images or one.column in images.labels]
    for column, values in images.labels.items():
        levels = {value for value in values if value}
        if column not in ("truth", *(one.column for one in ours)) and 1 < len(levels) <= MOST_LEVELS:
            chosen.append(Subgroup(column, column, column.replace("_", " "), "as the manifest gives it"))
    return by_subgroup(images, {f"{name}_per_image_mean": images[name] for name in IN_SUBGROUPS}, chosen)


def agreement_of(images: PerImage) -> InterRaterAgreement | None:
    """Mean Dice between the raters of each image; None where there is one mask an image."""
    if "human_dice" not in images:
        return None
    values = images["human_dice"]
    s = mean_interval(values[np.isfinite(values)])
    return InterRaterAgreement(
        "human against human", s.mean, s.low, s.high, s.n, "the masks of these pictures"
    )


def warnings_of(images: PerImage) -> list[str]:
    """What looks wrong with the true masks, as sentences."""
    if float(np.mean(images["border"] > 0.9)) > 0.5:
        return [
            "The true masks look inverted: lesion all along the picture's frame in more than half of them. "
            "White is lesion, black is skin"
        ]
    return []


def describe(
    model: Predictor | None,
    images: PerImage,
    name: str,
    data: str,
    split: str,
    threshold: float,
    seconds: float,
) -> dict[str, Any]:
    """What was scored, on which data, by which versions: plain values of summary.json."""
    truths = "".join(f"{i} {t}" for i, t in zip(images.image_id, images.labels["truth"], strict=True))
    card = None if model is None else model.card
    return {
        "data": {
            "name": data,
            "fingerprint": hashlib.sha256(truths.encode()).hexdigest(),
            "title": data,
        },
        "split": split,
        "images": len(images),
        "run": name,
        "weights_sha256": "" if card is None else card.weights_sha256,
        "threshold": threshold if card is None else card.threshold,
        "model": None
        if card is None
        else {
            "arch": card.model.get("arch"),
            "role": card.role,
            "parameters": card.parameters,
            "input_size": card.input_size,
        },
        "versions": versions(),
        "seconds": round(seconds, 2),
    }
