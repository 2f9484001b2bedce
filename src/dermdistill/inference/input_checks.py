"""Reasons not to trust a prediction: of the picture (blur, exposure), of the mask (nothing, several, cut
off), and of both (not dermoscopy).

Limits are quantiles on training images, so that each warning is given for a stated share of good pictures
(`reference_statistics.FALSE_ALARM`) at most; ``benchmarks/trust.py`` measures limits, false alarms and
detection, and ``docs/warnings.md`` lists them. A warning says that the picture is unlike those that the
network was trained on; silence is no promise.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from dermdistill.imaging import Float32Array, UInt8Array, contours
from dermdistill.inference.reference_statistics import (
    Picture,
    distance,
    features,
    fit_reference,
)

Code = Literal[
    "blur", "underexposed", "overexposed", "no_lesion", "several_lesions", "cut_by_border", "not_dermoscopy"
]  # fmt: skip

SHARPNESS_LOW = -8.66
"""Below it the picture is blurred: log of the variance of the Laplacian of the lightness."""
BRIGHTNESS_LOW = 0.602
"""Below it the picture is too dark: its lightness's 95th percentile, 0 to 1."""
GLARE_HIGH = 0.101
"""Above it the picture is too light: share of its pixels with a lightness of 0.97 or more."""
AREA_LOW = 0.005
"""Below it there is no lesion: the largest region's share of the picture."""
SECOND_HIGH = 0.03
"""Above it there are several lesions: the second largest region's area over the largest one's. A network that
leaves specks on good pictures has a higher limit of its own in the card's reference."""
CONTACT_HIGH = 0.1
"""Above it the lesion is cut: the share of the outline that runs along the picture's border."""

_AT_BORDER = 0.01  # of the side: networks draw back from the border by a pixel or two


@dataclass(frozen=True)
class Warn:
    """One reason not to trust a prediction: what was measured, and the limit that it passed."""

    code: Code
    message: str
    value: float
    limit: float

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "value": round(self.value, 4), "limit": round(self.limit, 4)}


@dataclass(frozen=True, eq=False)
class InputChecks:
    """What warnings are judged by: the picture, and the network's probability for it."""

    image: UInt8Array
    """uint8 [SIDE, SIDE, 3] (see `reference_statistics`)."""
    prob: Float32Array
    """float32 [s, s], the probability of lesion at the network's own size."""
    reference: Mapping[str, Any] | None
    """The card's statistics of training images (`reference_statistics.fit_reference`); None: it has none."""

    @property
    def not_checked(self) -> tuple[Code, ...]:
        """Warnings that cannot be given, as the card has no reference."""
        return () if self.reference else ("not_dermoscopy",)

    def warnings(
        self,
        threshold: float,
        regions: Sequence[contours.Polygon] | None = None,
        size: tuple[int, ...] | None = None,
    ) -> tuple[Warn, ...]:
        """All that apply, at a threshold of the probability.

        Args:
            threshold: A pixel is lesion where its probability is above this.
            regions: Its outlines with all their points, the largest first; None: they are traced.
            size: (height, width) of the picture in whose pixels they are.
        """
        second = self.reference["second_limit"] if self.reference else SECOND_HIGH
        if regions is None or size is None:
            statistics = mask_statistics(self.prob, threshold)
        else:
            statistics = region_statistics(regions, size)
        return (*self._of_picture, *_of_mask(statistics, second))

    @functools.cached_property
    def _of_picture(self) -> tuple[Warn, ...]:
        picture = Picture(self.image)
        warnings = []
        if self.reference:
            away, limit = distance(features(picture, self.prob), self.reference), self.reference["limit"]
            if away > limit:
                text = "The picture is unlike the dermoscopic images that the network was trained on."
                warnings.append(Warn("not_dermoscopy", text, away, limit))
        if (value := sharpness(picture)) < SHARPNESS_LOW:
            text = "The picture has little fine detail: out of focus, moved, or of low resolution."
            warnings.append(Warn("blur", text, value, SHARPNESS_LOW))
        # A count first: the quantile takes twenty times as long, and few pictures are dark.
        if (
            np.count_nonzero(picture.lightness >= BRIGHTNESS_LOW) < 0.06 * picture.lightness.size
            and (value := brightness(picture)) < BRIGHTNESS_LOW
        ):
            text = "The picture is darker than the training images: under-exposed, or of darker skin."
            warnings.append(Warn("underexposed", text, value, BRIGHTNESS_LOW))
        if (value := glare(picture)) > GLARE_HIGH:
            text = "A large part of the picture is white: over-exposed, or full of reflections."
            warnings.append(Warn("overexposed", text, value, GLARE_HIGH))
        return tuple(warnings)


