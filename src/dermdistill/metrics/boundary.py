"""How well outlines agree: boundary F-score and 95 % Hausdorff distance, per image at native size.

Overlap hardly sees the outline of a large lesion; these two see nothing else. Both are relative to the image
diagonal, so that photographs of any resolution can be averaged.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

TOLERANCE = 0.75
"""Percent of the diagonal within which an outline counts as met (Csurka et al., BMVC 2013)."""
WORST = 100.0
"""hd95 where exactly one mask is empty: the whole diagonal."""

Mask = NDArray[np.uint8]


def outline_scores(pred_mask: Mask, true_mask: Mask, *, tolerance: float = TOLERANCE) -> tuple[float, float]:
    """(boundary F-score in [0, 1], hd95 in percent of the diagonal) of one image.

    The boundary F-score (Csurka et al. 2013; Perazzi et al., CVPR 2016) is the harmonic mean of the share of
    the predicted outline that lies within ``tolerance`` of the true one, and of the converse share. hd95 is
    the larger of the two directed distances' 95th percentiles.

    An outline is made of the mask's pixels with a neighbour (of four) outside it. Where the picture cuts the
    lesion off, its frame is no outline; only a lesion that fills the picture has the frame as its outline.
    Two empty masks agree (1 and 0); exactly one empty mask is as wrong as can be (0 and 100).

    Args:
        pred_mask: {0, 1} uint8 [h, w].
        true_mask: Likewise.
        tolerance: Percent of the diagonal.

    Raises:
        ValueError: The shapes differ.
    """
    if pred_mask.shape != true_mask.shape:
        raise ValueError(f"prediction {pred_mask.shape} and truth {true_mask.shape} differ in shape")
    if not pred_mask.any() or not true_mask.any():
        return (0.0, WORST) if pred_mask.any() or true_mask.any() else (1.0, 0.0)
    from scipy.spatial import KDTree

    pred, true = outline_pixels(pred_mask), outline_pixels(true_mask)
    percent = 100 / float(np.hypot(*true_mask.shape))
    to_true = percent * KDTree(true).query(pred)[0]
    to_pred = percent * KDTree(pred).query(true)[0]
    precision, recall = float(np.mean(to_true <= tolerance)), float(np.mean(to_pred <= tolerance))
    together = precision + recall
    boundary_f = 2 * precision * recall / together if together else 0.0
    return boundary_f, float(max(np.percentile(to_true, 95), np.percentile(to_pred, 95)))


def outline_pixels(mask: Mask) -> NDArray[np.float64]:
    """(y, x) of a mask's outline, float64 [n, 2]; n is 0 only for an empty mask."""
    from scipy import ndimage

    inside = mask.astype(bool)
    edge = inside & ~ndimage.binary_erosion(inside, border_value=1)
    if not edge.any():
        edge = inside & ~ndimage.binary_erosion(inside, border_value=0)
    return np.argwhere(edge).astype(np.float64)
