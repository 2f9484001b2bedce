"""What makes an image hard, measured from the image and its true mask alone: the subgroups' raw values.

Every value is an estimate from pixels, not a clinical finding; what it can and cannot say stands beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Mask = NDArray[np.uint8]
Floats = NDArray[np.float32]

RING = (2.0, 12.0)
"""The skin around a lesion: from 2 to 12 percent of the diagonal away from its true mask."""
FEW = 0.005
"""A ring with less than this share of the picture's pixels is too small to say anything of the skin."""
BLACK = 15.0
"""Below this lightness (CIELAB L*) a pixel is the dark surround of the dermatoscope's field, not skin."""
HAIR_WIDTH = 3.5
"""Percent of the smaller side: dark structures thinner than this may be hairs."""
HAIR_DEPTH = 12.0
"""By how many units of lightness (CIELAB L*, 0–100) a hair is darker than the skin beside it, at least."""


@dataclass(frozen=True)
class Appearance:
    """Of one image; NaN where there is no skin (or no lesion) to measure."""

    lesion_fraction: float
    """Lesion pixels over all pixels, in [0, 1]."""
    contrast: float
    """CIELAB colour difference ΔE*ab (CIE 1976) between the median lesion and the median skin around it."""
    ita: float
    """Individual typology angle of the median skin around the lesion, in degrees (Chardon et al. 1991). A
    proxy of skin tone: light, camera and white balance move it, and nothing here was calibrated. NaN also
    where the skin is not yellowish at all (b* ≤ 0): that is a colour cast, and the angle means nothing."""
    hair: float
    """Share of the pixels outside the lesion with a strong black-hat response (thin dark structures), in
    [0, 1]: hairs, and also ruler marks, ink and dark vessels."""
    border: float
    """Share of the picture's frame that is lesion, in [0, 1]: above 0 the picture cuts the lesion off."""


def measure(image: Image, true_mask: Mask) -> Appearance:
    """Raw values of one image.

    Args:
        image: uint8 [h, w, 3], RGB (sRGB is assumed).
        true_mask: {0, 1} uint8 [h, w].
    """
    lesion = true_mask.astype(bool)
    lab = srgb_to_lab(image)
    ring = surrounding_skin(lesion) & (lab[..., 0] >= BLACK)
    contrast = ita = hair = float("nan")
    if ring.mean() >= FEW:
        skin = np.median(lab[ring], axis=0)
        ita = typology_angle(float(skin[0]), float(skin[2]))
        if lesion.any():
            contrast = float(np.linalg.norm(np.median(lab[lesion], axis=0) - skin))
    if (~lesion).mean() >= FEW:
        hair = float(thin_and_dark(lab[..., 0])[~lesion].mean())
    frame = np.concatenate([lesion[0], lesion[-1], lesion[1:-1, 0], lesion[1:-1, -1]])
    return Appearance(float(lesion.mean()), contrast, ita, hair, float(frame.mean()))


def typology_angle(lightness: float, yellowness: float) -> float:
    """ITA = arctan((L* − 50)/b*) in degrees: high for light skin, below −30 for dark; NaN for b* ≤ 0."""
    return float(np.degrees(np.arctan2(lightness - 50, yellowness))) if yellowness > 0 else float("nan")


def surrounding_skin(lesion: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The ring around a lesion, bool [h, w]; of an empty mask everything."""
    if not lesion.any():
        return np.ones_like(lesion)
    percent = 100 / float(np.hypot(*lesion.shape))
    squared = _squared_distance(lesion, int(RING[1] / percent) + 1)
    ring: NDArray[np.bool_] = (percent**2 * squared > RING[0] ** 2) & (percent**2 * squared <= RING[1] ** 2)
    return ring


def thin_and_dark(lightness: Floats) -> NDArray[np.bool_]:
    """Where a structure thinner than HAIR_WIDTH is darker than what is around it by HAIR_DEPTH; bool [h, w].

    The black-hat transform (grey closing by a square, minus the picture) with a threshold, as hair removal
    has it since DullRazor (Lee et al. 1997). The rim of a black surround does not count.
    """
    half = max(3, round(HAIR_WIDTH / 100 * min(lightness.shape)) | 1) // 2
    closed = -_largest_around(-_largest_around(lightness, half), half)
    found: NDArray[np.bool_] = (closed - lightness > HAIR_DEPTH) & (closed >= 2 * BLACK)
    return found


def _squared_distance(lesion: NDArray[np.bool_], reach: int) -> NDArray[np.int32]:
    """Squared distance of each pixel to the nearest lesion pixel, int32 [h, w]; exact up to ``reach``.

    First along the columns, then over the columns on either side (Saito & Toriwaki 1994).
    """
    height, width = lesion.shape
    far = reach + 1
    rows = np.arange(height, dtype=np.int32)[:, None]
    above = rows - np.maximum.accumulate(np.where(lesion, rows, -far), axis=0)
    below = np.minimum.accumulate(np.where(lesion, rows, height + far)[::-1], axis=0)[::-1] - rows
    along = np.minimum(np.minimum(above, below), far) ** 2
    best, farther = along.copy(), along.copy()
    for away in range(1, min(reach, width - 1) + 1):
        farther += 2 * away - 1  # along + away²
        np.minimum(best[:, away:], farther[:, :-away], out=best[:, away:])
        np.minimum(best[:, :-away], farther[:, away:], out=best[:, :-away])
    return best


def _largest_around(values: Floats, half: int) -> Floats:
    """The largest value in the square of 2·half + 1 pixels around each, cut at the picture's frame."""
    for axis in (0, 1):
        found = values.copy()
        for shift in range(1, min(half, values.shape[axis] - 1) + 1):
            ahead = (slice(None),) * axis + (slice(shift, None),)
            behind = (slice(None),) * axis + (slice(None, -shift),)
            np.maximum(found[ahead], values[behind], out=found[ahead])
            np.maximum(found[behind], values[ahead], out=found[behind])
        values = found
    return values


def srgb_to_lab(image: Image) -> Floats:
    """sRGB uint8 [h, w, 3] → CIELAB float32 [h, w, 3] for the D65 white (IEC 61966-2-1, CIE 15)."""
    xyz = _LINEAR[image] @ (_RGB_TO_XYZ / _WHITE[:, None]).T.astype(np.float32)
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1).astype(np.float32)


_UNIT = np.arange(256) / 255
_LINEAR = np.where(_UNIT <= 0.04045, _UNIT / 12.92, ((_UNIT + 0.055) / 1.055) ** 2.4).astype(np.float32)
_RGB_TO_XYZ = np.array(
    [(0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041)]
)
_WHITE = np.array((0.95047, 1.0, 1.08883))
