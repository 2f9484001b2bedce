from __future__ import annotations

import contextlib
import io
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dermdistill import imaging
from dermdistill.core.errors import DataError


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def bitmap_header(width: int, height: int) -> bytes:
    """A BMP that claims a size and holds no pixels."""
    return (
        encoded(Image.new("RGB", (1, 1)), "BMP")[:18]
        + width.to_bytes(4, "little")
        + height.to_bytes(4, "little")
        + encoded(Image.new("RGB", (1, 1)), "BMP")[26:54]
    )


@given(h=st.integers(1, 40), w=st.integers(1, 40), new=st.tuples(st.integers(1, 60), st.integers(1, 60)))
@settings(max_examples=60, deadline=None)
def test_restoring_agrees_with_pillow_in_both_directions(h: int, w: int, new: tuple[int, int]) -> None:
    prob = np.random.default_rng(h * 41 + w).random((h, w), dtype=np.float32)
    expected = np.asarray(Image.fromarray(prob).resize(new[::-1], Image.Resampling.BILINEAR))
    np.testing.assert_allclose(imaging.restore_prob(prob, *new), expected, atol=2e-6)


def test_restoring_golden() -> None:
    found = imaging.restore_prob(np.array([[0, 1]], np.float32), 1, 4)
    np.testing.assert_allclose(found, [[0, 0.25, 0.75, 1]])


@given(factor=st.integers(2, 6), seed=st.integers(0, 50))
@settings(max_examples=40, deadline=None)
def test_a_mask_pixel_is_lesion_where_at_least_half_of_its_area_is(factor: int, seed: int) -> None:
    mask = (np.random.default_rng(seed).random((5 * factor, 5 * factor)) < 0.5).astype(np.uint8)
    blocks = mask.reshape(5, factor, 5, factor).sum(axis=(1, 3))
    assert np.array_equal(imaging.resize_mask(mask, 5), (2 * blocks >= factor**2).astype(np.uint8))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_size_is_that_of_the_turned_pixels(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.new("RGB", (7, 5)), kind, exif=exif)
    height, width, _ = imaging.read_image(data).shape
    assert imaging.image_size(data) == (width, height) == ((7, 5) if orientation < 5 else (5, 7))


def test_coloured_and_transparent_masks() -> None:
    red = np.zeros((1, 2, 3), np.uint8)
    red[0, 1, 0] = 255
    assert imaging.read_mask(encoded(Image.fromarray(red), "PNG"))[0].tolist() == [[0, 1]]
    clear = Image.fromarray(np.array([[[255] * 4, [255, 255, 255, 0]]], np.uint8))
    assert imaging.read_mask(encoded(clear, "PNG"))[0].tolist() == [[1, 0]]


def test_floating_point_images_are_refused() -> None:
    with pytest.raises(DataError, match="floating-point"):
        imaging.read_image(encoded(Image.fromarray(np.ones((3, 3), np.float32)), "TIFF"))


def test_huge_images_are_refused_without_a_warning_in_every_thread() -> None:
    before = Image.MAX_IMAGE_PIXELS

    def refuse(_: int) -> bool:
        with pytest.raises(DataError, match="at most 200,000,000 pixels, for want of 2 GB"):
            imaging.read_image(bitmap_header(20_000, 20_000))
        return imaging.image_size(bitmap_header(12_000, 12_000)) == (12_000, 12_000)

    with warnings.catch_warnings(), ThreadPoolExecutor(4) as pool:
        warnings.simplefilter("error")
        assert all(pool.map(refuse, range(20)))
    assert before == Image.MAX_IMAGE_PIXELS


@given(cut=st.floats(0, 1), kind=st.sampled_from(["JPEG", "PNG", "BMP"]), at=st.integers(0, 10**6))
@settings(max_examples=80, deadline=None)
def test_damaged_bytes_raise_only_our_error(cut: float, kind: str, at: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (24, 24, 3), np.uint8)
    data = bytearray(encoded(Image.fromarray(pixels), kind))
    data[at % len(data)] ^= 0x5A
    data = data[: int(len(data) * cut)]
    # Any other exception fails the test.
    with contextlib.suppress(DataError):
        assert imaging.read_image(bytes(data)).ndim == 3


def test_a_stream_is_not_closed() -> None:
    stream = io.BytesIO(encoded(Image.new("RGB", (3, 2)), "PNG"))
    assert imaging.read_image(stream).shape == (2, 3, 3)
    assert not stream.closed
