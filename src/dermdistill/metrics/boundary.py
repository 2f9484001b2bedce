"""How well outlines agree: boundary F-score and 95 % Hausdorff distance, per image at native size.

Overlap hardly sees the outline of a large lesion; these two see nothing else. `outline_scores` gives both
relative to the image diagonal, so that photographs of any resolution can be averaged.

Distances are exact, and found from the outlines' pixels alone: a distance transform of the whole picture
takes several times as long, and a tree of points is a library more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TOLERANCE = 0.75
"""Percent of the diagonal within which an outline counts as met (Csurka et al., BMVC 2013)."""
WORST = 100.0
"""hd95 where exactly one mask is empty: the whole diagonal."""

_COLUMNS = 64
"""So many columns are searched to either side; what is still farther is compared with every pixel."""
_CELLS = 1_000_000
"""Pairs of pixels compared at once: bounds the memory."""

Mask = NDArray[np.uint8]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class OutlineScores:
    """How well two outlines agree."""

    boundary_f: float
    """Boundary F-score, in [0, 1]."""
    hd95: float
    """95 % Hausdorff distance in percent of the diagonal."""
    hd95_px: float
    """The same in pixels."""


def outline_scores(pred_mask: Mask, true_mask: Mask, *, tolerance: float = TOLERANCE) -> tuple[float, float]:
    """(boundary F-score in [0, 1], hd95 in percent of the diagonal) of one image; see `compare_outlines`."""
    found = compare_outlines(pred_mask, true_mask, tolerance=tolerance)
    return found.boundary_f, found.hd95


def compare_outlines(pred_mask: Mask, true_mask: Mask, *, tolerance: float = TOLERANCE) -> OutlineScores:
    """Return the boundary F-score and the 95 % Hausdorff distance of one image.

    The boundary F-score (Csurka et al. 2013; Perazzi et al., CVPR 2016) is the harmonic mean of the share of
    the predicted outline that lies within ``tolerance`` of the true one, and of the converse share. hd95 is
    the larger of the two directed distances' 95th percentiles.

    An outline is made of the mask's pixels with a neighbour (of four) outside it. Where the picture cuts the
    lesion off, its frame is no outline; only a lesion that fills the picture has the frame as its outline.
    Two empty masks agree (1 and 0); exactly one empty mask is as wrong as can be (0 and the diagonal).

    Args:
        pred_mask: {0, 1} uint8 [h, w].
        true_mask: Likewise.
        tolerance: Percent of the diagonal.

    Raises:
        ValueError: The shapes differ.

    Examples:
        >>> import numpy as np
        >>> true_mask = np.zeros((60, 80), np.uint8)
        >>> true_mask[20:40, 20:50] = 1
        >>> found = compare_outlines(np.roll(true_mask, 5, axis=1), true_mask)
        >>> found.hd95_px, found.hd95
        (5.0, 5.0)
    """
    if pred_mask.shape != true_mask.shape:
        raise ValueError(f"prediction {pred_mask.shape} and truth {true_mask.shape} differ in shape")
    diagonal = float(np.hypot(*true_mask.shape))
    pred, true = outline_pixels(pred_mask), outline_pixels(true_mask)
    if not len(pred) or not len(true):
        return OutlineScores(0.0, WORST, diagonal) if len(pred) or len(true) else OutlineScores(1.0, 0.0, 0.0)
    to_true, to_pred = nearest_distances(pred, true), nearest_distances(true, pred)
    near = tolerance * diagonal / 100
    precision, recall = float(np.mean(to_true <= near)), float(np.mean(to_pred <= near))
    together = precision + recall
    boundary_f = 2 * precision * recall / together if together else 0.0
    hd95 = float(max(np.percentile(to_true, 95), np.percentile(to_pred, 95)))
    return OutlineScores(boundary_f, 100 * hd95 / diagonal, hd95)


def outline_pixels(mask: Mask) -> NDArray[np.int64]:
    """(y, x) of a mask's outline, int64 [n, 2]; n is 0 only for an empty mask."""
    columns = np.flatnonzero(np.bitwise_or.reduce(mask, axis=0))
    if not len(columns):
        return np.zeros((0, 2), np.int64)
    left, right = int(columns[0]), int(columns[-1]) + 1
    rows = np.flatnonzero(mask[:, left:right].any(axis=1))
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    height, width = mask.shape
    inside = np.zeros((bottom - top + 2, right - left + 2), dtype=bool)
    inside[1:-1, 1:-1] = mask[top:bottom, left:right]
    # Beyond the picture's frame the lesion is taken to go on.
    framed = inside.copy()
    framed[0] |= inside[1] & (top == 0)
    framed[-1] |= inside[-2] & (bottom == height)
    framed[:, 0] |= inside[:, 1] & (left == 0)
    framed[:, -1] |= inside[:, -2] & (right == width)
    edge = _edge(framed)
    if not edge.any():
        edge = _edge(inside)
    y, x = np.divmod(np.flatnonzero(edge), edge.shape[1])
    return np.stack([y + top, x + left], axis=1)


def nearest_distances(points: NDArray[np.int64], others: NDArray[np.int64]) -> Floats:
    """Distance from each pixel of one set to the nearest of another, in pixels; exact.

    The other set's pixels are sorted column by column. Each point looks for its nearest above and below in
    its own column, then in the columns one, two, three … away, until that alone is farther than what it has.
    Outlines mostly run close to each other, so most points are done after a few columns; those that are not
    after _COLUMNS are compared with every other pixel.

    Args:
        points: (y, x), int64 [n, 2].
        others: Likewise, [m, 2], m ≥ 1.

    Returns:
        float64 [n].
    """
    # Columns stand so far apart on the line of keys that a neighbour in another one is never the nearest.
    reach = int(max(points.max(), others.max())) + 1
    stride = 4 * reach
    keys = np.sort(others[:, 1] * stride + others[:, 0])
    keys = np.concatenate([[-stride * reach * 4], keys, [stride * reach * 8]])
    own = points[:, 1] * stride + points[:, 0]
    order = np.argsort(own)  # what is looked up in order is found more quickly
    points, own = points[order], own[order]
    best = np.full(len(points), np.iinfo(np.int64).max)
    active = np.arange(len(points))
    away = 0
    while len(active) and away < _COLUMNS:
        sought = own[active] + np.array([[away * stride], [-away * stride]])
        place = np.searchsorted(keys, sought)
        along = np.minimum(keys[place] - sought, sought - keys[place - 1]).min(axis=0)
        near = along < reach  # in the column that was looked at, and not in another
        best[active[near]] = np.minimum(best[active[near]], along[near] ** 2 + away**2)
        away += 1
        active = active[best[active] > away**2]
    for part in np.array_split(active, 1 + len(active) * len(others) // _CELLS):
        down, across = points[part, 0, None] - others[:, 0], points[part, 1, None] - others[:, 1]
        best[part] = np.minimum(best[part], (down**2 + across**2).min(axis=1))
    found = np.empty(len(points))
    found[order] = np.sqrt(best.astype(np.float64))
    return found


def _edge(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels inside with a neighbour of four outside; the array has a rim of one pixel that is left out."""
    core = inside[1:-1, 1:-1]
    surrounded = inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
    edge: NDArray[np.bool_] = core & ~surrounded
    return edge
