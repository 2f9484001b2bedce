"""Every measure of one pair against an independent library, with empty masks, ties and odd files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from sklearn import metrics

from dermdistill.core.errors import DataError
from dermdistill.data.prediction_files import read_prediction
from dermdistill.evaluation.matching import Sample
from dermdistill.evaluation.score_pair import (
    Scored,
    Unscored,
    majority,
    score_arrays,
    score_files,
)
from dermdistill.imaging import write_png
from dermdistill.metrics.boundary import TOLERANCE
from dermdistill.metrics.overlap import THRESHOLD_JACCARD, Counts, scores

SAMPLE = Sample("a", {"": Path("a.png")})


def blob(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    field = ndimage.gaussian_filter(rng.normal(size=shape), 1 + min(shape) / 9)
    return (field > np.quantile(field, rng.uniform(0.4, 0.95))).astype(np.uint8)


def outline(mask: np.ndarray) -> np.ndarray:
    """By scipy's erosion: beyond the frame the lesion goes on, unless it fills the picture."""
    inside = mask.astype(bool)
    edge = inside & ~ndimage.binary_erosion(inside, border_value=1)
    return edge if edge.any() else inside & ~ndimage.binary_erosion(inside, border_value=0)


@pytest.mark.parametrize("seed", range(12))
def test_every_measure_equals_an_independent_library(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(9, 70)), int(rng.integers(9, 70)))
    true_mask, mask = blob(rng, shape), blob(rng, shape)
    if seed == 3:
        mask[:] = 1  # fills the picture: its outline is the frame
    prob = np.where(mask, 0.6, 0.2).astype(np.float32) + rng.integers(0, 4, shape).astype(np.float32) / 10
    found = score_arrays(SAMPLE, {"": true_mask}, prob, 0.55)
    drawn = (prob > 0.55).astype(np.uint8)
    t, p = true_mask.ravel(), drawn.ravel()
    measured = {
        name: v[0] for name, v in scores(Counts(*np.array([found.counts]).T)).items()
    } | found.measured
    jaccard = metrics.jaccard_score(t, p, zero_division=1)
    expected = {
        "dice": metrics.f1_score(t, p, zero_division=1),
        "jaccard": jaccard,
        "threshold_jaccard": jaccard if jaccard >= THRESHOLD_JACCARD else 0,
        "accuracy": metrics.accuracy_score(t, p),
        "sensitivity": metrics.recall_score(t, p, zero_division=1),
        "specificity": metrics.recall_score(1 - t, 1 - p, zero_division=1),
        "precision": metrics.precision_score(t, p, zero_division=1),
        "area_ratio": p.sum() / t.sum(),
        "auc": metrics.roc_auc_score(t, prob.ravel()),  # with ties: eight values in all
    }
    a, b = outline(drawn), outline(true_mask)
    to_true, to_pred = ndimage.distance_transform_edt(~b)[a], ndimage.distance_transform_edt(~a)[b]
    expected["hd95_px"] = max(np.percentile(to_true, 95), np.percentile(to_pred, 95))
    diagonal = np.hypot(*shape)
    expected["hd95"] = 100 * expected["hd95_px"] / diagonal
    near = TOLERANCE * diagonal / 100
    precision, recall = (to_true <= near).mean(), (to_pred <= near).mean()
    expected["boundary_f"] = 2 * precision * recall / (precision + recall) if precision + recall else 0
    place = np.minimum((prob.ravel().astype(float) * 15).astype(int), 14)
    expected["ece"] = sum(
        (place == i).mean() * abs(prob.ravel()[place == i].mean(dtype=float) - t[place == i].mean())
        for i in np.unique(place)
    )
    for name, value in expected.items():
        assert measured[name] == pytest.approx(value, abs=1e-6), name


def test_empty_masks() -> None:
    empty, full = np.zeros((6, 8), np.uint8), np.ones((6, 8), np.uint8)
    both = score_arrays(SAMPLE, {"": empty}, empty, 0.5)
    assert both.counts == (0, 0, 0, 48)
    assert (both.measured["hd95_px"], both.measured["boundary_f"], both.measured["precision"]) == (0, 1, 1)
    assert np.isnan(both.measured["area_ratio"])
    one = score_arrays(SAMPLE, {"": empty}, full, 0.5)
    assert one.counts == (0, 48, 0, 0)
    assert (one.measured["hd95_px"], one.measured["hd95"]) == (10, 100)
    assert np.isnan(score_arrays(SAMPLE, {"": full}, full.astype(np.float32), 0.5).measured["auc"])


