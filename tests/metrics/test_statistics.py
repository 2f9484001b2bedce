"""Intervals and tests against scipy and statsmodels, and by simulation with a known effect."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats import multitest, power

from dermdistill.metrics import paired_tests
from dermdistill.metrics.intervals import difference_interval


def scores(rng: np.random.Generator, seeds: int = 3, images: int = 80) -> tuple[np.ndarray, np.ndarray]:
    """A baseline and an arm 0.01 above it, skewed as Dice is."""
    base = 1 - rng.gamma(1.2, 0.1, images)
    baseline = base + rng.normal(0, 0.02, (seeds, images))
    return baseline + 0.01 + rng.normal(0, 0.03, (seeds, images)), baseline


@pytest.mark.parametrize("seed", range(4))
def test_holm_equals_statsmodels(seed: int) -> None:
    p = np.random.default_rng(seed).beta(0.3, 2, 7)
    expected = multitest.multipletests(p, method="holm")[1]
    np.testing.assert_allclose(paired_tests.holm(p.tolist()), expected, atol=1e-12)


def test_holm_of_none_and_of_one() -> None:
    assert paired_tests.holm([]) == []
    assert paired_tests.holm([0.03]) == [0.03]


@pytest.mark.parametrize(("sd", "n"), [(0.05, 305), (0.12, 12), (0.02, 2000)])
def test_the_minimum_detectable_difference_equals_statsmodels(sd: float, n: int) -> None:
    effect = power.TTestPower().solve_power(nobs=n, alpha=0.05, power=0.8, alternative="two-sided")
    assert paired_tests.minimum_detectable_difference(sd, n) == pytest.approx(sd * effect, rel=1e-4)


def test_the_minimum_detectable_difference_is_found_in_four_of_five_studies() -> None:
    rng = np.random.default_rng(1)
    effect = paired_tests.minimum_detectable_difference(0.05, 60)
    assert effect is not None
    found = stats.ttest_1samp(rng.normal(effect, 0.05, (4000, 60)), 0, axis=1).pvalue < 0.05
    assert 0.78 < found.mean() < 0.82


def test_nothing_can_be_resolved_with_one_image_and_all_without_spread() -> None:
    assert paired_tests.minimum_detectable_difference(0.1, 1) is None
    assert paired_tests.minimum_detectable_difference(0.0, 9) == 0


def test_paired_equals_scipy() -> None:
    arm, baseline = scores(np.random.default_rng(0))
    found = paired_tests.paired(arm, baseline)
    difference = (arm - baseline).mean(axis=0)
    assert found.mean == pytest.approx(difference.mean())
    assert found.sd == pytest.approx(difference.std(ddof=1))
    expected = stats.wilcoxon(arm.mean(axis=0), baseline.mean(axis=0), zero_method="pratt")
    assert found.p_wilcoxon == pytest.approx(expected.pvalue, rel=1e-3)
    reference = stats.t.interval(0.95, difference.size - 1, difference.mean(), stats.sem(difference))
    assert (found.low, found.high) == pytest.approx(reference)
    assert found.by_seed == pytest.approx((arm - baseline).mean(axis=1).tolist())
    assert found.better + found.worse + found.same == pytest.approx(1)


def test_the_bootstrap_p_agrees_with_the_t_test() -> None:
    rng = np.random.default_rng(3)
    for shift in (0.0, 0.1, 0.25):
        difference = rng.normal(shift, 1, 200)
        expected = float(stats.ttest_1samp(difference, 0).pvalue)
        assert paired_tests.bootstrap_p(difference) == pytest.approx(expected, abs=0.02)


def test_equal_arms_show_no_difference() -> None:
    arm, _ = scores(np.random.default_rng(0))
    found = paired_tests.paired(arm, arm.copy())
    assert (found.mean, found.low, found.high, found.same) == (0, 0, 0, 1)
    assert found.p_wilcoxon == found.p_bootstrap == 1
    assert found.minimum_detectable_difference == 0


def test_a_constant_difference_is_certain_although_rounding_blurs_it() -> None:
    arm, _ = scores(np.random.default_rng(0))
    found = paired_tests.paired(
        arm + 0.1, arm
    )  # differs from 0.1 in the last digit: warnings are errors here
    assert found.low == found.mean == found.high == pytest.approx(0.1)
    assert found.p_bootstrap < 0.001
    assert found.p_wilcoxon < 0.001


def test_one_image_gives_a_difference_and_no_claim() -> None:
    found = paired_tests.paired(np.array([[0.9], [0.8]]), np.array([[0.7], [0.7]]))
    assert (found.mean, found.low, found.high) == (pytest.approx(0.15), -1, 1)
    assert found.minimum_detectable_difference is None
    assert found.over_seeds is None
    assert found.p_wilcoxon > 0.3


def test_lower_may_be_better() -> None:
    arm, baseline = scores(np.random.default_rng(0))
    up, down = paired_tests.paired(arm, baseline), paired_tests.paired(arm, baseline, higher_is_better=False)
    assert (up.better, up.worse) == (down.worse, down.better)
    assert up.mean == down.mean


def test_scores_that_cannot_be_paired_are_refused() -> None:
    with pytest.raises(ValueError, match="paired"):
        paired_tests.paired(np.zeros((3, 4)), np.zeros((3, 5)))


def test_over_seeds_needs_two_and_is_the_plain_t_interval_when_images_do_not_matter() -> None:
    assert paired_tests.over_seeds(np.ones((1, 9))) is None
    rng = np.random.default_rng(0)
    # Every image of a seed shows the same: only the seeds are a sample.
    each = np.repeat(rng.normal(0.5, 1, (5, 1)), 40, axis=1)
    found = paired_tests.over_seeds(each)
    expected = stats.t.interval(0.95, 4, each[:, 0].mean(), stats.sem(each[:, 0]))
    assert found is not None
    assert (found.low, found.high) == pytest.approx(expected)
    assert found.df == pytest.approx(4)


def test_over_seeds_is_wider_where_seeds_differ() -> None:
    rng = np.random.default_rng(2)
    noise = rng.normal(0, 0.05, (3, 200))
    steady = paired_tests.over_seeds(noise)
    moved = paired_tests.over_seeds(noise + np.array([[-0.02], [0.0], [0.02]]))
    assert steady is not None
    assert moved is not None
    assert moved.high - moved.low > 2 * (steady.high - steady.low)


def test_the_interval_over_images_covers_a_known_effect() -> None:
    """n = 120 images, skewed differences of 3 seeds with a true mean of 0.01."""
    rng = np.random.default_rng(20)
    trials, hits = 1000, 0
    for _ in range(trials):
        common = rng.gamma(2.0, 0.02, 120) - 0.04  # each image's own effect, skewed, mean 0
        each = 0.01 + common + rng.normal(0, 0.03, (3, 120))
        found = difference_interval(each.mean(axis=0))
        hits += found.low <= 0.01 <= found.high
    assert 0.93 <= hits / trials <= 0.97, hits / trials


@pytest.mark.parametrize("seed", range(4))
def test_the_rank_test_equals_scipys_with_ties_and_zeros(seed: int) -> None:
    rng = np.random.default_rng(seed)
    difference = rng.integers(-3, 6, 40) / 10 + (rng.random(40) if seed % 2 else 0)
    expected = stats.wilcoxon(difference.round(9), zero_method="pratt", method="approx").pvalue
    assert paired_tests.wilcoxon_p(difference) == pytest.approx(expected, rel=1e-10)


def test_the_interval_over_seeds_covers_where_trainings_differ_and_that_over_images_does_not() -> None:
    """Seeds shift all images together (sd 0.01): only the wider interval is one for other trainings."""
    rng = np.random.default_rng(21)
    trials, hits, narrow = 2000, 0, 0
    for _ in range(trials):
        each = 0.01 + rng.normal(0, 0.01, (3, 1)) + rng.normal(0, 0.05, 100) + rng.normal(0, 0.03, (3, 100))
        found = paired_tests.over_seeds(each)
        assert found is not None
        hits += found.low <= 0.01 <= found.high
        low, high = stats.t.interval(0.95, 99, each.mean(), stats.sem(each.mean(axis=0)))
        narrow += low <= 0.01 <= high
    assert 0.93 <= hits / trials <= 0.99, hits / trials
    assert narrow / trials < 0.88, narrow / trials
