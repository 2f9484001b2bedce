"""One picture scored: a mask or map against one or several true masks, from arrays or from files.

It imports numpy and Pillow alone, so that the processes which share the work start quickly.
"""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass, field

import numpy as np

from dermdistill import imaging
from dermdistill.core.errors import DataError
from dermdistill.data.prediction_files import read_prediction
from dermdistill.evaluation.image_difficulty import measure
from dermdistill.evaluation.mask_files import Mask, read_true_masks
from dermdistill.evaluation.matching import Sample
from dermdistill.imaging import Float32Array, UInt8Array
from dermdistill.metrics.boundary import compare_outlines
from dermdistill.metrics.calibration import Reliability, auc, reliability
from dermdistill.metrics.overlap import count

APPEARANCE_SIDE = 256
"""Pictures are measured (contrast, skin tone, hair) at this side, as prepared data sets are."""


@dataclass(frozen=True, eq=False)
class Scored:
    """What is kept of one picture: a few numbers, never its pixels."""

    image_id: str
    counts: tuple[int, int, int, int]
    measured: dict[str, float]
    truth: str
    """The first digits of a hash of the true masks: two evaluations with the same are of the same masks."""
    rater_dice: dict[str, float] = field(default_factory=dict)
    """Against each rater by name; empty where a picture has one mask."""
    human_dice: float = float("nan")
    """Mean Dice of the raters' masks with each other."""
    reliability: Reliability | None = None
    """Of a probability map; None: there was a mask alone."""
    missing: bool = False
    """There was no prediction, or none that could be read: it counts as a Dice of 0."""
    resampled: bool = False
    """The prediction had another size than the truth."""
    note: str = ""
    """Why there is no prediction."""


@dataclass(frozen=True)
class Unscored:
    """A picture that could not be scored, and why."""

    image_id: str
    reason: str


def score_files(sample: Sample, threshold: float, mm_per_pixel: float | None) -> Scored | Unscored:
    """Score a prediction that lies in a file.

    Args:
        sample: The files.
        threshold: A map's pixel is lesion where it is above this.
        mm_per_pixel: Side of a pixel in millimetres; None: unknown, but for the manifest's column.
    """
    try:
        masks = read_true_masks(sample)
        image = None if sample.image is None else imaging.read_image(sample.image, near=APPEARANCE_SIDE)
    except DataError as error:
        return Unscored(sample.image_id, error.found)
    if sample.prediction is None:
        return score_arrays(sample, masks, None, threshold, image, mm_per_pixel, note="no prediction")
    try:
        prediction = read_prediction(sample.prediction)
    except DataError as error:
        return score_arrays(sample, masks, None, threshold, image, mm_per_pixel, note=error.found)
    return score_arrays(sample, masks, prediction, threshold, image, mm_per_pixel)


def score_arrays(
    sample: Sample,
    masks: dict[str, Mask],
    prediction: Float32Array | Mask | None,
    threshold: float,
    image: UInt8Array | None = None,
    mm_per_pixel: float | None = None,
    note: str = "",
) -> Scored:
    """Score a mask or a map against the true masks; with several of them, against their majority.

    Args:
        sample: Names and labels.
        masks: True masks by rater, {0, 1} uint8 [h, w].
        prediction: A mask, {0, 1} uint8, or a map, float32 in [0, 1], of any size; None: there is none.
        threshold: A map's pixel is lesion where it is above this.
        image: The picture, RGB uint8, for what makes it hard; None: unknown.
        mm_per_pixel: Side of a pixel in millimetres.
        note: Why there is no prediction.
    """
    true_mask = majority(list(masks.values()))
    resampled = prediction is not None and prediction.shape != true_mask.shape
    prob = None
    if prediction is None:
        # As wrong as can be, for empty truths too: nothing where there is lesion, everything where there is
        # none.
        mask = np.zeros_like(true_mask) if true_mask.any() else np.ones_like(true_mask)
    elif prediction.dtype == np.uint8 and not resampled:
        mask = prediction.astype(np.uint8, copy=False)
    else:
        values = prediction.astype(np.float32, copy=False)
        values = imaging.restore_prob(values, *true_mask.shape) if resampled else values
        is_map = prediction.dtype != np.uint8
        prob = values if is_map else None
        mask = imaging.to_mask(values, threshold if is_map else 0.5)
    counts = count(mask, true_mask)
    several = {rater: other for rater, other in masks.items() if len(masks) > 1}
    pairs = [_dice(a, b) for a, b in itertools.combinations(several.values(), 2)]
    return Scored(
        sample.image_id,
        counts,
        _measures(sample, mask, true_mask, counts, prob, image, mm_per_pixel),
        _hash(masks),
        {rater: _dice(mask, other) for rater, other in several.items()},
        float(np.mean(pairs)) if pairs else float("nan"),
        reliability(prob, true_mask) if prob is not None else None,
        prediction is None,
        resampled,
        note,
    )


def majority(masks: list[Mask]) -> Mask:
    """Where more than half of the masks have lesion; of one mask itself. {0, 1} uint8 [h, w]."""
    if len(masks) == 1:
        return masks[0]
    votes = np.sum(np.stack(masks), axis=0, dtype=np.int64)
    return np.asarray(2 * votes > len(masks), dtype=np.uint8)


def _measures(
    sample: Sample,
    mask: Mask,
    true_mask: Mask,
    counts: tuple[int, int, int, int],
    prob: Float32Array | None,
    image: UInt8Array | None,
    mm_per_pixel: float | None,
) -> dict[str, float]:
    tp, fp, fn, _ = counts
    outlines = compare_outlines(mask, true_mask)
    scale = mm_per_pixel or _number(sample.labels.get("mm_per_pixel", ""))
    frame = np.concatenate([true_mask[0], true_mask[-1], true_mask[1:-1, 0], true_mask[1:-1, -1]])
    found = {
        "precision": tp / (tp + fp) if tp + fp else 1.0,
        "area_ratio": (tp + fp) / (tp + fn) if tp + fn else float("nan"),
        "boundary_f": outlines.boundary_f,
        "hd95": outlines.hd95,
        "hd95_px": outlines.hd95_px,
        "hd95_mm": outlines.hd95_px * scale if scale else float("nan"),
        "mm_per_pixel": scale or float("nan"),
        "auc": float("nan") if prob is None else auc(prob, true_mask),
        "ece": float("nan") if prob is None else reliability(prob, true_mask).ece(),
        "height": float(true_mask.shape[0]),
        "width": float(true_mask.shape[1]),
        "lesion_fraction": (tp + fn) / true_mask.size,
        "contrast": float("nan"),
        "ita": float("nan"),
        "hair": float("nan"),
        "border": float(frame.mean()),
    }
    if image is not None:
        side = APPEARANCE_SIDE
        looks = measure(imaging.resize_image(image, side), imaging.resize_mask(true_mask, side))
        found |= {key: getattr(looks, key) for key in ("contrast", "ita", "hair")}
    return found


def _dice(a: Mask, b: Mask) -> float:
    tp, fp, fn, _ = count(a, b)
    return 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 1.0


def _hash(masks: dict[str, Mask]) -> str:
    digest = hashlib.sha256()
    for rater in sorted(masks):
        digest.update(f"{rater} {masks[rater].shape}".encode())
        digest.update(np.packbits(masks[rater]).tobytes())
    return digest.hexdigest()[:12]


def _number(text: str) -> float | None:
    try:
        return float(text) or None
    except ValueError:
        return None
