"""What a difference between two arms is worth: intervals, paired tests, and what could have been seen at all.

Unit of inference: the image. Each arm's score of an image is averaged over its seeds first; the interval is
that of the mean of the images' differences (paired). This answers "would other images of this kind show it?"
for the trainings that were made. Three seeds are too few to resample (a bootstrap of 3 shrinks their variance
by a third), so "would other trainings show it?" is answered by the analysis of variance that reader studies
use, images and seeds both random (Dorfman–Berbaum–Metz; degrees of freedom by Hillis 2007): `over_seeds`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dermdistill.metrics import intervals
from dermdistill.metrics.intervals import Values, are_equal, difference_interval, normal_cdf, t_quantile

METHOD = (
    "mean over images of the mean over seeds; "
    + intervals.METHOD
    + ", paired; p: Wilcoxon signed-rank test on the images' differences (Pratt's zeros), "
    "Holm-corrected over the student arms within each measure; p_bootstrap: paired bootstrap of the mean; "
    "over_seeds: t interval with images and seeds both random (Hillis 2007); minimum detectable difference: "
    "the true mean difference that a paired t test at α 0.05 would have found with 80 % power, given the "
    "spread found"
)
RESAMPLES = 9999
TIE = 0.001
"""An image whose Dice moved by no more than this (0.1 points) is neither better nor worse."""


@dataclass(frozen=True)
class OverSeeds:
    """95 % interval of the mean when seeds are a sample too; ``df`` degrees of freedom."""

    low: float
    high: float
    df: float


@dataclass(frozen=True)
class Paired:
    """An arm minus the baseline over n images, with the seeds averaged; positive: the arm is higher."""

    mean: float
    low: float
    high: float
    n: int
    sd: float
    """Standard deviation of the images' differences."""
    p_bootstrap: float
    p_wilcoxon: float
    by_seed: list[float]
    """Mean difference of each seed alone."""
    over_seeds: OverSeeds | None
    """None with fewer than two seeds."""
    minimum_detectable_difference: float | None
    """Smallest true difference that this many images could have shown; None for a single image."""
    better: float
    """Share of images that gained more than TIE; worse: that lost more; same: the rest."""
    worse: float
    same: float


def paired(
    arm: Values, baseline: Values, *, seed: int = 0, higher_is_better: bool = True, scale: float = 1.0
) -> Paired:
    """Compare two arms on the same images.

    Args:
        arm: Scores, float64 [seeds, images].
        baseline: Likewise, same seeds and images in the same order.
        seed: Of the resampling.
        higher_is_better: Which way ``better`` and ``worse`` count.
        scale: The largest difference that there can be: 1 of fractions, 100 of percent.

    Raises:
        ValueError: The shapes differ, or there is no image.
    """
    if arm.shape != baseline.shape or arm.ndim != 2 or arm.size == 0:
        raise ValueError(f"scores of shape {arm.shape} and {baseline.shape} cannot be paired")
    each = arm - baseline
    difference = each.mean(axis=0)
    interval = difference_interval(difference, bounds=(-scale, scale))
    sd = float(difference.std(ddof=1)) if difference.size > 1 else 0.0
    gain = difference if higher_is_better else -difference
    better, worse = float(np.mean(gain > TIE)), float(np.mean(gain < -TIE))
    return Paired(
        interval.mean, interval.low, interval.high, interval.n, sd,
        p_bootstrap=bootstrap_p(difference, seed=seed),
        p_wilcoxon=wilcoxon_p(difference),
        by_seed=[float(v) for v in each.mean(axis=1)],
        over_seeds=over_seeds(each),
        minimum_detectable_difference=minimum_detectable_difference(sd, difference.size),
        better=better, worse=worse, same=1 - better - worse,
    )  # fmt: skip


def wilcoxon_p(difference: Values) -> float:
    """Two-sided p of the Wilcoxon signed-rank test, zeros by Pratt's rule; 1 when nothing differs.

    By the normal approximation, with the correction for ties (Pratt 1959; Conover 1973). Differences are
    rounded to 1e-9 first: ties that only rounding broke are ties.
    """
    rounded = np.round(difference, 9)
    if not rounded.any():
        return 1.0
    _, places, ties = np.unique(np.abs(rounded), return_inverse=True, return_counts=True)
    ranks = (np.cumsum(ties) - (ties - 1) / 2)[places]
    n, zeros = rounded.size, int(np.count_nonzero(rounded == 0))
    tied = ties[1:] if zeros else ties  # zeros have ranks, and are left out of the sums
    expected = (n * (n + 1) - zeros * (zeros + 1)) / 4
    variance = (n * (n + 1) * (2 * n + 1) - zeros * (zeros + 1) * (2 * zeros + 1)) / 24
    variance -= float((tied.astype(np.float64) ** 3 - tied).sum()) / 48
    z = (float(ranks[rounded > 0].sum()) - expected) / math.sqrt(variance)
    return math.erfc(abs(z) / math.sqrt(2))