def test_a_missing_prediction_has_a_dice_of_0_even_where_there_is_no_lesion() -> None:
    for true_mask in (np.zeros((4, 4), np.uint8), np.ones((4, 4), np.uint8)):
        found = score_arrays(SAMPLE, {"": true_mask}, None, 0.5, note="gone")
        assert scores(Counts(*np.array([found.counts]).T))["dice"] == 0
        assert found.missing
        assert found.note == "gone"


def test_another_size_is_resampled_and_millimetres_follow_the_scale() -> None:
    true_mask = np.zeros((40, 80), np.uint8)
    true_mask[10:30, 20:60] = 1
    found = score_arrays(SAMPLE, {"": true_mask}, true_mask[::2, ::2], 0.5, mm_per_pixel=0.1)
    assert found.resampled
    assert scores(Counts(*np.array([found.counts]).T))["dice"][0] > 0.95
    assert found.measured["hd95_mm"] == pytest.approx(0.1 * found.measured["hd95_px"])


def test_several_raters_are_scored_each_and_with_each_other() -> None:
    a, b, c = (np.zeros((10, 10), np.uint8) for _ in range(3))
    a[:6], b[:5], c[:3] = 1, 1, 1
    assert majority([a, b, c]).sum() == 50  # where two of three agree
    found = score_arrays(SAMPLE, {"a": a, "b": b, "c": c}, b, 0.5)
    assert found.counts == (50, 0, 0, 50)
    assert found.rater_dice == {"a": pytest.approx(100 / 110), "b": 1, "c": pytest.approx(60 / 80)}
    assert found.human_dice == pytest.approx(np.mean([100 / 110, 60 / 90, 60 / 80]))


@pytest.mark.parametrize(
    ("values", "kind", "first"),
    [
        (np.array([[0, 255]], np.uint8), np.uint8, 1),
        (np.array([[0, 1]], np.int64), np.uint8, 1),
        (np.array([[False, True]]), np.uint8, 1),
        (np.array([[[0.25, 0.75]]], np.float64), np.float32, 0.75),
        (np.array([[0.0, 1.0]], np.float32), np.uint8, 1),
        (np.arange(200, dtype=np.uint8)[None], np.float32, 199 / 255),
    ],
)
def test_arrays_are_masks_or_maps(tmp_path: Path, values: np.ndarray, kind: type, first: float) -> None:
    np.save(tmp_path / "a.npy", values)
    found = read_prediction(tmp_path / "a.npy")
    assert found.dtype == kind
    assert found[0, -1] == pytest.approx(first)


def test_picture_files_are_masks_or_maps(tmp_path: Path) -> None:
    write_png(tmp_path / "map.png", np.arange(256, dtype=np.uint8).reshape(16, 16), grey=True)
    found = read_prediction(tmp_path / "map.png")
    assert found.dtype == np.float32
    assert found[-1, -1] == 1
    write_png(tmp_path / "mask.png", np.eye(5, dtype=np.uint8))
    assert read_prediction(tmp_path / "mask.png").tolist() == np.eye(5).tolist()
    write_png(tmp_path / "ones.png", np.eye(5, dtype=np.uint8), grey=True)
    assert read_prediction(tmp_path / "ones.png").tolist() == np.eye(5).tolist()


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (np.array([[-3.0, 4.0]]), "from -3 to 4"),
        (np.zeros((2, 5, 5)), r"\(2, 5, 5\)"),
        (np.array([[0, 700]]), "700"),
        (np.array([[0.2, np.nan]]), "values"),
    ],
)
def test_arrays_that_are_neither_are_refused(tmp_path: Path, values: np.ndarray, found: str) -> None:
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(DataError, match=found):
        read_prediction(tmp_path / "a.npy")


def test_files_that_cannot_be_read_are_said_and_the_truth_decides(tmp_path: Path) -> None:
    write_png(tmp_path / "t.png", np.eye(9, dtype=np.uint8))
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n no")
    truth = {"": tmp_path / "t.png"}
    bad = score_files(Sample("a", truth, None, tmp_path / "broken.png"), 0.5, None)
    assert isinstance(bad, Scored)
    assert bad.missing
    assert "broken.png" in bad.note
    lost = score_files(Sample("a", {"": tmp_path / "broken.png"}, None, tmp_path / "t.png"), 0.5, None)
    assert isinstance(lost, Unscored)
    write_png(tmp_path / "ones.png", np.eye(9, dtype=np.uint8), grey=True)
    zero_one = score_files(Sample("a", {"": tmp_path / "ones.png"}, None, tmp_path / "t.png"), 0.5, None)
    assert isinstance(zero_one, Scored)  # white may be written as 1
    assert zero_one.counts == (9, 0, 0, 72)
