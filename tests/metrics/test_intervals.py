"""Intervals of means: against scipy, against simulation of their own definition, and by their coverage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from dermdistill.metrics.intervals import (
    UNSEEN,
    difference_interval,
    mean_interval,
    mean_limits,
    normal_cdf,
    t_cdf,
    t_quantile,
)


@pytest.mark.parametrize("df", [1, 2, 5.5, 19, 304, 1e5])
def test_students_t_equals_scipy(df: float) -> None:
    assert t_quantile(0.975, df) == pytest.approx(stats.t.ppf(0.975, df), rel=1e-9)
    assert t_quantile(0.1, df) == pytest.approx(stats.t.ppf(0.1, df), rel=1e-9)
    assert t_cdf(-1.3, df) == pytest.approx(stats.t.cdf(-1.3, df), rel=1e-9)
    assert normal_cdf(-2.5) == pytest.approx(stats.norm.cdf(-2.5), rel=1e-12)


@pytest.mark.parametrize("n", [5, 20, 100, 305])
def test_the_ends_are_the_quantiles_of_the_dirichlet_mean(n: int) -> None:
    rng = np.random.default_rng(n)
    scores = np.where(rng.random(n) < 0.1, rng.beta(6, 4, n), rng.beta(30, 2, n))
    weights, unseen = rng.standard_gamma(1, (100_000, n)), rng.standard_gamma(UNSEEN, 100_000)
    total = weights.sum(axis=1) + unseen
    found = mean_interval(scores)
    low = np.quantile(weights @ scores / total, 0.025)
    high = np.quantile((weights @ scores + unseen) / total, 0.975)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.03 * (high - low))


def test_equal_scores_do_not_make_certain() -> None:
    one, twenty = mean_interval(np.array([0.7])), mean_interval(np.full(20, 1.0))
    assert one.low < 0.1 < one.mean < 0.95 < one.high <= 1
    expected = 1 - stats.beta.ppf(0.975, UNSEEN, 20)  # only the unseen image can lower a mean of 1
    assert twenty.low == pytest.approx(expected, abs=0.003)
    assert twenty.mean == twenty.high == 1
    zero = mean_interval(np.zeros(20))
    assert (zero.low, zero.mean) == (0, 0)
    assert zero.high == pytest.approx(1 - expected, abs=0.003)


def test_other_scales_and_mirrored_scores_give_the_same_interval() -> None:
    scores = np.random.default_rng(0).beta(8, 2, 50)
    plain, percent = mean_interval(scores), mean_interval(100 * scores, bounds=(0, 100))
    assert (100 * plain.low, 100 * plain.high) == pytest.approx((percent.low, percent.high))
    mirrored = mean_interval(1 - scores)
    assert (1 - mirrored.high, 1 - mirrored.low) == pytest.approx((plain.low, plain.high))
    for n in (1, 2, 7):  # always around the mean, and within the bounds
        few = mean_interval(scores[:n])
        assert 0 <= few.low <= few.mean <= few.high <= 1


def test_many_images_give_the_normal_interval() -> None:
    scores = np.random.default_rng(0).beta(8, 2, 20_000)
    found = mean_interval(scores)
    low, high = stats.norm.interval(0.95, scores.mean(), stats.sem(scores))
    assert (found.low, found.high) == pytest.approx((low, high), abs=2e-4)


@pytest.mark.parametrize("n", [20, 40, 100])
def test_it_holds_where_most_images_are_good_and_some_fail(n: int) -> None:
    """93 % of the images around 0.94, the rest around 0.6: BCa held in 87 % of samples of 40."""
    rng = np.random.default_rng(n)
    failed = rng.random((2000, n)) < 0.07
    scores = np.where(failed, rng.beta(6, 4, (2000, n)), rng.beta(94, 6, (2000, n)))
    truth = 0.93 * 0.94 + 0.07 * 0.6
    low, high = mean_limits(scores)
    assert ((low <= truth) & (truth <= high)).mean() >= 0.95
    seldom = 0.15 if n == 20 else 0.09 if n == 40 else 0.05
    assert (high - low).mean() < seldom


def test_differences_have_the_t_interval_within_the_scale() -> None:
    values = np.random.default_rng(1).normal(0.01, 0.05, 30)
    found = difference_interval(values)
    assert (found.low, found.high) == pytest.approx(
        stats.t.interval(0.95, 29, values.mean(), stats.sem(values))
    )
    two = difference_interval(np.array([0.9, -0.9]))
    assert (two.low, two.high) == (-1, 1)
    one = difference_interval(np.array([3.0]), bounds=(-100, 100))
    assert (one.mean, one.low, one.high, one.n) == (3, -100, 100, 1)
    same = difference_interval(np.zeros(9))
    assert (same.low, same.high) == (0, 0)
