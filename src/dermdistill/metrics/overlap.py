"""Counts of pixels per image → scores per image.

The official ISIC protocol: each image is scored by itself, at native size, and the scores are averaged over
images. Counts are what is saved; every score can be derived from them again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dermdistill.metrics.intervals import Values

THRESHOLD_JACCARD = 0.65
"""Below this, an image's threshold Jaccard is 0 (ISIC 2018 Task 1)."""
SCORES = ("dice", "jaccard", "threshold_jaccard", "accuracy", "sensitivity", "specificity")


@dataclass(frozen=True)
class Counts:
    """Pixels of n images: true and false positives and negatives, int64 [n] each."""

    tp: NDArray[np.int64]
    fp: NDArray[np.int64]
    fn: NDArray[np.int64]
    tn: NDArray[np.int64]


def count(pred_mask: NDArray[np.uint8], true_mask: NDArray[np.uint8]) -> tuple[int, int, int, int]:
    """(tp, fp, fn, tn) of one image; {0, 1} uint8 [h, w] each.

    Raises:
        ValueError: The shapes differ.
    """
    if pred_mask.shape != true_mask.shape:
        raise ValueError(f"prediction {pred_mask.shape} and truth {true_mask.shape} differ in shape")
    both = int(np.count_nonzero(pred_mask & true_mask))
    predicted, true = int(np.count_nonzero(pred_mask)), int(np.count_nonzero(true_mask))
    return both, predicted - both, true - both, true_mask.size - predicted - true + both


def scores(counts: Counts) -> dict[str, Values]:
    """Scores per image, float64 [n] in [0, 1], by the names in SCORES.

    Dice = 2tp/(2tp+fp+fn), Jaccard = tp/(tp+fp+fn), accuracy = (tp+tn)/all, sensitivity = tp/(tp+fn),
    specificity = tn/(tn+fp). Where a denominator is 0 the score is 1: nothing was asked for and nothing was
    got wrong (two empty masks agree), which is also `isic-challenge-scoring`'s rule.
    """
    tp, fp, fn, tn = (np.asarray(v, dtype=np.float64) for v in (counts.tp, counts.fp, counts.fn, counts.tn))
    jaccard = _ratio(tp, tp + fp + fn)
    return {
        "dice": _ratio(2 * tp, 2 * tp + fp + fn),
        "jaccard": jaccard,
        "threshold_jaccard": np.where(jaccard >= THRESHOLD_JACCARD, jaccard, 0.0),
        "accuracy": _ratio(tp + tn, tp + fp + fn + tn),
        "sensitivity": _ratio(tp, tp + fn),
        "specificity": _ratio(tn, tn + fp),
    }


def pooled_dice(counts: Counts) -> float:
    """Dice of all images' pixels together. Large lesions weigh most: not the official score."""
    tp, fp, fn = int(counts.tp.sum()), int(counts.fp.sum()), int(counts.fn.sum())
    return 1.0 if tp + fp + fn == 0 else 2 * tp / (2 * tp + fp + fn)


def _ratio(over: Values, under: Values) -> Values:
    return np.divide(over, under, out=np.ones_like(over), where=under > 0)
