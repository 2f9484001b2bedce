"""One image's answer: mask, probability, outlines, confidence, warnings, as arrays and as plain values."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from dermdistill import imaging
from dermdistill.imaging import Float32Array, UInt8Array, contours
from dermdistill.inference import shape
from dermdistill.inference.input_checks import Look, Warn

_DIGITS = 6  # of the numbers in JSON


@dataclass(frozen=True, eq=False)
class Prediction:
    """One image's answer, at its native size."""

    mask: UInt8Array
    """{0, 1} uint8 [h, w]: where ``prob`` is above ``threshold``."""
    prob: Float32Array
    """float32 [h, w], the probability of lesion."""
    model: dict[str, str]
    """Recipe and hash of the weights."""
    threshold: float
    """A pixel is lesion where its probability is above this."""
    look: Look
    """What the warnings are judged by."""
    uncertainty: float | None = None
    """One minus the mean Dice coefficient of any two of the mirrored views' masks (Roy et al. 2018 take it
    between Monte Carlo samples), 0 to 1; None without test-time augmentation."""
    uncertainty_map: Float32Array | None = None
    """float32 [h, w], standard deviation of the probability over the views; None as above."""

    def at(self, threshold: float) -> Prediction:
        """The same image's answer at another threshold; what depends on it follows."""
        return dataclasses.replace(self, mask=imaging.to_mask(self.prob, threshold), threshold=threshold)

    @functools.cached_property
    def warnings(self) -> tuple[Warn, ...]:
        """Reasons not to trust it (see `quality`)."""
        return self.look.warnings(self.threshold)

    @functools.cached_property
    def polygons(self) -> list[contours.Polygon]:
        """The regions' outlines with subpixel accuracy, the largest first, in pixels of the native image."""
        return contours.polygons(self.prob, self.threshold)

    @property
    def area_fraction(self) -> float:
        """Lesion pixels over all pixels, 0 to 1."""
        return int(np.count_nonzero(self.mask)) / self.mask.size

    @property
    def bounding_box(self) -> tuple[int, int, int, int] | None:
        """(x0, y0, x1, y1) of the mask in pixels, x1 and y1 exclusive; None where it is empty."""
        rows, columns = np.flatnonzero(self.mask.any(axis=1)), np.flatnonzero(self.mask.any(axis=0))
        if not rows.size:
            return None
        return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1

    @functools.cached_property
    def confidence(self) -> float:
        """Mean probability of lesion inside the mask; where that is empty, of no lesion in the image."""
        inside = self.mask.astype(bool)
        return float(self.prob.mean(where=inside)) if inside.any() else float(1 - self.prob.mean())

    def measures(self, mm_per_pixel: float | None = None) -> dict[str, Any]:
        """Size and shape of the outline, in millimetres only with a scale (see `measures.measure`)."""
        return shape.measure(self.polygons, mm_per_pixel)

    def to_json(self, mm_per_pixel: float | None = None) -> dict[str, Any]:
        """Plain values, without the arrays and outlines."""
        height, width = self.mask.shape
        measured = self.measures(mm_per_pixel).items()
        return {
            "width": width,
            "height": height,
            "threshold": self.threshold,
            "area_fraction": round(self.area_fraction, _DIGITS),
            "bounding_box": self.bounding_box,
            "confidence": round(self.confidence, _DIGITS),
            "uncertainty": None if self.uncertainty is None else round(self.uncertainty, _DIGITS),
            "mm_per_pixel": mm_per_pixel,
            "measures": {k: v if isinstance(v, int) else round(v, _DIGITS) for k, v in measured},
            "warnings": [warning.to_json() for warning in self.warnings],
            "not_checked": list(self.look.not_checked),
            "model": self.model,
        }
