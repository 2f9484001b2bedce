"""Confidence intervals of means over images: every interval of the product comes from here.

Scores of images are bounded, and most are high while a few fail. A small sample often holds no failure at
all: the textbook intervals (t, percentile and BCa bootstrap) then know nothing of the failures that the next
images will bring, and hold the true mean in 74 to 90 % of samples of 20 where they promise 95 %. The interval
of a mean score therefore counts a part of one image that was not seen, with the worst score that there can
be for the lower end and with the best one for the upper end (`mean_interval`). Differences of two networks on
the same images lean to neither side so far; the t interval holds for them (`difference_interval`).
How often both hold, at which n: ``benchmarks/coverage.py`` and docs/concepts/numbers.md.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

LEVEL = 0.95
UNSEEN = 0.35
"""How much one unseen, worst image counts beside each image that was seen. Chosen on simulated samples of 20
to 305 from real scores: the smallest of the values tried that holds in 93 % of samples or more everywhere."""
METHOD = (
    "95 % intervals over images: of a mean score by the Bayesian bootstrap with 0.35 of an unseen image at "
    "either end of the scale (Rubin 1981; Gaffke 2005), by a saddlepoint approximation; of a mean difference "
    "by Student's t"
)

_STEPS = 48


@dataclass(frozen=True)
class Interval:
    """A mean over n images with its confidence interval."""

    mean: float
    low: float
    high: float
    n: int


def mean_interval(
    values: Values, *, bounds: tuple[float, float] = (0.0, 1.0), level: float = LEVEL
) -> Interval:
    """Mean of scores over images, and an interval that holds for few images too.

    The lower end is the (1 − level)/2 quantile of Σ wᵢxᵢ with w from a Dirichlet distribution that gives
    each image the parameter 1 and one unseen image, at the lower bound, the parameter UNSEEN; the upper end
    likewise with the unseen image at the upper bound. With a parameter of 1 it would be the bound of Gaffke
    (2005) and of Learned-Miller & Thomas (2019), without one Rubin's Bayesian bootstrap (1981). The quantile
    is computed by the saddlepoint approximation of Lugannani & Rice (1980): no resampling, no seed.

    Args:
        values: One score per image, float64 [n], n ≥ 1, within the bounds.
        bounds: The smallest and the largest score that there can be.
        level: Of confidence, in (0, 1).

    Returns:
        The mean with its interval, which lies within the bounds.

    Examples:
        >>> import numpy as np
        >>> found = mean_interval(np.array([0.95, 0.93, 0.91, 0.94, 0.60]))
        >>> f"{found.mean:.3f} ({found.low:.3f} to {found.high:.3f}), n {found.n}"
        '0.866 (0.542 to 0.943), n 5'
    """
    values = np.asarray(values, dtype=np.float64)
    low, high = mean_limits(values[None], bounds=bounds, level=level)
    return Interval(float(values.mean()), float(low[0]), float(high[0]), values.size)


def mean_limits(
    values: Values,
    *,
    bounds: tuple[float, float] = (0.0, 1.0),
    level: float = LEVEL,
    unseen: float = UNSEEN,
) -> tuple[Values, Values]:
    """Return the lower and upper ends for many samples at once, float64 [samples, n] → [samples] each.

    Args:
        values: As for `mean_interval`, one sample a row.
        bounds: As for `mean_interval`.
        level: As for `mean_interval`.
        unseen: The Dirichlet parameter of the unseen image.
    """
    start, end = bounds
    scaled = np.clip((np.asarray(values, dtype=np.float64) - start) / (end - start), 0.0, 1.0)
    tail = (1 - level) / 2
    mean = scaled.mean(axis=1)
    low = np.minimum(_lower_end(scaled, unseen, tail), mean)
    high = np.maximum(1 - _lower_end(1 - scaled, unseen, tail), mean)
    return start + (end - start) * low, start + (end - start) * high


def difference_interval(
    values: Values, *, bounds: tuple[float, float] = (-1.0, 1.0), level: float = LEVEL
) -> Interval:
    """Mean of paired differences over images, and its t interval, cut at the bounds.

    A single difference says nothing of others: its interval is everything from bound to bound. Differences
    that differ by rounding alone have themselves as their interval.

    Args:
        values: One difference per image, float64 [n], n ≥ 1.
        bounds: The smallest and the largest difference that there can be.
        level: Of confidence, in (0, 1).

    Examples:
        >>> import numpy as np
        >>> found = difference_interval(np.array([0.02, 0.01, 0.03, 0.0]))
        >>> f"{found.mean:.3f} ({found.low:.3f} to {found.high:.3f})"
        '0.015 (-0.006 to 0.036)'
    """
    values = np.asarray(values, dtype=np.float64)
    mean, n = float(values.mean()), values.size
    if n < 2:
        return Interval(mean, *bounds, n)
    if are_equal(values):
        return Interval(mean, mean, mean, n)
    half = t_quantile((1 + level) / 2, n - 1) * float(values.std(ddof=1)) / math.sqrt(n)
    return Interval(mean, max(bounds[0], mean - half), min(bounds[1], mean + half), n)


def are_equal(values: Values) -> bool:
    """Whether float64 [n], n ≥ 1, are one value but for rounding in the last digits."""
    return bool(np.ptp(values) <= 1e-12 * max(1.0, float(np.abs(values).max())))


def normal_cdf(z: float) -> float:
    """Probability that a standard normal variable is at most z."""
    return 0.5 * math.erfc(-z / math.sqrt(2))


@functools.lru_cache(maxsize=512)
def t_quantile(probability: float, df: float) -> float:
    """Quantile of Student's t distribution, to about ten digits.

    Args:
        probability: In (0, 1).
        df: Degrees of freedom, above 0.

    Examples:
        >>> round(t_quantile(0.975, 19), 4)
        2.093
    """
    if probability < 0.5:
        return -t_quantile(1 - probability, df)
    low, high = 0.0, 2.0
    while t_cdf(high, df) < probability:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if t_cdf(middle, df) < probability else (low, middle)
    return (low + high) / 2


def t_cdf(t: float, df: float) -> float:
    """Probability that Student's t with ``df`` degrees of freedom is at most t.

    With t = √df·tan(u) the density becomes cos(u)^(df − 1), which Gauss's rule integrates to full precision.
    """
    nodes, weights = _gauss()
    end = math.atan(t / math.sqrt(df))
    u = 0.5 * end * (nodes + 1)
    area = 0.5 * end * float(np.dot(weights, np.cos(u) ** (df - 1)))
    scale = math.exp(math.lgamma((df + 1) / 2) - math.lgamma(df / 2)) / math.sqrt(math.pi)
    return 0.5 + scale * area


@functools.lru_cache(maxsize=1)
def _gauss() -> tuple[Values, Values]:
    nodes, weights = np.polynomial.legendre.leggauss(80)
    return nodes, weights


def _lower_end(x: Values, unseen: float, tail: float) -> Values:
    """Quantile of Σ wᵢxᵢ + w₀·0, w ~ Dirichlet(1, …, 1, unseen); float64 [samples, n] in [0, 1] → [samples].

    P(Σ wᵢxᵢ ≤ q) = P(Σ Gᵢ(xᵢ − q) ≤ 0) with independent gamma variables G. Of that sum the cumulant
    generating function is K(s) = −Σ aᵢ log(1 − s(xᵢ − q)). Its saddlepoint s and q depend on each other; with
    τ = s/(1 + sq) both are explicit: q = Σ aᵢxᵢvᵢ / Σ aᵢvᵢ, vᵢ = 1/(1 − τxᵢ). So one bisection over τ < 0 is
    enough (the smaller τ, the smaller q and P).
    """
    samples = len(x)
    low, high = np.full(samples, -14.0), np.full(samples, 28.0)  # of log(−τ)
    q = np.zeros(samples)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        probability, q = _saddlepoint(x, unseen, -np.exp(middle))
        too_much = probability > tail
        low, high = np.where(too_much, middle, low), np.where(too_much, high, middle)
    return q


def _saddlepoint(x: Values, unseen: float, tau: Values) -> tuple[Values, Values]:
    """(P(Σ wᵢxᵢ ≤ q), q) at each sample's τ, [samples] each; the unseen image has x = 0 and v = 1."""
    v = 1 / (1 - tau[:, None] * x)
    total = v.sum(axis=1) + unseen
    q = (x * v).sum(axis=1) / total
    scale = 1 - tau * q  # 1/(1 + sq)
    s = tau / scale
    apart = (x - q[:, None]) * v * scale[:, None]
    at_zero = -q * scale
    spread = (apart**2).sum(axis=1) + unseen * at_zero**2
    # log(1 − s(x − q)) = log(1 − τx) − log(1 − τq)
    cumulant = np.log(v).sum(axis=1) + (x.shape[1] + unseen) * np.log(scale)
    w = -np.sqrt(np.maximum(-2 * cumulant, 1e-300))
    u = s * np.sqrt(np.maximum(spread, 1e-300))
    density = np.exp(-(w**2) / 2) / math.sqrt(2 * math.pi)
    below = np.array([normal_cdf(one) for one in w.tolist()])
    with np.errstate(over="ignore", invalid="ignore"):
        probability = below + density * (1 / w - 1 / u)
    # Near the mean the two terms cancel; it is far from any tail there.
    return np.where(w > -0.05, 0.5, probability), q
