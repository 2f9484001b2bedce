"""Mask files as {0, 1}, however they are written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import JpegImagePlugin

from dermdistill.imaging.arrays import UInt8Array
from dermdistill.imaging.decode import Source, opened, oriented, parts, to_rgb


@dataclass(frozen=True, eq=False)
class MaskFile:
    """A decoded mask, and how its file writes what is lesion.

    Attributes:
        mask: {0, 1} uint8 [h, w].
        greys: Whether there were values between black and white (JPEG masks have them).
        written_as: ``0/255``, ``0/1``, ``16 bits``, ``fractions`` (floating point, 0 to 1), ``palette index``
            or ``nothing`` (all black).
    """

    mask: UInt8Array
    greys: bool
    written_as: str


def read_mask(source: Source) -> tuple[UInt8Array, bool]:
    """Decode a mask as {0, 1}, however its file writes it (`decode_mask`).

    Returns:
        {0, 1} uint8 [h, w], and whether there were values between black and white (JPEG masks have them).

    Raises:
        DataError: As for `read_image`, or the values are no mask's.
    """
    decoded = decode_mask(source)
    return decoded.mask, decoded.greys


def decode_mask(source: Source) -> MaskFile:
    """Decode a mask as {0, 1}, and say how its file writes it.

    Lesion is what is above half of white: above 127 in 8 bits (of a coloured mask the brightest channel
    counts), above 32767 in 16 bits, above 0.5 in fractions. Where no value is above 1, it is 1 that is
    lesion, but not in JPEG, whose black may be 1; 16 bits that reach no further than 255 are read as 8. A
    palette whose colours do not part lesion from skin is read by its index: 0 is skin.

    Args:
        source: As for `read_image`.

    Raises:
        DataError: As for `read_image`, or the values are no mask's.
    """
    with opened(source) as image:
        is_jpeg = isinstance(image, JpegImagePlugin.JpegImageFile)
        turned = oriented(image)
        if turned.mode in ("F", "I") or turned.mode.startswith("I;"):
            return _mask_of_numbers(np.asarray(turned))
        if turned.mode in ("1", "L"):
            grey = np.asarray(turned if turned.mode == "L" else turned.convert("L"))
        else:  # what is transparent is no lesion
            pieces = [np.asarray(to_rgb(turned.crop(part), "black")).max(axis=2) for part in parts(turned)]
            grey = np.concatenate(pieces)
        white = grey > 127
        if turned.mode == "P":
            index = np.asarray(turned)
            if index.any() and not white.any():
                return MaskFile((index > 0).astype(np.uint8), False, "palette index")
        most = int(grey.max(initial=0))
        if most == 0:
            return MaskFile(white.view(np.uint8), False, "nothing")
        if most == 1 and not is_jpeg:
            return MaskFile(grey, False, "0/1")
    greys = bool((grey - np.uint8(1) < 254).any())  # 0 becomes 255: one comparison for both ends
    return MaskFile(white.view(np.uint8), greys, "0/255")


def _mask_of_numbers(values: NDArray[Any]) -> MaskFile:
    """The mask that 16 or 32 bits or floating-point numbers write."""
    most = values.max(initial=0)
    if not np.isfinite(values).all() or values.min(initial=0) < 0 or most > 65535:
        raise ValueError(f"its values reach from {values.min()} to {most}: no mask's")
    if most == 0:
        return MaskFile(np.zeros(values.shape, np.uint8), False, "nothing")
    if most <= 1:
        white, written_as = 1, "fractions" if values.dtype.kind == "f" else "0/1"
    elif most <= 255:
        white, written_as = 255, "0/255"
    else:
        white, written_as = 65535, "16 bits"
    greys = bool(((values > 0) & (values < white)).any())
    return MaskFile((values > white / 2).astype(np.uint8), greys, written_as)
