"""Decode, orient, resize, restore, overlay: the only preprocessing there is.

Training (through `prepare`) and prediction call the same functions, so that both see the same pixels.
"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageOps, UnidentifiedImageError

from dermdistill.errors import DataError
from dermdistill.files import atomic_path

UInt8Array = NDArray[np.uint8]
Float32Array = NDArray[np.float32]
Source = Path | bytes | BinaryIO

MAX_PIXELS = 200_000_000
"""Largest image that is decoded, in pixels: checked in the header, before any memory is taken."""

_ORIENTATION = 0x0112  # EXIF
_SWAPS_SIDES = (5, 6, 7, 8)


def read_image(source: Source, *, near: int | None = None) -> UInt8Array:
    """Decode an image as RGB, turned as its EXIF orientation says.

    Grey, palette, CMYK and 16-bit images are converted (16 bits keep their upper eight); transparent pixels
    are laid on white.

    Args:
        source: A path, the bytes of a file, or an open binary file.
        near: Let the JPEG decoder shrink (by 2, 4 or 8) while both sides stay at least twice this; saves time
            and memory on photographs, and leaves the antialiasing to `resize_image`.

    Returns:
        uint8 [h, w, 3].

    Raises:
        DataError: Not an image, truncated, or larger than MAX_PIXELS.
    """
    with _Opened(source) as image:
        if near is not None:
            image.draft("RGB", (2 * near, 2 * near))
        return np.asarray(_to_rgb(_oriented(image, source)))


def read_mask(source: Source) -> tuple[UInt8Array, bool]:
    """Decode a mask, thresholded above 127.

    Returns:
        {0, 1} uint8 [h, w], and whether there were values between black and white (JPEG masks have them).

    Raises:
        DataError: As for `read_image`.
    """
    with _Opened(source) as image:
        grey = np.asarray(_to_rgb(_oriented(image, source)).convert("L"))
    greys = bool(((grey > 0) & (grey < 255)).any())
    return (grey > 127).astype(np.uint8), greys


def image_size(source: Source) -> tuple[int, int]:
    """(width, height) after orientation, from the header alone.

    Raises:
        DataError: Not an image, or larger than MAX_PIXELS.
    """
    with _Opened(source) as image:
        width, height = image.size
        turned = image.getexif().get(_ORIENTATION) in _SWAPS_SIDES
    return (height, width) if turned else (width, height)


def resize_image(image: UInt8Array, size: int) -> UInt8Array:
    """Squash to a square with antialiased bilinear filtering; uint8 [h, w, 3] → [size, size, 3]."""
    if image.shape[:2] == (size, size):
        return np.ascontiguousarray(image)
    resized = Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR, reducing_gap=3.0)
    return np.asarray(resized)


def resize_mask(mask: UInt8Array, size: int) -> UInt8Array:
    """Squash a {0, 1} mask to a square: a pixel is lesion where at least half of its area is."""
    if mask.shape == (size, size):
        return np.ascontiguousarray(mask)
    area = Image.fromarray(mask * np.uint8(255)).resize((size, size), Image.Resampling.BOX)
    return (np.asarray(area) > 127).astype(np.uint8)


def restore_prob(prob: Float32Array, height: int, width: int) -> Float32Array:
    """Bring a probability map back to native size, bilinear; float32 [s, s] → [height, width]."""
    if prob.shape == (height, width):
        return prob
    restored = Image.fromarray(prob.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(restored)


def to_mask(prob: Float32Array, threshold: float = 0.5) -> UInt8Array:
    """{0, 1} uint8: lesion where the probability is above the threshold (a logit above 0 at 0.5)."""
    return (prob > threshold).astype(np.uint8)


def overlay(
    image: UInt8Array, masks: Sequence[tuple[UInt8Array, tuple[int, int, int]]], width: float | None = None
) -> UInt8Array:
    """Draw the outline of each mask, antialiased, with a thin dark halo; nothing is filled.

    Args:
        image: uint8 [h, w, 3].
        masks: {0, 1} uint8 [h, w] with an RGB colour each, drawn in order.
        width: Width of the line in pixels; by default it grows with the image.

    Returns:
        uint8 [h, w, 3].
    """
    width = width or max(1.6, min(image.shape[:2]) / 150)
    canvas = image.astype(np.float32)
    for mask, color in masks:
        distance = _distance_to_outline(mask, reach=width * 2)
        halo = np.clip(width / 2 + max(0.6, width / 4) + 0.5 - distance, 0, 1)[..., None] * 0.55
        line = np.clip(width / 2 + 0.5 - distance, 0, 1)[..., None]
        canvas = canvas * (1 - halo)
        canvas = canvas * (1 - line) + np.array(color, dtype=np.float32) * line
    return canvas.round().astype(np.uint8)


def write_png(path: Path, array: UInt8Array) -> None:
    """Write an RGB image, or a {0, 1} mask as 0/255, atomically."""
    if array.ndim == 2 and array.max(initial=0) <= 1:
        array = array * np.uint8(255)
    with atomic_path(path) as temporary:
        Image.fromarray(array).save(temporary)


def _distance_to_outline(mask: UInt8Array, reach: float) -> Float32Array:
    """Distance of each pixel to the mask's smoothed outline, exact near it, at least ``reach`` far from it.

    A blurred step crosses one half at the edge; its value there divided by its slope is the distance,
    smoother than the pixels' staircase.
    """
    sigma = max(1.0, reach / 2)
    # Without a margin, a lesion cut by the border would be outlined along the border.
    blurred = Image.fromarray(mask * np.uint8(255)).convert("F").convert("L")
    soft = np.asarray(blurred.filter(ImageFilter.GaussianBlur(sigma)), dtype=np.float32) / 255
    slope = np.maximum(np.hypot(*np.gradient(soft)), 1e-4) if min(soft.shape) > 1 else np.float32(1)
    distance: Float32Array = (np.abs(soft - 0.5) / slope).astype(np.float32)
    return distance


class _Opened:
    """Open an image with its size checked, and turn every fault of a broken file into one error."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.name = str(source) if isinstance(source, Path) else "image"

    def __enter__(self) -> Image.Image:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                stream = io.BytesIO(self.source) if isinstance(self.source, bytes) else self.source
                self.image = Image.open(stream)
        except FileNotFoundError:
            raise DataError(f"{self.name} does not exist.") from None
        except (
            UnidentifiedImageError,
            Image.DecompressionBombError,
            OSError,
            ValueError,
            SyntaxError,
        ) as error:
            raise DataError(
                f"{self.name} cannot be read as an image: {error}.", "JPEG, PNG, BMP or TIFF"
            ) from None
        width, height = self.image.size
        if width * height > MAX_PIXELS:
            self.image.close()
            raise DataError(f"{self.name} has {width} × {height} pixels.", f"at most {MAX_PIXELS:,} pixels")
        return self.image

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self.image.close()
        if isinstance(error, OSError | SyntaxError | ValueError | EOFError | struct.error):
            raise DataError(f"{self.name} is broken: {error}.", "a complete image file") from None


def _oriented(image: Image.Image, source: Source) -> Image.Image:
    image.load()
    return ImageOps.exif_transpose(image)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I;16", "I;16B", "I;16L", "I"):
        image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")
