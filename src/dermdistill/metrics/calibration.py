"""Do the probabilities mean what they say? Reliability bins over all pixels, and one number of error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 15
"""As many as in Guo et al. 2017."""
DEFINITION = (
    "expected calibration error (Guo et al. 2017) of the lesion probability: pixels in 15 equal bins of "
    "their probability; |mean probability − observed share of lesion|, weighted by the bins' shares; at "
    "native size, each image weighs the same. Most pixels are easy skin: the number is small by nature, "
    "compare it only within one data set"
)


@dataclass(frozen=True)
class Reliability:
    """Sums per bin, float64 [BINS] each; an image adds 1 to ``share``'s sum in all, whatever its size."""

    share: NDArray[np.float64]
    """Share of the image's pixels in the bin, summed over images."""
    prob: NDArray[np.float64]
    """Their probability, likewise."""
    lesion: NDArray[np.float64]
    """How many of them are lesion, likewise."""
    pixels: NDArray[np.int64]

    @classmethod
    def from_json(cls, plain: dict[str, Any], images: int) -> Reliability:
        """The sums over that many images, of what `to_json` returned."""
        bins = plain["bins"]
        share = np.array([one["share"] for one in bins]) * images
        return cls(
            share,
            share * np.array([one["confidence"] or 0.0 for one in bins]),
            share * np.array([one["accuracy"] or 0.0 for one in bins]),
            np.array([one["pixels"] for one in bins], dtype=np.int64),
        )

    def ece(self) -> float:
        """Expected calibration error in [0, 1]."""
        return float(np.abs(self.prob - self.lesion).sum() / self.share.sum())

    def to_json(self) -> dict[str, Any]:
        """Plain values: ``ece``, ``definition`` and one entry per bin."""
        edges, total = np.linspace(0, 1, BINS + 1), self.share.sum()
        bins = [
            {
                "low": float(edges[i]),
                "high": float(edges[i + 1]),
                "confidence": float(self.prob[i] / self.share[i]) if self.pixels[i] else None,
                "accuracy": float(self.lesion[i] / self.share[i]) if self.pixels[i] else None,
                "share": float(self.share[i] / total),
                "pixels": int(self.pixels[i]),
            }
            for i in range(BINS)
        ]
        return {"ece": self.ece(), "definition": DEFINITION, "bins": bins}


def reliability(prob: NDArray[np.float32], true_mask: NDArray[np.uint8]) -> Reliability:
    """The bins of one image.

    Args:
        prob: Lesion probability, float32 [h, w] in [0, 1].
        true_mask: {0, 1} uint8 [h, w].
    """
    p = prob.ravel().astype(np.float64)
    place = np.minimum((p * BINS).astype(np.int64), BINS - 1)
    pixels = np.bincount(place, minlength=BINS)
    return Reliability(
        pixels / p.size,
        np.bincount(place, weights=p, minlength=BINS) / p.size,
        np.bincount(place, weights=true_mask.ravel(), minlength=BINS) / p.size,
        pixels,
    )


def add_up(parts: Sequence[Reliability]) -> Reliability:
    """The bins of several images together."""
    return Reliability(
        np.sum([part.share for part in parts], axis=0),
        np.sum([part.prob for part in parts], axis=0),
        np.sum([part.lesion for part in parts], axis=0),
        np.sum([part.pixels for part in parts], axis=0),
    )


def auc(prob: NDArray[np.float32], true_mask: NDArray[np.uint8]) -> float:
    """Area under the ROC curve over an image's pixels: how often a lesion pixel has more than a skin pixel.

    Ties count as half (the Mann–Whitney statistic).

    Args:
        prob: Lesion probability, float32 [h, w].
        true_mask: {0, 1} uint8 [h, w].

    Returns:
        In [0, 1]; NaN where the image has no lesion pixel, or nothing else.

    Examples:
        >>> import numpy as np
        >>> auc(np.array([[0.9, 0.5, 0.5, 0.1]], np.float32), np.array([[1, 1, 0, 0]], np.uint8))
        0.875
    """
    lesion = true_mask.astype(bool)
    # Sorted apart: numpy sorts float32 many times as quickly as it ranks.
    positive, negative = np.sort(prob[lesion]), np.sort(prob[~lesion])
    if not len(positive) or not len(negative):
        return float("nan")
    below = np.searchsorted(negative, positive, side="left").sum(dtype=np.float64)
    at_most = np.searchsorted(negative, positive, side="right").sum(dtype=np.float64)
    return float((below + at_most) / 2 / (len(positive) * len(negative)))
