"""Whether two images show the same lesion: matched features that one affine map explains, then the pixels.

Each match of two SIFT features says how far the picture was moved, turned and zoomed; the hypothesis that
most other matches agree with is refined to an affine map ("fast spatial matching", Philbin et al. 2007).
Nothing is drawn at random: the same two images always give the same result.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dermdistill.audit.features import Fingerprint, opencv

LEAST_INLIERS = 14
"""Agreeing features from which two images count as the same lesion: see benchmarks/README.md, "Audit"."""
LEAST_SPREAD = 5.0
"""Pixels (of 256) by which they must spread in every direction."""
COPY_CORRELATION = 0.9
"""Correlation of the fine contrast from which it is the same photograph, not only the same lesion."""
LEAST_LIKENESS = 0.8
"""Cosine of two RootSIFT descriptors below which they are no match."""
FEWEST = 6
"""Agreeing matches below which it is chance, and no further time is spent (an affine map needs three)."""
COARSE, FINE = 8.0, 4.0
"""Pixels (of 256) by which a match may miss the map: before and after it is refined."""
MOST_ZOOM, MOST_SHEAR = 3.0, 2.2
"""Largest change of scale either way, and of proportions (a 3:2 photograph squashed, turned by 90°: 2.25)."""


@dataclass(frozen=True, eq=False, slots=True)
class Match:
    """How two images fit together."""

    inliers: int = 0
    """Matched features at different points that the map explains."""
    spread: float = 0.0
    """Standard deviation in pixels of their places, across the direction in which they spread least: the
    ticks of a ruler are many, and lie on a line."""
    correlation: float = 0.0
    """Of the finer half of the pixels' contrast, -1 to 1, where the images overlap."""
    overlap: float = 0.0
    """Share of the first image that the second covers."""
    transform: NDArray[np.float64] | None = None
    """float64 [2, 3]: (x, y, 1) of the first working image to (x, y) of the second."""


def match(a: Fingerprint, b: Fingerprint) -> Match:
    """Fit the second image onto the first by an affine map.

    Args:
        a: The first image; a mirrored one is passed as `Fingerprint.mirrored`.
        b: The second image.

    Returns:
        How they fit; an empty match where they do not.
    """
    first, second = _mutual(a, b)
    if len(first) < FEWEST:
        return Match()
    p, q = a.points[first].astype(np.float64), b.points[second].astype(np.float64)
    inside = _agreeing(p, q)
    if inside.sum() < FEWEST:
        return Match()
    transform: NDArray[np.float64] | None = None
    for _ in range(4):
        if len(np.unique(p[inside, :2].round(), axis=0)) < 4:
            return Match()
        homogeneous = np.column_stack([p[:, :2], np.ones(len(p))])
        solution, *_ = np.linalg.lstsq(homogeneous[inside], q[inside, :2], rcond=None)
        transform = np.asarray(solution.T, np.float64)
        now = np.hypot(*(homogeneous @ solution - q[:, :2]).T) < FINE
        if (now == inside).all():
            break
        inside = now
    assert transform is not None
    stretch = np.linalg.svd(transform[:, :2], compute_uv=False)
    plausible = (
        np.linalg.det(transform[:, :2]) > 0
        and stretch[0] < MOST_ZOOM
        and stretch[1] > 1 / MOST_ZOOM
        and stretch[0] / stretch[1] < MOST_SHEAR
    )
    if not plausible or inside.sum() < FEWEST:
        return Match()
    # Two features at one point (SIFT gives a point several orientations) are one piece of evidence.
    distinct = min(len(np.unique((side[inside, :2] / 2).round(), axis=0)) for side in (p, q))
    spread = min(_least_spread(p[inside, :2]), _least_spread(q[inside, :2]))
    correlation, overlap = _correlate(a, b, transform)
    return Match(distinct, spread, correlation, overlap, transform)


def _mutual(a: Fingerprint, b: Fingerprint) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Features that are each other's nearest, and near enough."""
    if min(len(a.descriptors), len(b.descriptors)) < 4:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    likeness = a.roots @ b.roots.T
    best = likeness.argmax(axis=1)
    row = np.arange(len(best))
    kept = (likeness.argmax(axis=0)[best] == row) & (likeness[row, best] > LEAST_LIKENESS)
    return row[kept], best[kept]


def _agreeing(p: NDArray[np.float64], q: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The matches that agree with the similarity which most of them agree with."""
    zoom = q[:, 2] / p[:, 2]
    turn = np.deg2rad(q[:, 3] - p[:, 3])
    # Complex numbers: a similarity is one multiplication and one addition.
    from_, to = p[:, 0] + 1j * p[:, 1], q[:, 0] + 1j * q[:, 1]
    factor = zoom * np.exp(1j * turn)
    shift = to - factor * from_
    missed = np.abs(factor[:, None] * from_ + shift[:, None] - to)
    close = missed < COARSE
    return close[close.sum(axis=1).argmax()]


def _least_spread(points: NDArray[np.float64]) -> float:
    return float(np.sqrt(max(0.0, np.linalg.eigvalsh(np.cov(points.T))[0])))


def _correlate(a: Fingerprint, b: Fingerprint, transform: NDArray[np.float64]) -> tuple[float, float]:
    """Correlation of what a blur takes away, where both images are, and the share of ``a`` that is."""
    cv2 = opencv()
    half = transform.copy()  # pixel x of the grey image lies at 2x + ½ of the working image
    half[:, 2] = (half[:, 2] + (half[:, :2] - np.eye(2)) @ [0.5, 0.5]) / 2
    size = a.grey.shape[::-1]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warped = cv2.warpAffine(b.grey, half, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    covered = (
        cv2.warpAffine(np.ones_like(b.grey), half, size, flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP) > 0
    )
    if covered.sum() < 64:
        return 0.0, 0.0
    x, y = (
        (image.astype(np.float32) - cv2.GaussianBlur(image.astype(np.float32), (0, 0), 4))[covered]
        for image in (a.grey, warped)
    )
    x, y = x - x.mean(), y - y.mean()
    norm = float(np.linalg.norm(x) * np.linalg.norm(y))
    return (float(x @ y) / norm if norm > 0 else 0.0), float(covered.mean())
