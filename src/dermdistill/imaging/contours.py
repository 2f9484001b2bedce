"""Outlines with subpixel accuracy: where a field crosses a level, as closed polygons.

contourpy traces them (marching squares: Lorensen and Cline 1987, in two dimensions, with linear interpolation
between the pixels' centres); what is added here is the picture's border and fewer points.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import contourpy
import numpy as np
from numpy.typing import NDArray

Float32Array = NDArray[np.float32]
Float64Array = NDArray[np.float64]

_CHUNK = 1024  # lines compared with others at a time
_MARGIN = 1e-6  # values are moved this far from the level: no two points of a line coincide


@dataclass(frozen=True, eq=False)
class Polygon:
    """One region: an outer ring and the rings of its holes.

    Coordinates are (x, y) in pixels from the image's upper left corner, x to the right, y down: the first
    pixel covers [0, 1] × [0, 1]. Rings are closed (the last point is the first). By their numbers outer rings
    turn counterclockwise (positive shoelace area) and holes clockwise, as RFC 7946 (GeoJSON) asks; on a
    screen, where y grows downwards, it looks the other way round.
    """

    exterior: Float64Array
    """float64 [n, 2]."""
    holes: list[Float64Array] = field(default_factory=list)

    @property
    def area(self) -> float:
        """In square pixels, without the holes."""
        return signed_area(self.exterior) + sum(signed_area(hole) for hole in self.holes)

    @property
    def perimeter(self) -> float:
        """Of the outer ring, in pixels."""
        return float(np.hypot(*np.diff(self.exterior, axis=0).T).sum())


def polygons(
    prob: Float32Array, level: float = 0.5, tolerance: float = 0.1, size: tuple[int, int] | None = None
) -> list[Polygon]:
    """The regions where a field is above a level, the largest first.

    The picture's border closes the regions that it cuts.

    Args:
        prob: float32 [h, w], each value at the centre of its pixel.
        level: What counts as inside lies above it.
        tolerance: Points are left out as long as the line stays within this distance, in pixels (Douglas and
            Peucker 1973); 0 keeps them all. They are all kept too where lines would cross without them.
        size: (height, width) of the picture in whose pixels coordinates and tolerance are; by default the
            field's own.

    Returns:
        Regions of positive area.
    """
    traced = [Polygon(outer, holes) for outer, *holes in _traced(prob, level, size or prob.shape)]
    return simplify(_sorted(traced), tolerance)


def simplify(regions: list[Polygon], tolerance: float) -> list[Polygon]:
    """The regions with fewer points, as `polygons` leaves them out."""
    if tolerance <= 0:
        return regions
    simpler = [
        Polygon(_fewer(region.exterior, tolerance), [_fewer(hole, tolerance) for hole in region.holes])
        for region in regions
    ]
    if _cross([ring for region in simpler for ring in (region.exterior, *region.holes)]):
        return regions
    return _sorted(simpler)


def _sorted(regions: list[Polygon]) -> list[Polygon]:
    return sorted((r for r in regions if signed_area(r.exterior) > 0), key=lambda region: -region.area)


def signed_area(ring: Float64Array) -> float:
    """Shoelace area of a closed ring [n, 2], positive where it turns counterclockwise by its numbers."""
    x, y = (ring - ring[0]).T
    return float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum() / 2)


def _traced(prob: Float32Array, level: float, size: tuple[int, ...]) -> list[list[Float64Array]]:
    """For each region its outer ring, then those of its holes."""
    inside: NDArray[np.bool_] = np.greater(prob, level)
    if not inside.any():
        return []
    rows, y, above, below = _span(np.any(inside, axis=1), size[0])
    columns, x, left, right = _span(np.any(inside, axis=0), size[1])
    values = prob[rows, columns].astype(np.float64)
    values += np.where(inside[rows, columns], _MARGIN, -_MARGIN)
    # Half a pixel beyond the last centres, on the picture's border, the field has the last pixels' values.
    values = np.pad(values, ((above, below), (left, right)), "edge")
    # Not by `contour_generator`: it looks for NaN twice, which takes as long as the tracing of a small field.
    no_mask: Any = None
    generator = contourpy.SerialContourGenerator(
        *np.meshgrid(x, y),
        values,
        no_mask,
        corner_mask=False,
        line_type=contourpy.LineType.Separate,
        fill_type=contourpy.FillType.OuterOffset,
        quad_as_tri=False,
        z_interp=contourpy.ZInterp.Linear,
    )
    filled: Any = generator.filled(level, np.inf)
    return [
        [ring[begin:end] for begin, end in itertools.pairwise(starts.tolist())]
        for ring, starts in zip(*filled, strict=True)
    ]


def _span(inside: NDArray[np.bool_], length: int) -> tuple[slice, Float64Array, int, int]:
    """Where the regions lie along one side of the field, with one pixel more around them.

    Args:
        inside: Per row (or column), whether there is any of a region.
        length: Of the picture's side, in whose pixels positions are.

    Returns:
        The rows; their centres' positions, with the picture's border before and behind where they reach it;
        and how many of these there are, 0 or 1.
    """
    within, count = np.flatnonzero(inside), len(inside)
    first, last = max(int(within[0]) - 1, 0), min(int(within[-1]) + 2, count)
    before, behind = int(within[0] == 0), int(within[-1] == count - 1)
    positions = np.arange(first - before, last + behind) + 0.5
    return slice(first, last), positions.clip(0, count) * (length / count), before, behind


def _fewer(ring: Float64Array, tolerance: float) -> Float64Array:
    """Leave out points of a closed ring that lie within the tolerance of the line without them."""
    points = ring[:, 0] + 1j * ring[:, 1]
    keep = np.zeros(len(ring), bool)
    # The first point and the one farthest from it stay: they cut the ring into two open lines.
    keep[[0, int(np.abs(points - points[0]).argmax()), -1]] = True
    while True:  # each round cuts all lines at once, each at its worst point
        corners = np.flatnonzero(keep)
        lengths = corners[1:] - corners[:-1]
        begin = points[corners]
        along = (begin[1:] - begin[:-1]).repeat(lengths)
        offset = points[:-1] - begin[:-1].repeat(lengths)
        share = (offset * along.conj()).real / np.maximum(np.abs(along) ** 2, 1e-12)
        distance = np.abs(offset - share.clip(0, 1) * along)
        worst = np.maximum.reduceat(distance, corners[:-1]).repeat(lengths)
        added = (distance == worst) & (distance > tolerance)
        if not added.any():
            return ring[keep] if keep.sum() > 3 else ring  # fewer would hold no area
        keep[:-1] |= added


def _cross(rings: list[Float64Array]) -> bool:
    """Whether any two lines of the rings cross (lines that share an end do not)."""
    if not rings:
        return False
    lines = np.concatenate([np.stack([ring[:-1], ring[1:]], axis=1) for ring in rings])
    lines = lines[np.argsort(lines[:, :, 0].min(axis=1))]
    low, high = lines.min(axis=1), lines.max(axis=1)
    # Sorted from left to right: a line meets only those of its followers that begin before it ends.
    followers = np.searchsorted(low[:, 0], high[:, 0], "right") - np.arange(len(lines)) - 1
    for begin in range(0, len(lines), _CHUNK):
        counts = followers[begin : begin + _CHUNK]
        one = begin + np.repeat(np.arange(len(counts)), counts)
        two = one + 1 + np.arange(len(one)) - np.repeat(counts.cumsum() - counts, counts)
        meet = (low[one, 1] <= high[two, 1]) & (low[two, 1] <= high[one, 1])
        (a, b), (c, d) = np.moveaxis(lines[one[meet]], 1, 0), np.moveaxis(lines[two[meet]], 1, 0)
        if ((_side(a, b, c) * _side(a, b, d) < 0) & (_side(c, d, a) * _side(c, d, b) < 0)).any():
            return True
    return False


def _side(a: Float64Array, b: Float64Array, point: Float64Array) -> Float64Array:
    """Positive where the points lie on one hand of the lines from a to b, negative on the other; [n]."""
    line, away = b - a, point - a
    side: Float64Array = np.sign(line[:, 0] * away[:, 1] - line[:, 1] * away[:, 0])
    return side
