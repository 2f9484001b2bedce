"""Scores against independent references, and the rules for empty masks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from dermdistill.metrics.overlap import Counts, count, pooled_dice, scores


def one(pred: np.ndarray, true: np.ndarray) -> dict[str, float]:
    counts = Counts(*np.array([count(pred, true)], dtype=np.int64).T)
    return {name: float(values[0]) for name, values in scores(counts).items()}


def masks(seed: int, share: float = 0.4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    true = (rng.random((23, 31)) < share).astype(np.uint8)
    flipped = rng.random(true.shape) < 0.15
    return np.where(flipped, 1 - true, true).astype(np.uint8), true


def test_golden_numbers() -> None:
    true = np.zeros((4, 4), np.uint8)
    true[:2] = 1  # 8 pixels
    pred = np.zeros((4, 4), np.uint8)
    pred[1:3] = 1  # 8 pixels, 4 in common
    assert count(pred, true) == (4, 4, 4, 4)
    found = one(pred, true)
    assert found["dice"] == pytest.approx(0.5)
    assert found["jaccard"] == pytest.approx(1 / 3)
    assert found["threshold_jaccard"] == 0
    assert (found["accuracy"], found["sensitivity"], found["specificity"]) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("seed", range(5))
def test_equal_to_sklearn(seed: int) -> None:
    pred, true = masks(seed)
    found, p, t = one(pred, true), pred.ravel(), true.ravel()
    assert found["dice"] == pytest.approx(sklearn_metrics.f1_score(t, p), abs=1e-12)
    assert found["jaccard"] == pytest.approx(sklearn_metrics.jaccard_score(t, p), abs=1e-12)
    assert found["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(t, p), abs=1e-12)
    assert found["sensitivity"] == pytest.approx(sklearn_metrics.recall_score(t, p), abs=1e-12)
    assert found["specificity"] == pytest.approx(sklearn_metrics.recall_score(1 - t, 1 - p), abs=1e-12)


EMPTY, FULL = np.zeros((8, 9), np.uint8), np.ones((8, 9), np.uint8)
PIXEL = EMPTY.copy()
PIXEL[3, 3] = 1


@pytest.mark.parametrize(
    ("pred", "true"),
    [
        *(masks(seed) for seed in range(6)),
        (EMPTY, EMPTY),
        (EMPTY, PIXEL),
        (PIXEL, EMPTY),
        (FULL, FULL),
        (FULL, PIXEL),
    ],
)
def test_equal_to_the_official_scorer(pred: np.ndarray, true: np.ndarray) -> None:
    from isic_challenge_scoring import confusion
    from isic_challenge_scoring import metrics as official

    matrix = confusion.create_binary_confusion_matrix(true, pred)
    found = one(pred, true)
    for name, reference in {
        "dice": official.binary_dice,
        "jaccard": official.binary_jaccard,
        "accuracy": official.binary_accuracy,
        "sensitivity": official.binary_sensitivity,
        "specificity": official.binary_specificity,
    }.items():
        assert found[name] == pytest.approx(float(reference(matrix)), abs=1e-6), name
    threshold = float(official.binary_threshold_jaccard(matrix, threshold=0.65))
    assert found["threshold_jaccard"] == pytest.approx(threshold, abs=1e-6)


@given(tp=st.integers(0, 999), fp=st.integers(0, 999), fn=st.integers(0, 999), tn=st.integers(0, 999))
def test_dice_follows_from_jaccard(tp: int, fp: int, fn: int, tn: int) -> None:
    found = scores(Counts(*(np.array([v]) for v in (tp, fp, fn, tn))))
    j = found["jaccard"][0]
    assert found["dice"][0] == pytest.approx(2 * j / (1 + j))
    assert all(0 <= values[0] <= 1 for values in found.values())


def test_pooled_dice_weighs_pixels() -> None:
    counts = Counts(*(np.array(v) for v in ([100, 1], [0, 9], [0, 0], [0, 0])))
    assert pooled_dice(counts) == pytest.approx(202 / 211)
    assert scores(counts)["dice"].mean() < pooled_dice(counts)


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        count(EMPTY, EMPTY.T)
