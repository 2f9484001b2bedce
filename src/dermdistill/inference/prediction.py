"""The segmentation of one image: mask, probability, outlines, warnings; as arrays and as plain values."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from typing import Any

from dermdistill import imaging
from dermdistill.imaging import Float32Array, UInt8Array, contours
from dermdistill.imaging.dicom import DicomFacts
from dermdistill.inference import shape
from dermdistill.inference.input_checks import InputChecks, Warn

_DIGITS = 6  # of the numbers in JSON
_FINER = 8  # outlines then stay within a thousandth of the network's pixel of those at native size
_TOLERANCE = 0.1  # pixels: how far an outline with fewer points may be from the one with all of them


@dataclass(frozen=True, eq=False)
class Prediction:
    """The segmentation of one image, at its native size. What costs time is computed when it is asked for.

    Example:
        >>> import numpy as np
        >>> from dermdistill import Predictor
        >>> y, x = np.mgrid[:120, :160]
        >>> spot = np.hypot(x - 80, y - 60) < 30
        >>> image = np.where(spot[..., None], (90, 50, 40), (220, 180, 160)).astype(np.uint8)
        >>> prediction = Predictor(threads=1)(image)
        >>> prediction.mask.shape, prediction.mask.dtype
        ((120, 160), dtype('uint8'))
        >>> 0.1 < prediction.area_fraction < 0.2  # the disc has 0.147 of the image
        True
        >>> prediction.at(0.9).area_fraction <= prediction.area_fraction
        True
    """

    height: int
    """Of the image, in pixels."""
    width: int
    model: dict[str, str]
    """Recipe and hash of the weights."""
    threshold: float
    """A pixel is lesion where its probability is above this."""
    checks: InputChecks
    """What the warnings are judged by; it has the probability at the network's own size."""
    uncertainty: float | None = None
    """One minus the mean Dice coefficient of any two of the mirrored views' masks (Roy et al. 2018 take it
    between Monte Carlo samples), 0 to 1; None without test-time augmentation."""
    spread: Float32Array | None = None
    """float32 [s, s], standard deviation of the probability over the views; None as above."""
    dicom: DicomFacts | None = None
    """What the file says of the image, where it is DICOM."""

    def at(self, threshold: float) -> Prediction:
        """The same image's prediction at another threshold; what depends on it follows."""
        return dataclasses.replace(self, threshold=threshold)

    @functools.cached_property
    def prob(self) -> Float32Array:
        """float32 [h, w], the probability of lesion."""
        return imaging.restore_prob(self.checks.prob, self.height, self.width)

    @property
    def mask(self) -> UInt8Array:
        """{0, 1} uint8 [h, w]: where ``prob`` is above ``threshold``."""
        return self._region.mask

    @property
    def uncertainty_map(self) -> Float32Array | None:
        """float32 [h, w], standard deviation of the probability over the views; None where there is one."""
        return None if self.spread is None else imaging.restore_prob(self.spread, self.height, self.width)

    @functools.cached_property
    def warnings(self) -> tuple[Warn, ...]:
        """Reasons not to trust it (see `input_checks`)."""
        return self.checks.warnings(self.threshold, self._traced, (self.height, self.width))

    @functools.cached_property
    def polygons(self) -> list[contours.Polygon]:
        """The regions' outlines with subpixel accuracy, the largest first, in pixels of the native image."""
        return contours.simplify(self._traced, _TOLERANCE)

    @functools.cached_property
    def _traced(self) -> list[contours.Polygon]:
        """The outlines with all their points.

        They are traced in the probability at native size or, where that is smaller, at `_FINER` times the
        network's: between two of its pixels the probability is a straight line, and more points add nothing.
        """
        size = self.height, self.width
        rows, columns = (
            min(native, _FINER * own) for native, own in zip(size, self.checks.prob.shape, strict=True)
        )
        fine = self.prob if self._is_small else imaging.restore_prob(self.checks.prob, rows, columns)
        return contours.polygons(fine, self.threshold, tolerance=0, size=size)

    @functools.cached_property
    def _region(self) -> imaging.Region:
        if self._is_small:
            return imaging.region_of(self.prob, self.threshold)
        return imaging.restore_region(self.checks.prob, self.height, self.width, self.threshold)

    @property
    def _is_small(self) -> bool:
        """Whether the whole map at native size is needed for the outlines, and so is at hand."""
        rows, columns = self.checks.prob.shape
        return self.height <= _FINER * rows and self.width <= _FINER * columns

    @property
    def area_fraction(self) -> float:
        """Lesion pixels over all pixels, 0 to 1."""
        return self._region.count / (self.height * self.width)

    @property
    def bounding_box(self) -> tuple[int, int, int, int] | None:
        """(x0, y0, x1, y1) of the mask in pixels, x1 and y1 exclusive; None where it is empty."""
        return self._region.bounding_box

    @functools.cached_property
    def confidence(self) -> float:
        """Mean probability of lesion inside the mask; where that is empty, of no lesion in the image."""
        region = self._region
        if region.count:
            return region.prob_sum / region.count
        return 1 - imaging.restored_mean(self.checks.prob, self.height, self.width)

    def scale(self, mm_per_pixel: float | None = None) -> float | None:
        """Side of a pixel in millimetres: as given, else as the DICOM file says; None where it is unknown."""
        if mm_per_pixel is None and self.dicom is not None:
            return self.dicom.mm_per_pixel
        return mm_per_pixel

    def measures(self, mm_per_pixel: float | None = None) -> dict[str, Any]:
        """Size and shape of the outline, in millimetres only with a `scale` (see `shape.measure`)."""
        return shape.measure(self.polygons, self.scale(mm_per_pixel))

    def to_json(self, mm_per_pixel: float | None = None) -> dict[str, Any]:
        """Plain values, without the arrays and outlines; of DICOM also what its file says (`DicomFacts`)."""
        measured = self.measures(mm_per_pixel).items()
        return {
            "width": self.width,
            "height": self.height,
            "threshold": self.threshold,
            "area_fraction": round(self.area_fraction, _DIGITS),
            "bounding_box": self.bounding_box,
            "confidence": round(self.confidence, _DIGITS),
            "uncertainty": None if self.uncertainty is None else round(self.uncertainty, _DIGITS),
            "mm_per_pixel": self.scale(mm_per_pixel),
            "measures": {k: v if isinstance(v, int) else round(v, _DIGITS) for k, v in measured},
            "warnings": [warning.to_json() for warning in self.warnings],
            "not_checked": list(self.checks.not_checked),
            "model": self.model,
            **({"dicom": self.dicom.to_json()} if self.dicom else {}),
        }
