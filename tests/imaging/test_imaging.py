from __future__ import annotations

import io
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dermdistill import imaging
from dermdistill.core.errors import DataError


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


RGB = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "LA", "CMYK", "1", "I;16"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    if mode == "I;16":
        picture = Image.fromarray(np.full((5, 7), 200 * 256, np.uint16))
    elif mode == "P":
        picture = Image.fromarray(np.full((5, 7, 3), 200, np.uint8)).quantize(4)
    else:
        picture = Image.fromarray(np.full((5, 7, 3), 200, np.uint8)).convert(mode)
    found = imaging.read_image(encoded(picture, "TIFF"))
    assert found.shape == (5, 7, 3)
    assert found.dtype == np.uint8
    if mode != "1":
        assert np.abs(found.astype(int) - 200).max() <= 1


def test_transparency_is_laid_on_white() -> None:
    assert (imaging.read_image(encoded(Image.new("RGBA", (3, 3), (0, 0, 0, 0)))) == 255).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_to_pixels_and_size(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(RGB), "PNG", exif=exif)
    found = imaging.read_image(data)
    expected = {
        1: RGB, 2: RGB[:, ::-1], 3: RGB[::-1, ::-1], 4: RGB[::-1], 5: RGB.swapaxes(0, 1),
        6: np.rot90(RGB, -1), 7: np.rot90(RGB, 2).swapaxes(0, 1), 8: np.rot90(RGB, 1),
    }[orientation]  # fmt: skip
    assert np.array_equal(found, expected)
    assert imaging.image_size(data) == (found.shape[1], found.shape[0])


def test_masks_are_thresholded_above_127_and_greys_told() -> None:
    mask, greys = imaging.read_mask(encoded(Image.fromarray(np.array([[0, 127, 128, 255]], np.uint8))))
    assert mask.tolist() == [[0, 0, 1, 1]]
    assert greys
    mask, greys = imaging.read_mask(encoded(Image.fromarray(np.array([[0, 255]], np.uint8))))
    assert (mask.tolist(), greys) == ([[0, 1]], False)
    one_bit = Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1")
    assert imaging.read_mask(encoded(one_bit, "BMP"))[0].tolist() == [[0, 1]]
    assert imaging.read_mask(encoded(one_bit.convert("RGB"), "BMP"))[0].tolist() == [[0, 1]]


def test_broken_files_are_named(tmp_path: Path) -> None:
    whole = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)), "JPEG")
    for name, data in {"cut.jpg": whole[: len(whole) // 2], "text.png": b"hello", "empty.bmp": b""}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match=name.replace(".", r"\.")):
            imaging.read_image(tmp_path / name)
    with pytest.raises(DataError, match="does not exist"):
        imaging.read_image(tmp_path / "no.png")


def test_size_is_bounded_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(Image.fromarray(RGB))
    monkeypatch.setattr("dermdistill.imaging.decode.MAX_PIXELS", 34)
    with pytest.raises(DataError, match="7 × 5"):
        imaging.read_image(data)


@given(h=st.integers(1, 40), w=st.integers(1, 40), size=st.integers(1, 40), seed=st.integers(0, 9))
@settings(max_examples=40)
def test_resized_masks_stay_binary(h: int, w: int, size: int, seed: int) -> None:
    mask = (np.random.default_rng(seed).random((h, w)) < 0.5).astype(np.uint8)
    found = imaging.resize_mask(mask, size)
    assert found.shape == (size, size)
    assert set(np.unique(found)) <= {0, 1}


@given(value=st.integers(0, 255), h=st.integers(1, 50), w=st.integers(1, 50))
@settings(max_examples=30)
def test_flat_colour_survives_there_and_back(value: int, h: int, w: int) -> None:
    small = imaging.resize_image(np.full((h, w, 3), value, np.uint8), 16)
    assert (small == value).all()
    prob = imaging.restore_prob(np.full((16, 16), value / 255, np.float32), h, w)
    assert prob.shape == (h, w)
    np.testing.assert_allclose(prob, value / 255, atol=1e-6)


def test_threshold_is_exclusive() -> None:
    assert imaging.to_mask(np.float32([[0.5, 0.50001]])).tolist() == [[0, 1]]


def test_restoring_a_photograph_is_modest() -> None:
    prob = np.random.default_rng(0).random((256, 256), dtype=np.float32)
    tracemalloc.start()
    start = time.perf_counter()
    imaging.restore_prob(prob, 4000, 6000)
    seconds = time.perf_counter() - start
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 250e6  # one float32 map is 96 MB
    assert seconds < 10


def test_draft_decoding_stays_above_twice_the_wanted_size() -> None:
    data = encoded(Image.new("RGB", (1600, 1200), (200, 100, 50)), "JPEG")
    found = imaging.read_image(data, near=128)
    assert found.shape[0] >= 256
    assert found.shape[0] < 1200
    assert imaging.image_size(data) == (1600, 1200)


def test_an_overlay_draws_the_outline_and_leaves_the_rest() -> None:
    image = np.full((128, 128, 3), 120, np.uint8)
    mask = np.zeros((128, 128), np.uint8)
    mask[32:96, 32:96] = 1
    found = imaging.overlay(image, [(mask, (255, 0, 0))])
    assert (found[64, 64] == 120).all()
    assert (found[5, 5] == 120).all()
    assert found[64, 31:34, 0].max() > 170  # a line, where 120 was
    assert (image == 120).all()
    assert np.array_equal(imaging.overlay(image, [(np.zeros_like(mask), (255, 0, 0))]), image)


def test_written_masks_are_black_and_white(tmp_path: Path) -> None:
    imaging.write_png(tmp_path / "m.png", np.array([[0, 1]], np.uint8))
    assert np.asarray(Image.open(tmp_path / "m.png")).tolist() == [[0, 255]]
    assert [p.name for p in tmp_path.iterdir()] == ["m.png"]


@pytest.mark.parametrize("shape", [(1, 1), (64, 3), (65, 200), (300, 129)])
def test_a_masks_png_holds_its_pixels(shape: tuple[int, int]) -> None:
    y, x = np.mgrid[: shape[0], : shape[1]]
    masks = {"blob": (x - 60) ** 2 + (y - 50) ** 2 < 900, "stripes": x % 2 == 0, "all": x >= 0, "none": x < 0}
    for name, mask in masks.items():
        for array in (mask.astype(np.uint8), np.asfortranarray(mask.astype(np.uint8))):
            png = Image.open(io.BytesIO(imaging.encode_png(array)))
            assert (png.mode, png.size) == ("L", shape[::-1])
            assert np.array_equal(np.asarray(png), mask * 255), name
