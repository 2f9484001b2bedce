"""How far a picture is from the training images, by a handful of colour, texture and mask statistics.

The distance is Mahalanobis': in standard deviations of the training images, their correlations taken out. The
training images' mean and covariance are kept in the model card; nothing else of them is.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dermdistill.core.errors import DataError
from dermdistill.imaging import Float32Array, UInt8Array

SIDE = 256
"""Side in pixels of the square in which pictures are looked at, whatever the network's input."""

FEATURES = (
    "red_chroma", "green_chroma", "chroma_spread", "lightness", "contrast", "texture", "sparsity",
    "straightness", "vignette", "lesion_share", "doubt",
)  # fmt: skip
FALSE_ALARM = 0.02
"""Share of good pictures that a warning may be given for."""
MIN_IMAGES = 50
"""Fewest pictures that a reference can be fitted on: several for each of its features."""

_FOLDS = 5
_TINY = 1e-9


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture as its statistics take it; what several of them need is computed once.

    Args:
        image: uint8 [SIDE, SIDE, 3].
    """

    image: UInt8Array

    @functools.cached_property
    def planes(self) -> Float32Array:
        """Red, green and blue one after the other: float32 [3, SIDE, SIDE], 0 to 255."""
        return self.image.transpose(2, 0, 1).astype(np.float32, order="C")

    @functools.cached_property
    def lightness(self) -> Float32Array:
        """Luma of ITU-R BT.601, 0 to 1: float32 [SIDE, SIDE]."""
        red, green, blue = self.planes
        luma: Float32Array = red * np.float32(0.299 / 255)
        luma += green * np.float32(0.587 / 255)
        luma += blue * np.float32(0.114 / 255)
        return luma

    @functools.cached_property
    def laplacian_variance(self) -> float:
        """Variance of the four-neighbour Laplacian of the lightness."""
        light = self.lightness
        laplacian = light[:-2, 1:-1] + light[2:, 1:-1]
        laplacian += light[1:-1, :-2]
        laplacian += light[1:-1, 2:]
        laplacian -= 4 * light[1:-1, 1:-1]
        return _variance(laplacian)


def features(picture: Picture, prob: Float32Array) -> NDArray[np.float64]:
    """The numbers of FEATURES, for a picture and its probability of lesion [s, s].

    Mean of the chromaticities r and g, log spread of r; mean and log spread of the lightness, log variance of
    its Laplacian, log of its gradient's mean square over squared mean (few strong edges, or many faint ones);
    preference of edges for rows and columns (0 none, 1 all); lightness of the middle less that of the rim;
    logit of the mean probability; log of the mean doubt 4p(1 − p).
    """
    light = picture.lightness
    red, green = _chromaticities(picture.planes)
    length, length_squared, length_cos4 = _gradient(light)
    edge = SIDE // 8
    middle = light[SIDE // 4 : -SIDE // 4, SIDE // 4 : -SIDE // 4].mean()
    rim = np.concatenate([light[:edge], light[-edge:], light[:, :edge].T, light[:, -edge:].T]).mean()
    share = float(np.clip(prob.mean(dtype=np.float64), 1e-4, 1 - 1e-4))
    values = (
        red.mean(),
        green.mean(),
        np.log(_variance(red) ** 0.5 + 1e-4),
        light.mean(),
        np.log(_variance(light) ** 0.5 + 1e-3),
        np.log(picture.laplacian_variance + 1e-7),
        np.log(length_squared / max(length, _TINY) ** 2 + _TINY),
        length_cos4 / max(length, _TINY),
        middle - rim,
        np.log(share / (1 - share)),
        np.log((4 * prob * (1 - prob)).mean() + 1e-4),
    )
    return np.array(values, dtype=np.float64)


def fit_reference(
    rows: Iterable[NDArray[np.float64]],
    seconds: Iterable[float],
    least_second: float,
    false_alarm: float = FALSE_ALARM,
) -> dict[str, Any]:
    """Mean and covariance of training images' features, and the limits that ``false_alarm`` of them exceed.

    Each image's distance is taken from the other folds' images (5 folds), as a new image's will be.

    Args:
        rows: `features` of training images; never of test images.
        seconds: Of the same images, the second largest region's area over the largest one's.
        least_second: Its limit is not set below this.
        false_alarm: Share of good pictures that may be called strange.

    Returns:
        Plain values for the card's field ``reference``.

    Raises:
        DataError: There are fewer than MIN_IMAGES.
    """
    table = np.array(list(rows), dtype=np.float64).reshape(-1, len(FEATURES))
    if len(table) < MIN_IMAGES:
        raise DataError(
            f"A reference cannot be fitted on {len(table)} images.",
            f"{MIN_IMAGES} training images or more",
            "Use a data set with more training images.",
        )
    fold = np.arange(len(table)) % _FOLDS
    away = np.empty(len(table))
    for number in range(_FOLDS):
        mean, precision = _normal(table[fold != number])
        away[fold == number] = _distances(table[fold == number], mean, precision)
    mean, precision = _normal(table)
    return {
        "features": list(FEATURES),
        "mean": mean.tolist(),
        "precision": precision.tolist(),
        "limit": float(np.quantile(away, 1 - false_alarm)),
        "second_limit": max(least_second, float(np.quantile(list(seconds), 1 - false_alarm))),
        "false_alarm": false_alarm,
        "images": len(table),
    }


def distance(values: NDArray[np.float64], reference: Mapping[str, Any]) -> float:
    """Mahalanobis distance of one image's features to a reference.

    Raises:
        DataError: The reference is of other features than this version's.
    """
    if list(reference.get("features", ())) != list(FEATURES):
        raise DataError(
            f"The model card's reference is of the features {reference.get('features')}.",
            f"{list(FEATURES)}",
            "Export the model again with this version of dermdistill.",
        )
    mean, precision = np.array(reference["mean"]), np.array(reference["precision"])
    return float(_distances(values[None], mean, precision)[0])


def _chromaticities(planes: Float32Array) -> tuple[Float32Array, Float32Array]:
    """Red's and green's share of each pixel's colour; black counts as grey."""
    total = planes[0] + planes[1] + planes[2] + 3
    return (planes[0] + 1) / total, (planes[1] + 1) / total