def bootstrap_p(difference: Values, *, seed: int = 0, resamples: int = RESAMPLES) -> float:
    """Two-sided p of "the mean is 0": how often a resampled mean is as far from the mean as 0 is.

    The smallest value is 1/(resamples + 1) (Davison & Hinkley 1997, 4.2).
    """
    if are_equal(difference):
        return 1.0 if abs(float(difference[0])) < 1e-12 else 1 / (resamples + 1)
    rng = np.random.default_rng([seed, 1])
    mean, n = float(difference.mean()), difference.size
    far = 0
    for start in range(0, resamples, 500):
        some = min(500, resamples - start)
        means = difference[rng.integers(0, n, (some, n))].mean(axis=1)
        far += int(np.count_nonzero(np.abs(means - mean) >= abs(mean)))
    return (far + 1) / (resamples + 1)


def over_seeds(each: Values, *, level: float = 0.95) -> OverSeeds | None:
    """t interval of the grand mean with rows (seeds) and columns (images) both random and crossed.

    Var(mean) = (MS_seeds + MS_images − MS_error)/(seeds·images), a negative (MS_images − MS_error) counting
    as 0; df = (numerator)²/(MS_seeds²/(seeds − 1)) (Hillis 2007, for one factor).

    Args:
        each: Differences, float64 [seeds, images].
        level: Of confidence.
    """
    seeds, images = each.shape
    if seeds < 2 or images < 2:
        return None
    grand, rows, columns = each.mean(), each.mean(axis=1), each.mean(axis=0)
    ms_seeds = images * float(((rows - grand) ** 2).sum()) / (seeds - 1)
    ms_images = seeds * float(((columns - grand) ** 2).sum()) / (images - 1)
    rest = each - rows[:, None] - columns[None, :] + grand
    ms_error = float((rest**2).sum()) / ((seeds - 1) * (images - 1))
    numerator = ms_seeds + max(ms_images - ms_error, 0.0)
    # Seeds that agree to the last digit would give infinite degrees of freedom: images bound them then.
    most = float(seeds * images)
    df = min(numerator**2 / (ms_seeds**2 / (seeds - 1)), most) if ms_seeds > 0 else most
    half = t_quantile((1 + level) / 2, df) * np.sqrt(numerator / (seeds * images))
    return OverSeeds(float(grand - half), float(grand + half), df)


def minimum_detectable_difference(
    sd: float, n: int, *, power: float = 0.8, alpha: float = 0.05
) -> float | None:
    """Smallest true mean difference that a two-sided paired t test finds with the given power.

    Args:
        sd: Standard deviation of the differences.
        n: Images.
        power: Wanted, in (alpha, 1).
        alpha: Level of the test.

    Returns:
        In the unit of ``sd``; None with fewer than two images, 0 where nothing varies.
    """
    if n < 2:
        return None
    if sd == 0:
        return 0.0
    edge = t_quantile(1 - alpha / 2, n - 1)
    low, high = 0.0, 3 * edge + 10
    for _ in range(60):
        shift = (low + high) / 2
        # The other tail adds less than 1e-6 at any power worth asking for.
        low, high = (shift, high) if _beyond(edge, n - 1, shift) < power else (low, shift)
    return sd * high / math.sqrt(n)


def _beyond(edge: float, df: int, shift: float) -> float:
    """P(T > edge) of a noncentral t: over its chi-distributed denominator, by Gauss's rule."""
    nodes, weights = np.polynomial.legendre.leggauss(60)
    spread = 9 / math.sqrt(2 * df)
    start, end = max(0.0, 1 - spread), 1 + spread
    s = start + (end - start) * (nodes + 1) / 2
    log_density = (
        math.log(2) + df / 2 * math.log(df / 2) - math.lgamma(df / 2) + (df - 1) * np.log(s) - df / 2 * s**2
    )
    above = np.array([normal_cdf(shift - edge * one) for one in s.tolist()])
    return float((end - start) / 2 * np.dot(weights, np.exp(log_density) * above))


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down correction (1979): p values that may be held against α all together."""
    order = np.argsort(p, kind="stable")
    corrected: NDArray[np.float64] = np.empty(len(p))
    running = 0.0
    for rank, place in enumerate(order.tolist()):
        running = max(running, min(1.0, (len(p) - rank) * p[place]))
        corrected[place] = running
    return [float(v) for v in corrected]
