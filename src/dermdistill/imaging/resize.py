"""To the network's square and back: pictures, masks, probabilities."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dermdistill.imaging.arrays import Float32Array, UInt8Array

_BAND = 64  # rows restored at a time: they stay in the processor's cache


def resize_image(image: UInt8Array | Image.Image, size: int) -> UInt8Array:
    """Squash to a square with antialiased bilinear filtering.

    Args:
        image: RGB, uint8 [h, w, 3] or Pillow's.
        size: Side of the square in pixels.

    Returns:
        uint8 [size, size, 3], perhaps read-only.
    """
    picture = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    if picture.size != (size, size):
        picture = picture.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=3.0)
    return np.asarray(picture)


def resize_mask(mask: UInt8Array, size: int) -> UInt8Array:
    """Squash a {0, 1} mask to a square: a pixel is lesion where at least half of its area is."""
    if mask.shape == (size, size):
        return np.ascontiguousarray(mask)
    # In floating point: eight bits would round twice, and turn some exact halves down.
    area = Image.fromarray(mask.astype(np.float32)).resize((size, size), Image.Resampling.BOX)
    return (np.asarray(area) >= 0.5 - 1e-5).astype(np.uint8)


def restore_prob(prob: Float32Array, height: int, width: int) -> Float32Array:
    """Bring a probability map back to native size; float32 [s, s] → [height, width].

    Bilinear between pixel centres, edges held (torch's ``align_corners=False``); a side that shrinks is
    antialiased as in `resize_image`. Little memory is taken beside what is returned.
    """
    restoring = _Restoring(prob, height, width)
    if restoring.prob.shape == (height, width):
        return restoring.prob
    restored = np.empty((height, width), np.float32)
    for rows in restoring.bands(0, height):
        restoring.write(rows, slice(0, width), restored[rows])
    return restored


def restore_grey(prob: Float32Array, height: int, width: int, white: float = 1.0) -> UInt8Array:
    """`restore_prob` in grey levels, uint8 [height, width]: 0 for 0, 255 for ``white``; in little memory."""
    restoring = _Restoring(prob, height, width)
    grey = np.empty((height, width), np.uint8)
    buffer = np.empty((_BAND, width), np.float32)
    for rows in restoring.bands(0, height):
        values = restoring.write(rows, slice(0, width), buffer[: rows.stop - rows.start])
        values *= np.float32(255 / white)
        grey[rows] = np.round(values, out=values)
    return grey


def restored_mean(prob: Float32Array, height: int, width: int) -> float:
    """Mean of `restore_prob`, in little memory."""
    restoring = _Restoring(prob, height, width)
    buffer = np.empty((_BAND, width), np.float32)
    total = 0.0
    for rows in restoring.bands(0, height):
        values = restoring.write(rows, slice(0, width), buffer[: rows.stop - rows.start])
        total += float(values.sum(dtype=np.float64))
    return total / (height * width)


@dataclass(frozen=True, eq=False)
class Region:
    """A probability map's pixels above a threshold, at native size, and what they amount to."""

    mask: UInt8Array
    """{0, 1} uint8 [height, width]."""
    count: int
    """How many pixels are 1."""
    prob_sum: float
    """Of their probabilities."""
    bounding_box: tuple[int, int, int, int] | None
    """(x0, y0, x1, y1) in pixels, x1 and y1 exclusive; None where there is none."""


def restore_region(prob: Float32Array, height: int, width: int, threshold: float) -> Region:
    """`to_mask` of `restore_prob`, bit by bit, computed only where the lesion may be.

    Args:
        prob: float32 [s, s].
        height: In pixels, of the mask.
        width: Likewise.
        threshold: A pixel is lesion where its probability is above this.
    """
    mask = np.zeros((height, width), np.uint8)
    restoring = _Restoring(prob, height, width)
    rows, columns = restoring.reach(threshold)
    count, total = 0, 0.0
    buffer = np.empty((_BAND, columns.stop - columns.start), np.float32)
    for band in restoring.bands(rows.start, rows.stop):
        values = restoring.write(band, columns, buffer[: band.stop - band.start])
        inside = values > threshold
        mask[band, columns] = inside
        count += int(np.count_nonzero(inside))
        total += float(values.sum(where=inside, dtype=np.float64))
    if not count:
        return Region(mask, 0, 0.0, None)
    part = mask[rows, columns]
    y, x = np.flatnonzero(part.any(axis=1)) + rows.start, np.flatnonzero(part.any(axis=0)) + columns.start
    return Region(mask, count, total, (int(x[0]), int(y[0]), int(x[-1]) + 1, int(y[-1]) + 1))


def region_of(prob: Float32Array, threshold: float) -> Region:
    """As `restore_region`, of a map that has its native size already."""
    mask = to_mask(prob, threshold)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return Region(mask, 0, 0.0, None)
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    values = prob[box][mask[box].view(np.bool_)]
    return Region(
        mask,
        len(values),
        float(values.sum(dtype=np.float64)),
        (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1),
    )


def to_mask(prob: Float32Array, threshold: float = 0.5) -> UInt8Array:
    """{0, 1} uint8: lesion where the probability is above the threshold (a logit above 0 at 0.5)."""
    return (prob > threshold).astype(np.uint8)


class _Restoring:
    """`restore_prob` of any part of the picture: the columns first, then rows in bands."""

    def __init__(self, prob: Float32Array, height: int, width: int) -> None:
        prob = np.ascontiguousarray(prob, dtype=np.float32)
        rows, columns = min(height, prob.shape[0]), min(width, prob.shape[1])
        if prob.shape != (rows, columns):
            prob = np.asarray(Image.fromarray(prob).resize((columns, rows), Image.Resampling.BILINEAR))
        self.prob = prob
        self._columns, self._rows = _neighbours(columns, width), _neighbours(rows, height)
        self._wide: tuple[slice, Float32Array] | None = None

    def reach(self, threshold: float) -> tuple[slice, slice]:
        """The rows and columns that values above a threshold may lie in."""
        above = np.greater(self.prob, threshold - 1e-5)  # far more than rounding can add
        spans = []
        for axis, (before, after, _) in ((1, self._rows), (0, self._columns)):
            near: NDArray[np.bool_] = np.any(above, axis=axis)
            within = np.flatnonzero(near[before] | near[after])
            spans.append(slice(int(within[0]), int(within[-1]) + 1) if len(within) else slice(0, 0))
        return spans[0], spans[1]

    @staticmethod
    def bands(start: int, stop: int) -> Iterator[slice]:
        """Some rows at a time: little memory."""
        for top in range(start, stop, _BAND):
            yield slice(top, min(top + _BAND, stop))

    def write(self, rows: slice, columns: slice, out: Float32Array) -> Float32Array:
        """Compute a part of the restored map into an array of its size."""
        if self._wide is None or self._wide[0] != columns:
            left, right, share = self._columns
            wide = self.prob.take(left[columns], axis=1)
            wide *= 1 - share[columns]
            after = self.prob.take(right[columns], axis=1)
            after *= share[columns]
            wide += after
            self._wide = columns, wide
        wide = self._wide[1]
        above, below, share = self._rows
        wide.take(above[rows], axis=0, out=out, mode="clip")  # unlike the other modes, it needs no copy
        out *= (1 - share[rows])[:, None]
        after = wide.take(below[rows], axis=0)
        after *= share[rows, None]
        out += after
        return out


def _neighbours(old: int, new: int) -> tuple[NDArray[np.int64], NDArray[np.int64], Float32Array]:
    """For each of ``new`` ≥ ``old`` pixels: the old ones before and after its centre, the latter's share."""
    centre = np.clip((np.arange(new) + 0.5) * (old / new) - 0.5, 0, old - 1)
    before = np.floor(centre).astype(np.int64)
    return before, np.minimum(before + 1, old - 1), (centre - before).astype(np.float32)
