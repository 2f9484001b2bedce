"""Outlines with subpixel accuracy: where a field crosses a level, as segments and as closed polygons.

Marching squares: Lorensen and Cline 1987, in two dimensions, with linear interpolation between the pixels'
centres. Every segment keeps the inside on the same hand, so that rings close by following them, and outer
rings and holes turn in opposite directions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Float32Array = NDArray[np.float32]
Float64Array = NDArray[np.float64]
Int64Array = NDArray[np.int64]

_BAND = 512  # rows searched at a time: little memory even on photographs of 24 million pixels
_CHUNK = 256  # lines compared at a time
_MARGIN = 1e-3  # a crossing stays this far (in pixels) from the centres, so that no two of them coincide


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


def polygons(prob: Float32Array, level: float = 0.5, tolerance: float = 0.1) -> list[Polygon]:
    """The regions where a field is above a level, the largest first.

    The picture's border closes the regions that it cuts.

    Args:
        prob: float32 [h, w], each value at the centre of its pixel.
        level: What counts as inside lies above it.
        tolerance: Points are left out as long as the line stays within this distance, in pixels (Douglas and
            Peucker 1973); 0 keeps them all. They are all kept too where lines would cross without them.

    Returns:
        Regions of positive area.
    """
    points, edges = _closed_segments(prob, level)
    rings = list(_rings(points, edges))
    if tolerance > 0:
        simpler = [_simplify(ring, tolerance) for ring in rings]
        rings = rings if _cross(simpler) else simpler
    areas = [signed_area(ring) for ring in rings]
    outer = sorted(((a, r) for a, r in zip(areas, rings, strict=True) if a > 0), key=lambda pair: -pair[0])
    found = [Polygon(ring) for _, ring in outer]
    for area, ring in zip(areas, rings, strict=True):
        if area < 0:
            # A hole belongs to the smallest outer ring around it: the last one, as they are sorted.
            around = [p for p in found if -area < signed_area(p.exterior) and contains(p.exterior, ring[0])]
            if around:
                around[-1].holes.append(ring)
    return sorted(found, key=lambda polygon: -polygon.area)


def segments(values: Float32Array, level: float = 0.5) -> tuple[Float32Array, Int64Array]:
    """Where a field crosses a level, as line segments between neighbouring pixels' centres.

    Args:
        values: float32 [h, w].
        level: The inside lies above it.

    Returns:
        float32 [n, 2, 2]: n segments, their two ends, (y, x) in pixels from the first pixel's centre; and
        int64 [n, 2]: the edge of the grid that each end lies on (at most one starts and one ends on each).
    """
    height, width = values.shape
    if min(height, width) < 2:
        return np.zeros((0, 2, 2), np.float32), np.zeros((0, 2), np.int64)
    y, x = _crossed_cells(values > level)
    # Corners clockwise from the upper left; side k runs from corner k to corner k + 1.
    places = np.stack([(y, x), (y, x + 1), (y + 1, x + 1), (y + 1, x)]).transpose(2, 0, 1)
    names = 2 * (y * width + x)[:, None] + np.array([0, 3, 2 * width, 1])
    corner = values[places[..., 0], places[..., 1]]
    after = np.roll(corner, -1, axis=1)
    inside, then = corner > level, np.roll(corner > level, -1, axis=1)
    crossed = inside != then
    step = (level - corner) / np.where(crossed, after - corner, 1)
    step = np.clip(step, _MARGIN, 1 - _MARGIN)
    points = places + (np.roll(places, -1, axis=1) - places) * step[..., None]
    # A segment starts where the way around its cell leaves the inside, and ends where it comes in again. Two
    # of them (a saddle) end at the next side where the cell's middle is inside, else at the side before.
    starts = inside & ~then
    row, first = np.nonzero(starts)
    saddle = crossed.all(axis=1)[row]
    other = (crossed & ~starts).argmax(axis=1)[row]
    middle = corner.mean(axis=1)[row] > level
    last = np.where(saddle, (first + np.where(middle, 1, 3)) % 4, other)
    ends = np.stack([points[row, first], points[row, last]], axis=1).astype(np.float32)
    return ends, np.stack([names[row, first], names[row, last]], axis=1)


def signed_area(ring: Float64Array) -> float:
    """Shoelace area of a closed ring [n, 2], positive where it turns counterclockwise by its numbers."""
    x, y = (ring - ring[0]).T
    return float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum() / 2)


def contains(ring: Float64Array, point: Float64Array) -> bool:
    """Whether a closed ring [n, 2] goes around a point [2] (even-odd rule)."""
    (x, y), (px, py) = ring.T, point
    spans = (y[:-1] > py) != (y[1:] > py)
    x0, y0, x1, y1 = x[:-1][spans], y[:-1][spans], x[1:][spans], y[1:][spans]
    return bool((x0 + (py - y0) / (y1 - y0) * (x1 - x0) > px).sum() % 2)


def _crossed_cells(inside: NDArray[np.bool_]) -> tuple[Int64Array, Int64Array]:
    """(y, x) of the upper left corners of the 2 × 2 cells that are neither all inside nor all outside."""
    bits = inside.view(np.uint8)
    count = bits[:-1, :-1] + bits[:-1, 1:]
    count += bits[1:, :-1]
    count += bits[1:, 1:]
    # 1, 2 or 3 of 4; one comparison, as 0 − 1 is 255 in eight bits.
    y, x = np.nonzero((count - np.uint8(1)) < 3)
    return y, x


def _closed_segments(prob: Float32Array, level: float) -> tuple[Float64Array, Int64Array]:
    """Segments, (x, y), of the field with a rim that closes regions half a pixel beyond the last centres."""
    height, width = prob.shape
    points, edges = [], []
    for top in range(0, height + 1, _BAND):
        bottom = min(top + _BAND, height + 1)  # rows top … bottom of the field with its rim
        band = np.pad(prob[max(top - 1, 0) : bottom], ((top == 0, bottom == height + 1), (1, 1)), "edge")
        rims = [band[:, :1], band[:, -1:]]
        rims += [band[:1]] * (top == 0) + [band[-1:]] * (bottom == height + 1)
        for rim in rims:  # mirrored at the level: the crossing lies midway, on the picture's border
            np.minimum(2 * level - rim, level, out=rim)
        ends, names = segments(band, level)
        points.append(ends.astype(np.float64) + np.array([top - 0.5, -0.5]))
        edges.append(names + 2 * top * (width + 2))
    return np.concatenate(points)[..., ::-1], np.concatenate(edges)


def _rings(points: Float64Array, edges: Int64Array) -> Iterator[Float64Array]:
    """Closed rings [n, 2], by going from each segment to the one that starts on the edge where it ends."""
    order = np.argsort(edges[:, 0])
    following = order[np.searchsorted(edges[order, 0], edges[:, 1])].tolist() if len(edges) else []
    seen = bytearray(len(following))
    for start in range(len(following)):
        ring = []
        at = start
        while not seen[at]:
            seen[at] = 1
            ring.append(at)
            at = following[at]
        if len(ring) > 2:
            yield points[[*ring, start], 0]


def _simplify(ring: Float64Array, tolerance: float) -> Float64Array:
    """Leave out points of a closed ring that lie within the tolerance of the line without them."""
    keep = np.zeros(len(ring), bool)
    # The first point and the one farthest from it stay: they cut the ring into two open lines.
    far = int(np.hypot(*(ring - ring[0]).T).argmax())
    keep[[0, far, -1]] = True
    waiting = [(0, far), (far, len(ring) - 1)]
    while waiting:
        start, stop = waiting.pop()
        if stop - start < 2:
            continue
        inner, line = ring[start + 1 : stop] - ring[start], ring[stop] - ring[start]
        share = np.clip(inner @ line / max(float(line @ line), 1e-12), 0, 1)
        distance = np.hypot(*(inner - share[:, None] * line).T)
        worst = int(distance.argmax())
        if distance[worst] > tolerance:
            keep[start + 1 + worst] = True
            waiting += [(start, start + 1 + worst), (start + 1 + worst, stop)]
    return ring[keep] if keep.sum() > 3 else ring  # fewer would hold no area


def _cross(rings: list[Float64Array]) -> bool:
    """Whether any two lines of the rings cross (lines that share an end do not)."""
    if not rings:
        return False
    lines = np.concatenate([np.stack([ring[:-1], ring[1:]], axis=1) for ring in rings])
    low, high = lines.min(axis=1), lines.max(axis=1)
    order = np.argsort(low[:, 0])
    lines, low, high = lines[order], low[order], high[order]
    for begin in range(0, len(lines), _CHUNK):
        # Sorted from left to right: a line meets only those that begin before it ends.
        part = slice(begin, begin + _CHUNK)
        others = slice(begin, int(np.searchsorted(low[:, 0], high[part, 0].max(), "right")))
        meet = (low[part, None] <= high[None, others]) & (low[None, others] <= high[part, None])
        one, two = np.nonzero(meet.all(axis=2))
        (a, b), (c, d) = np.moveaxis(lines[part][one], 1, 0), np.moveaxis(lines[others][two], 1, 0)
        if ((_side(a, b, c) * _side(a, b, d) < 0) & (_side(c, d, a) * _side(c, d, b) < 0)).any():
            return True
    return False


def _side(a: Float64Array, b: Float64Array, point: Float64Array) -> Float64Array:
    """Positive where the points lie on one hand of the lines from a to b, negative on the other; [n]."""
    line, away = b - a, point - a
    side: Float64Array = np.sign(line[:, 0] * away[:, 1] - line[:, 1] * away[:, 0])
    return side