def _variance(values: Float32Array) -> float:
    """As NumPy's, in half of its passes over the memory."""
    away = values.ravel() - values.mean()
    return float(np.dot(away, away)) / away.size


def _gradient(light: Float32Array) -> tuple[float, float, float]:
    """Means over a picture of its gradient's length |g|, of |g|², and of |g| cos 4θ, θ being its direction.

    The cosine comes from the double angle's formula, as an inverse tangent would take longer than all other
    features; what is not needed any more is overwritten, as fresh memory would cost more than the numbers.
    """
    x, y = light[1:-1, 2:] - light[1:-1, :-2], light[2:, 1:-1] - light[:-2, 1:-1]
    product = x * y
    squared = np.multiply(x, x, out=x)
    squared += np.multiply(y, y, out=y)
    length = np.sqrt(squared, out=y)
    means = float(length.mean()), float(squared.mean())
    cubed = np.maximum(np.multiply(squared, length, out=length), np.float32(1e-30), out=length)
    cos4 = np.multiply(squared, squared, out=squared)
    np.multiply(product, product, out=product)
    product *= 8
    cos4 -= product
    cos4 /= cubed
    return *means, float(cos4.mean())


def _normal(table: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and inverse covariance; a hundredth of each variance is added, so that none of them is zero."""
    covariance: NDArray[np.float64] = np.cov(table, rowvar=False)
    covariance += np.diag(0.01 * np.diag(covariance) + 1e-9)
    precision: NDArray[np.float64] = np.linalg.inv(covariance).astype(np.float64)
    return table.mean(axis=0), precision


def _distances(
    table: NDArray[np.float64], mean: NDArray[np.float64], precision: NDArray[np.float64]
) -> NDArray[np.float64]:
    away = table - mean
    squares: NDArray[np.float64] = np.einsum("ni,ij,nj->n", away, precision, away)
    return np.sqrt(np.maximum(squares, 0))  # a precision matrix of a stranger's card may be none
