from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from dermdistill.imaging import drawing
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


@pytest.mark.parametrize("side", [300, 1300])
def test_the_squares_that_are_coloured_at_a_time_do_not_show(
    monkeypatch: pytest.MonkeyPatch, side: int
) -> None:
    turn = np.linspace(0, 2 * np.pi, 200)
    ring = side * np.stack([0.5 + 0.45 * np.cos(turn), 0.4 + 0.42 * np.sin(turn)], axis=1)  # beyond the top
    drawn = []
    for tile in (48, 10_000):
        monkeypatch.setattr(drawing, "_TILE", tile)
        picture = Image.new("RGB", (side, side), (200, 180, 160))
        drawing.draw_outlines(picture, [ring], (0, 90, 255))
        drawn.append(np.asarray(picture).astype(int))
    assert (drawn[0] != (200, 180, 160)).any()
    assert np.abs(drawn[0] - drawn[1]).max() <= 12  # steep edges, and coordinates that are rounded
