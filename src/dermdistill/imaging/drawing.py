"""Outlines of masks over photographs, as a paper would print them: thin, smooth, nothing filled.

The mask's edge is traced as line segments (:mod:`dermdistill.imaging.contours`), and the picture is
coloured by each pixel's distance to them. Distances are computed on a grid that grows and
shrinks with the line's width, so that a photograph of 24 million pixels costs little more than a thumbnail.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from dermdistill.imaging.contours import segments

UInt8Array = NDArray[np.uint8]
Float32Array = NDArray[np.float32]

_GRID_WIDTH = 4.0  # width of the line on the working grid, in its pixels: enough for a smooth edge
_HALO = 0.6  # darkness beside the line, so that it stands out on light skin and on dark lesions alike
_BAND = 256  # rows coloured at a time
_CHUNK = 4096  # segments measured at a time


def overlay(
    image: UInt8Array, masks: Sequence[tuple[UInt8Array, tuple[int, int, int]]], width: float | None = None
) -> UInt8Array:
    """Draw the outline of each mask, antialiased, with a thin dark halo; nothing is filled.

    The line runs along the mask's edge, half inside and half outside; where the picture's border cuts a
    lesion there is no line. Specks much smaller than the line is wide may get none.

    Args:
        image: uint8 [h, w, 3].
        masks: {0, 1} uint8 [h, w] with an RGB colour each, drawn in order.
        width: Width of the line in pixels; by default it grows with the image (1.7 at 256).

    Returns:
        uint8 [h, w, 3], a new array.
    """
    height, across = image.shape[:2]
    width = width or max(1.5, min(height, across) / 150)
    halo = max(1.0, 0.45 * width)
    canvas = np.array(image)
    for mask, color in masks:
        if mask.shape != (height, across):
            raise ValueError(f"mask {mask.shape} does not fit the image {image.shape}")
        for rows, distance in _distances(mask, width, reach=width / 2 + halo + 1):
            near = distance < width / 2 + halo
            edge = distance[near]
            line = np.clip(width / 2 + 0.5 - edge, 0, 1)[:, None]
            shade = _HALO * np.clip((width / 2 + halo - edge) / halo, 0, 1)[:, None]
            pixels = canvas[rows][near] * (1 - shade)
            pixels += (np.array(color, dtype=np.float32) - pixels) * line
            canvas[rows][near] = pixels.round()
    return canvas


def _distances(mask: UInt8Array, width: float, reach: float) -> Iterator[tuple[slice, Float32Array]]:
    """Bands of rows with each pixel's distance to the mask's outline, exact up to ``reach``, then no less."""
    height, across = mask.shape
    zoom = min(_GRID_WIDTH / width, 4.0)
    grid = max(1, round(across * zoom)), max(1, round(height * zoom))
    area = Image.fromarray((mask > 0).astype(np.uint8) * np.uint8(255))
    shrinks = Image.Resampling.BOX if zoom < 1 else Image.Resampling.BILINEAR
    # The blur takes off the staircase of the mask's own pixels, no more.
    soft = area.resize(grid, shrinks).filter(ImageFilter.GaussianBlur(0.6 * max(zoom, 1.3)))
    lines, _ = segments(np.asarray(soft, dtype=np.float32) / np.float32(255))
    if len(lines) == 0:
        return
    field = Image.fromarray(_distance_field(lines, grid[::-1], math.ceil(reach * zoom) + 1))
    for top in range(0, height, _BAND):
        rows = slice(top, min(top + _BAND, height))
        box = 0, rows.start * grid[1] / height, grid[0], rows.stop * grid[1] / height
        size = across, rows.stop - rows.start
        band = field.resize(size, Image.Resampling.BILINEAR, box=box)
        yield rows, np.asarray(band, dtype=np.float32) / np.float32(zoom)


def _distance_field(lines: Float32Array, shape: tuple[int, int], reach: int) -> Float32Array:
    """Distance of each pixel to the nearest segment: float32 ``shape``, ``reach`` where it is farther."""
    height, width = shape[0] + 2 * reach + 2, shape[1] + 2 * reach + 2
    field = np.full(height * width, reach, np.float32)
    around = np.mgrid[-reach : reach + 2, -reach : reach + 2].reshape(2, -1).T.astype(np.float32)
    for begin in range(0, len(lines), _CHUNK):
        start, stop = lines[begin : begin + _CHUNK, 0], lines[begin : begin + _CHUNK, 1]
        pixel = np.floor(start)[:, None] + around
        along = (stop - start)[:, None]
        offset = pixel - start[:, None]
        length = np.maximum((along**2).sum(axis=-1), 1e-12)
        share = np.clip((offset * along).sum(axis=-1) / length, 0, 1)
        distance = np.hypot(*np.moveaxis(offset - along * share[..., None], -1, 0))
        place = (pixel[..., 0] + reach + 1) * width + pixel[..., 1] + reach + 1
        np.minimum.at(field, place.astype(np.int64), distance.astype(np.float32))
    return np.ascontiguousarray(field.reshape(height, width)[reach + 1 : -reach - 1, reach + 1 : -reach - 1])
