"""Reliability bins against a reference, and probabilities of known honesty."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from dermdistill.metrics.calibration import BINS, add_up, reliability


def pixels(seed: int, shape: tuple[int, int] = (80, 90), bend: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities p, and masks that are lesion with probability p**bend."""
    rng = np.random.default_rng(seed)
    prob = rng.random(shape).astype(np.float32)
    return prob, (rng.random(shape) < prob**bend).astype(np.uint8)


def test_bins_equal_sklearn() -> None:
    prob, mask = pixels(0)
    found = reliability(prob, mask).to_json()["bins"]
    observed, predicted = calibration_curve(mask.ravel(), prob.ravel(), n_bins=BINS)
    assert [b["confidence"] for b in found] == pytest.approx(predicted.tolist(), abs=1e-4)
    assert [b["accuracy"] for b in found] == pytest.approx(observed.tolist(), abs=1e-4)
    assert sum(b["pixels"] for b in found) == prob.size
    assert sum(b["share"] for b in found) == pytest.approx(1)


def test_honest_probabilities_have_a_small_error_and_bent_ones_theirs() -> None:
    assert reliability(*pixels(1, (400, 400))).ece() < 0.01
    # E|p − p³| over uniform p is 1/2 − 1/4.
    assert reliability(*pixels(1, (400, 400), bend=3.0)).ece() == pytest.approx(0.25, abs=0.01)


def test_sure_and_right_or_wrong() -> None:
    mask = np.array([[0, 1], [1, 0]], np.uint8)
    assert reliability(mask.astype(np.float32), mask).ece() == 0
    wrong = reliability(1 - mask.astype(np.float32), mask)
    assert wrong.ece() == 1
    empty = wrong.to_json()["bins"][5]
    assert (empty["pixels"], empty["confidence"], empty["accuracy"]) == (0, None, None)


def test_images_weigh_the_same_whatever_their_size() -> None:
    small, large = pixels(2, (10, 10)), pixels(3, (100, 100), bend=3.0)
    both = add_up([reliability(*small), reliability(*large)])
    assert both.share.sum() == pytest.approx(2)
    mean = (reliability(*small).prob + reliability(*large).prob) / 2
    np.testing.assert_allclose(both.prob / 2, mean)
