"""What a mask looks like beside its image: signs that it is inverted, or that the image alone was turned."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

CLEARLY_DARKER = 10.0
"""Grey levels (0 to 255) by which the image must fit its mask better when it is not turned."""


def border_share(mask: NDArray[np.uint8]) -> float:
    """Share of a mask's outermost pixels that are lesion, 0 to 1; 0 where all of the mask is lesion."""
    if mask.all():
        return 0.0
    border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    return round(float(border.mean()), 4)


def fits_unturned(image: NDArray[np.uint8], mask: NDArray[np.uint8], orientation: int) -> bool:
    """Whether a mask fits its image clearly better when the image is not turned.

    A lesion is darker than its skin: the difference of the mean grey outside and inside of the mask is
    compared for both ways to hold the image.

    Args:
        image: uint8 [s, s, 3], turned as the EXIF orientation says.
        mask: {0, 1} uint8 [s, s].
        orientation: EXIF orientation, 2 to 8.
    """
    inside = mask.astype(bool)
    if inside.all() or not inside.any():
        return False
    turned = image.mean(axis=2)
    stored = _unturned(turned, orientation)
    contrast = [float(grey[~inside].mean() - grey[inside].mean()) for grey in (turned, stored)]
    return contrast[1] > contrast[0] + CLEARLY_DARKER


def _unturned(grey: NDArray[Any], orientation: int) -> NDArray[Any]:
    """A square picture as its file stores it."""
    match orientation:
        case 2:
            return grey[:, ::-1]
        case 3:
            return grey[::-1, ::-1]
        case 4:
            return grey[::-1]
        case 5:
            return grey.T
        case 6:
            return np.rot90(grey)
        case 7:
            return grey[::-1, ::-1].T
        case 8:
            return np.rot90(grey, -1)
    return grey
