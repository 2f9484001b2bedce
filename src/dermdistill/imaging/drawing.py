"""Outlines over photographs, as a paper would print them: thin, smooth, nothing filled.

The picture is coloured by each pixel's distance to the outline. Distances are computed along the outline
only, on a grid that shrinks as the line grows wider, so that a photograph of 24 million pixels costs little
more than a thumbnail.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from dermdistill.imaging.contours import Float32Array, Float64Array, polygons

UInt8Array = NDArray[np.uint8]
Color = tuple[int, int, int]

_GRID_WIDTH = 4.0  # width of a wide line on the working grid, in its pixels: enough for a smooth edge
_HALO = 0.6  # darkness beside the line, so that it stands out on light skin and on dark lesions alike
_BLUR = 0.7  # standard deviation in grid pixels: takes off the staircase of a mask's own pixels, no more
_TILE = 160  # side of the squares that are coloured at a time, in pixels
_PIECE = 2.0  # longest stretch of a line that is measured at a time, in grid pixels
_CHUNK = 4096  # pieces measured at a time


def overlay(
    image: UInt8Array, masks: Sequence[tuple[UInt8Array, Color]], width: float | None = None
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

    Example:
        >>> import numpy as np
        >>> mask = np.zeros((64, 64), np.uint8)
        >>> mask[20:40, 20:40] = 1
        >>> drawn = overlay(np.full((64, 64, 3), 200, np.uint8), [(mask, (0, 90, 255))])
        >>> drawn.shape, drawn[30, 30].tolist()  # inside, nothing has changed
        ((64, 64, 3), [200, 200, 200])
        >>> bool(drawn[30, 20, 2] > drawn[30, 20, 0])  # the line is blue
        True
    """
    height, across = image.shape[:2]
    picture = Image.fromarray(image)
    width = width or line_width(picture.size)
    for mask, color in masks:
        if mask.shape != (height, across):
            raise ValueError(f"mask {mask.shape} does not fit the image {image.shape}")
        draw_outlines(picture, _rings_of(mask, min(1.0, _GRID_WIDTH / width)), color, width)
    return np.array(picture)


def line_width(size: tuple[int, int]) -> float:
    """Width in pixels of the outlines on a picture of a size: 1.5, or a 150th of its shorter side."""
    return max(1.5, min(size) / 150)


def draw_outlines(
    picture: Image.Image, rings: Sequence[Float64Array], color: Color, width: float | None = None
) -> None:
    """Draw closed outlines into a picture, as `overlay` does; parts along the picture's border are left out.

    Args:
        picture: RGB; it is changed.
        rings: Each [n, 2], (x, y) in pixels from the upper left corner (see `contours.Polygon`).
        color: RGB.
        width: Of the line in pixels; by default `line_width`.
    """
    width = width or line_width(picture.size)
    halo = max(1.0, 0.45 * width)
    reach = width / 2 + halo
    zoom = min(1.0, _GRID_WIDTH / width)
    lines = _without_border(rings, picture.size)
    if not len(lines):
        return
    on_grid = (lines * zoom - 0.5).astype(np.float32)  # (0, 0) is now the centre of the grid's first pixel
    field, (left, top) = _distance_field(on_grid, reach * zoom + (zoom < 1))
    height, across = field.shape
    whole = Image.fromarray(field)
    for x0, y0, x1, y1 in _tiles(picture.size, (left, top, left + across, top + height), zoom):
        box = x0 * zoom - left, y0 * zoom - top, x1 * zoom - left, y1 * zoom - top
        columns, rows = (slice(max(math.floor(box[i]) - 1, 0), math.ceil(box[i + 2]) + 1) for i in (0, 1))
        if field[rows, columns].min() >= reach * zoom:
            continue
        if zoom < 1:
            part = np.asarray(whole.resize((x1 - x0, y1 - y0), Image.Resampling.BILINEAR, box))
        else:
            part = field[y0 - top : y1 - top, x0 - left : x1 - left]
        near = part * np.float32(-1 / zoom)
        for ink, start, slope, most in (
            ((0, 0, 0), reach, 255 * _HALO / halo, 255 * _HALO),
            (color, width / 2 + 0.5, 255.0, 255.0),
        ):
            layer = near + np.float32(start)
            layer *= np.float32(slope)
            opacity = layer.clip(0, most, out=layer).astype(np.uint8)
            picture.paste(ink, (x0, y0), Image.fromarray(opacity))