def _of_mask(statistics: Mapping[str, float], second_limit: float) -> list[Warn]:
    if statistics["area"] < AREA_LOW:
        return [Warn("no_lesion", "No lesion was found, or only specks.", statistics["area"], AREA_LOW)]
    warnings = []
    if statistics["second"] > second_limit:
        text = "Several lesions were found; measures of shape are of the largest one."
        warnings.append(Warn("several_lesions", text, statistics["second"], second_limit))
    if statistics["contact"] > CONTACT_HIGH:
        text = "The picture's border cuts the lesion: its size and shape are not known."
        warnings.append(Warn("cut_by_border", text, statistics["contact"], CONTACT_HIGH))
    return warnings


def fit_from_checks(checks: Sequence[InputChecks], threshold: float) -> dict[str, Any]:
    """A card's ``reference`` from good pictures, at the card's threshold.

    Args:
        checks: Of some hundred training images.
        threshold: Of the probability.

    Returns:
        Plain values (see `reference_statistics.fit_reference`).

    Raises:
        DataError: There are too few of them.
    """
    seconds = [mask_statistics(each.prob, threshold)["second"] for each in checks]
    rows = [features(Picture(each.image), each.prob) for each in checks]
    return fit_reference(rows, seconds, SECOND_HIGH)


def sharpness(picture: Picture) -> float:
    """Log of the variance of the Laplacian of the lightness."""
    return float(np.log(picture.laplacian_variance + 1e-12))


def brightness(picture: Picture) -> float:
    """95th percentile of the lightness, 0 to 1."""
    return float(np.quantile(picture.lightness, 0.95))


def glare(picture: Picture) -> float:
    """Share of the pixels with a lightness of 0.97 or more."""
    return np.count_nonzero(picture.lightness >= 0.97) / picture.lightness.size


def picture_statistics(image: UInt8Array) -> dict[str, float]:
    """Sharpness, brightness and glare of uint8 [SIDE, SIDE, 3]."""
    picture = Picture(image)
    return {"sharpness": sharpness(picture), "brightness": brightness(picture), "glare": glare(picture)}


def mask_statistics(prob: Float32Array, threshold: float) -> dict[str, float]:
    """Area, second and contact of the regions above a threshold, as the limits above define them; [s, s]."""
    return region_statistics(contours.polygons(prob, threshold, tolerance=0), prob.shape)


def region_statistics(regions: Sequence[contours.Polygon], shape: tuple[int, ...]) -> dict[str, float]:
    """Area, second and contact of outlines, as the limits above define them.

    Args:
        regions: Outlines with all their points, the largest first.
        shape: (height, width) of the picture in whose pixels they are.
    """
    if not regions:
        return {"area": 0.0, "second": 0.0, "contact": 0.0}
    second = regions[1].area / regions[0].area if len(regions) > 1 else 0.0
    ring, ends = regions[0].exterior, np.array(shape[::-1])
    low, high = ring <= _AT_BORDER * ends, ring >= (1 - _AT_BORDER) * ends
    along = ((low[:-1] & low[1:]) | (high[:-1] & high[1:])).any(axis=1)  # both ends at one side
    lengths = np.hypot(*np.diff(ring, axis=0).T)
    contact = float(lengths[along].sum() / lengths.sum())
    return {"area": regions[0].area / (shape[0] * shape[1]), "second": second, "contact": contact}
