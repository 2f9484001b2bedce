from __future__ import annotations

import numpy as np
import pytest

from dermdistill.imaging.drawing import overlay


def disc(size: int, radius: float) -> np.ndarray:
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    return (np.hypot(x, y) < radius).astype(np.uint8)


@pytest.mark.parametrize("size", [64, 256, 900])
def test_the_line_follows_the_edge_and_grows_with_the_image(size: int) -> None:
    image = np.full((size, size, 3), 128, np.uint8)
    found = overlay(image, [(disc(size, size * 0.3), (255, 0, 0))])
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    away = np.abs(np.hypot(x, y) - size * 0.3)
    red = found[..., 0].astype(int) - found[..., 1] > 120
    width = max(1.5, size / 150)
    assert away[red].max() < width / 2 + 1.5
    assert red.sum() == pytest.approx(2 * np.pi * size * 0.3 * width, rel=0.4)
    assert np.array_equal(found[away > 2 * width + 3], image[away > 2 * width + 3])


def test_no_line_where_the_border_cuts_the_lesion_nor_without_an_edge() -> None:
    image = np.full((64, 64, 3), 128, np.uint8)
    for mask in (np.zeros((64, 64), np.uint8), np.ones((64, 64), np.uint8)):
        assert np.array_equal(overlay(image, [(mask, (255, 0, 0))]), image)
    half = np.zeros((64, 64), np.uint8)
    half[:, :32] = 1
    found = overlay(image, [(half, (255, 0, 0))])
    assert (found[:, :20] == 128).all()


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        overlay(np.zeros((8, 8, 3), np.uint8), [(np.zeros((8, 9), np.uint8), (0, 0, 0))])