def _rings_of(mask: UInt8Array, zoom: float) -> list[Float64Array]:
    """The outlines of a mask, smoothed on a grid of its size times the zoom."""
    height, across = mask.shape
    grid = max(1, round(across * zoom)), max(1, round(height * zoom))
    area = Image.fromarray((mask > 0).astype(np.uint8) * np.uint8(255))
    soft = area.resize(grid, Image.Resampling.BOX).filter(ImageFilter.GaussianBlur(_BLUR))
    values = np.asarray(soft, dtype=np.float32) / np.float32(255)
    return [
        ring
        for polygon in polygons(values, tolerance=0.05 / zoom, size=(height, across))
        for ring in (polygon.exterior, *polygon.holes)
    ]


def _without_border(rings: Sequence[Float64Array], size: tuple[int, int]) -> Float64Array:
    """The rings' lines [n, 2 ends, 2] but those that run along the picture's border."""
    if not rings:
        return np.zeros((0, 2, 2))
    lines = np.concatenate([np.stack([ring[:-1], ring[1:]], axis=1) for ring in rings])
    at_border = np.concatenate([lines <= 1e-6, lines >= np.array(size) - 1e-6], axis=2)
    along_border = np.all(at_border, axis=1)
    return lines[~np.any(along_border, axis=1)]


def _distance_field(lines: Float32Array, reach: float) -> tuple[Float32Array, tuple[int, int]]:
    """Distance to the nearest line of the pixels around them, in pixels; larger where it is beyond ``reach``.

    Args:
        lines: [n, 2 ends, 2], (x, y) from the first pixel's centre.
        reach: In pixels.

    Returns:
        The part of the field around the lines, float32 [h, w], and its left upper pixel (x, y).
    """
    counts = np.ceil(np.hypot(*(lines[:, 1] - lines[:, 0]).T) / _PIECE).astype(np.int64).clip(1)
    within = (np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)).astype(np.float32)
    along = np.repeat((lines[:, 1] - lines[:, 0]) / counts[:, None].astype(np.float32), counts, axis=0)
    start = np.repeat(lines[:, 0], counts, axis=0) + within[:, None] * along
    middle = np.rint(start + along / 2).astype(np.int64)
    side = math.ceil(reach + _PIECE / 2 + 0.5)
    origin, end = middle.min(axis=0) - side, middle.max(axis=0) + side + 1
    field = np.full(int((end - origin).prod()), 1e6, np.float32)
    y, x = (axis.ravel() for axis in np.mgrid[-side : side + 1, -side : side + 1])
    row = int(end[0] - origin[0])
    step_x, step_y = x.astype(np.float32), y.astype(np.float32)
    for begin in range(0, len(start), _CHUNK):
        part = slice(begin, begin + _CHUNK)
        (along_x, along_y), offset = along[part].T[..., None], (middle[part] - start[part]).astype(np.float32)
        off_x, off_y = offset[:, :1] + step_x, offset[:, 1:] + step_y
        share = off_x * along_x
        share += off_y * along_y
        share /= np.maximum(along_x**2 + along_y**2, 1e-12)
        share.clip(0, 1, out=share)
        off_x -= share * along_x
        off_y -= share * along_y
        squared = np.multiply(off_x, off_x, out=off_x)
        squared += np.multiply(off_y, off_y, out=off_y)
        corner = middle[part] - origin
        pixel = (corner[:, 1] * row + corner[:, 0])[:, None] + (y * row + x)
        np.minimum.at(field, pixel.ravel(), squared.ravel())
    return np.sqrt(field).reshape(-1, row), (int(origin[0]), int(origin[1]))


def _tiles(
    size: tuple[int, int], around: tuple[int, int, int, int], zoom: float
) -> list[tuple[int, int, int, int]]:
    """Squares of a picture that cover a box of its grid, within both: (x0, y0, x1, y1) each."""
    left, top, right, bottom = (
        min(max(bound(edge / zoom), 0), most)
        for edge, bound, most in zip(
            around, (math.ceil, math.ceil, math.floor, math.floor), size * 2, strict=True
        )
    )
    return [
        (x, y, min(x + _TILE, right), min(y + _TILE, bottom))
        for y in range(top, bottom, _TILE)
        for x in range(left, right, _TILE)
    ]
