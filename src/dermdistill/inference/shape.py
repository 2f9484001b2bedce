"""Size and shape of an outline as plain geometry. They are measures, not a diagnosis.

Lengths are in pixels, and in millimetres only where the user says how large a pixel is. Nothing here depends
on where the lesion lies, on its rotation, or (the ratios) on its size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from dermdistill.core.errors import UsageError
from dermdistill.imaging.contours import Float64Array, Polygon, signed_area

MIN_MM_PER_PIXEL, MAX_MM_PER_PIXEL = 1e-4, 10.0
"""A pixel finer than any microscope's, and one as large as a mole."""
_GRID = 513  # side of the square that a shape is folded on; odd, so that its centre is a pixel's


def measure(regions: Sequence[Polygon], mm_per_pixel: float | None = None) -> dict[str, Any]:
    """Measures of the outlines of one image.

    Args:
        regions: The largest first, as `contours.polygons` returns them.
        mm_per_pixel: Side of a pixel in millimetres; None: unknown, and nothing is said in millimetres.

    Returns:
        ``regions`` (their number) and ``area_px`` (of all, without holes); of the largest one, its holes
        filled: ``perimeter_px``; ``longest_diameter_px`` (largest distance of two points of the outline, the
        maximum Feret diameter); for the border's irregularity ``compactness`` (perimeter² / 4π·area; 1 for a
        circle, else larger) and ``solidity`` (area / area of the convex hull, 0 to 1); ``asymmetry_major``
        and ``asymmetry_minor`` (see `asymmetry`), and their mean ``asymmetry``. With ``mm_per_pixel`` also
        ``area_mm2``, ``perimeter_mm`` and ``longest_diameter_mm``. Where there is no region, only what is 0.

    Raises:
        UsageError: ``mm_per_pixel`` is out of its range.
    """
    check_scale(mm_per_pixel)
    found: dict[str, Any] = {"regions": len(regions), "area_px": sum(region.area for region in regions)}
    if regions:
        outline = regions[0].exterior
        hull = convex_hull(outline)
        area, perimeter = signed_area(outline), regions[0].perimeter
        major, minor = asymmetry(outline)
        found |= {
            "perimeter_px": perimeter,
            "longest_diameter_px": longest_diameter(hull),
            "compactness": perimeter**2 / (4 * math.pi * area),
            "solidity": min(1.0, area / signed_area(hull)),
            "asymmetry": (major + minor) / 2,
            "asymmetry_major": major,
            "asymmetry_minor": minor,
        }
    if mm_per_pixel is not None:
        found["area_mm2"] = found["area_px"] * mm_per_pixel**2
        for name in ("perimeter", "longest_diameter"):
            if f"{name}_px" in found:
                found[f"{name}_mm"] = found[f"{name}_px"] * mm_per_pixel
    return found


def check_scale(mm_per_pixel: float | None) -> None:
    """Raise UsageError where a pixel's side in millimetres is out of its range."""
    if mm_per_pixel is not None and not (MIN_MM_PER_PIXEL <= mm_per_pixel <= MAX_MM_PER_PIXEL):
        raise UsageError(
            f"A pixel of {mm_per_pixel} mm is impossible.",
            f"millimetres per pixel, {MIN_MM_PER_PIXEL} to {MAX_MM_PER_PIXEL:g}, such as 0.02",
            "Correct --mm-per-pixel, or leave it out to measure in pixels.",
        )


def longest_diameter(hull: Float64Array) -> float:
    """Largest distance between two points of a convex ring [n, 2]."""
    x, y = hull.T
    return float(np.sqrt((np.subtract.outer(x, x) ** 2 + np.subtract.outer(y, y) ** 2).max()))


def convex_hull(points: Float64Array) -> Float64Array:
    """Closed ring of the points' convex hull, of positive area.

    From the left to the right, below and above: what does not lie beyond the line between its neighbours is
    left out, all at a time, until nothing is (Andrew's monotone chain, 1979, looks at one after the other).
    """
    ordered = np.unique(points[:, 0] + 1j * points[:, 1])  # by x, then by y

    def half(chain: NDArray[np.complex128]) -> NDArray[np.complex128]:
        while True:
            step, chord = chain[1:-1] - chain[:-2], chain[2:] - chain[:-2]
            beyond = (step.conj() * chord).imag > 0
            if beyond.all():
                return chain
            chain = chain[np.r_[True, beyond, True]]

    ring = np.concatenate([half(ordered), half(ordered[::-1])[1:]])
    return np.stack([ring.real, ring.imag], axis=1)


def asymmetry(ring: Float64Array) -> tuple[float, float]:
    """How little of a shape meets itself when it is folded along its principal axes.

    The share of its area, 0 (mirror-symmetric) to 1, that its mirror image at the axis does not cover; the
    axes go through the centroid along the eigenvectors of the second moments (as in Celebi et al. 2007). Of a
    shape whose two moments are nearly equal, the axes' direction is chance, and so is a part of the result.

    Args:
        ring: Closed outline [n, 2] of positive area.

    Returns:
        For the fold along the major axis, and along the minor axis.
    """
    centre, covariance = moments(ring)
    axes = np.linalg.eigh(covariance)[1][:, ::-1]  # columns, the major axis first
    points = (ring - centre) @ axes
    # Each axis fills the grid: shares of area do not change when an axis is stretched.
    scale = (_GRID // 2 - 1) / np.abs(points).max(axis=0)
    canvas = Image.new("L", (_GRID, _GRID))
    ImageDraw.Draw(canvas).polygon((points * scale + _GRID // 2).ravel().tolist(), fill=1)
    shape = np.asarray(canvas).view(np.bool_)
    area, half = np.count_nonzero(shape), _GRID // 2
    along_major, along_minor = (
        1 - (2 * np.count_nonzero(one[:half] & one[:half:-1]) + np.count_nonzero(one[half])) / area
        for one in (shape, shape.T)
    )
    return float(along_major), float(along_minor)


def moments(ring: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Centroid [2] and covariance [2, 2] of the area inside a closed ring, exactly (Green's theorem)."""
    origin = ring[0]
    start, stop = ring[:-1] - origin, ring[1:] - origin
    cross = start[:, 0] * stop[:, 1] - stop[:, 0] * start[:, 1]
    area = cross.sum() / 2
    centre = ((start + stop) * cross[:, None]).sum(axis=0) / (6 * area)
    total = start + stop
    second = (
        np.einsum("ni,nj,n->ij", total, total, cross)
        + np.einsum("ni,nj,n->ij", start, start, cross)
        + np.einsum("ni,nj,n->ij", stop, stop, cross)
    ) / (24 * area)
    return centre + origin, second - np.outer(centre, centre)
