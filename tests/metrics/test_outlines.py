"""Boundary F-score and hd95 against brute force, by hand, and the rules for masks without an outline."""

from __future__ import annotations

import numpy as np
import pytest

from dermdistill.metrics.boundary import outline_pixels, outline_scores


def blob(seed: int, shape: tuple[int, int] = (41, 57)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    cy, cx = rng.uniform(10, 30), rng.uniform(15, 40)
    wave = 1 + 0.2 * np.sin(3 * np.arctan2(y - cy, x - cx) + rng.uniform(0, 6))
    return (np.hypot(y - cy, x - cx) < rng.uniform(6, 16) * wave).astype(np.uint8)


def brute_force(pred: np.ndarray, true: np.ndarray, tolerance: float) -> tuple[float, float]:
    """All pairs of outline pixels; outline pixels found by looking at each pixel's four neighbours."""

    def outline(mask: np.ndarray) -> np.ndarray:
        height, width = mask.shape
        found = []
        for y in range(height):
            for x in range(width):
                around = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
                inside = [mask[v, u] for v, u in around if 0 <= v < height and 0 <= u < width]
                if mask[y, x] and not all(inside):
                    found.append((y, x))
        return np.array(found, dtype=float)

    a, b = outline(pred), outline(true)
    distance = np.linalg.norm(a[:, None] - b[None], axis=-1) * 100 / np.hypot(*true.shape)
    to_true, to_pred = distance.min(axis=1), distance.min(axis=0)
    precision, recall = (to_true <= tolerance).mean(), (to_pred <= tolerance).mean()
    f = 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)
    return f, max(np.percentile(to_true, 95), np.percentile(to_pred, 95))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("tolerance", [0.75, 3.0])
def test_equal_to_brute_force(seed: int, tolerance: float) -> None:
    pred, true = blob(seed), blob(seed + 50)
    expected = brute_force(pred, true, tolerance)
    assert outline_scores(pred, true, tolerance=tolerance) == pytest.approx(expected)


def test_a_shifted_square_by_hand() -> None:
    true = np.zeros((60, 80), np.uint8)  # its diagonal is 100 pixels: a pixel is a percent
    true[20:40, 20:40] = 1
    pred = np.roll(true, 4, axis=1)
    boundary_f, hd95 = outline_scores(pred, true, tolerance=4.0)
    assert boundary_f == 1
    assert hd95 == pytest.approx(4)
    assert outline_scores(pred, true, tolerance=0.5)[0] < 0.6
    assert outline_scores(true, true) == (1, 0)


def test_masks_that_are_empty() -> None:
    empty, some = np.zeros((9, 12), np.uint8), blob(0, (9, 12)) * 0
    some[2:5, 3:6] = 1
    assert outline_scores(empty, empty) == (1, 0)
    assert outline_scores(some, empty) == (0, 100)
    assert outline_scores(empty, some) == (0, 100)


def test_the_frame_is_no_outline_unless_the_lesion_fills_the_picture() -> None:
    half = np.zeros((10, 20), np.uint8)
    half[:, :7] = 1
    assert {tuple(p) for p in outline_pixels(half).tolist()} == {(y, 6) for y in range(10)}
    full = np.ones((10, 20), np.uint8)
    assert len(outline_pixels(full)) == 2 * 20 + 2 * 8
    assert outline_scores(full, full) == (1, 0)
    boundary_f, hd95 = outline_scores(half, full)
    assert boundary_f < 0.2
    assert 0 < hd95 < 100


def test_resolution_does_not_matter_much() -> None:
    pred, true = blob(1), blob(2)
    large = [np.kron(mask, np.ones((4, 4), np.uint8)) for mask in (pred, true)]
    small_f, small_hd = outline_scores(pred, true)
    large_f, large_hd = outline_scores(large[0], large[1])
    assert large_hd == pytest.approx(small_hd, rel=0.1)
    assert large_f == pytest.approx(small_f, abs=0.15)


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        outline_scores(np.zeros((3, 4), np.uint8), np.zeros((4, 3), np.uint8))
