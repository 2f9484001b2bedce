"""Masks that are wrong, or written otherwise, without anybody noticing."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dermdistill.core.errors import DataError
from dermdistill.data.prepare.mask_checks import border_share, fits_unturned
from dermdistill.imaging import decode_mask, read_mask
from smallfiles import prepare_own, write

DISC = np.hypot(*(np.mgrid[:30, :40] - np.array([[[15]], [[14]]]))) < 9


def picture(disc: np.ndarray = DISC, orientation: int = 1) -> bytes:
    """A dark disc on bright skin, stored as the orientation says."""
    noise = np.random.default_rng(int(disc.sum())).integers(0, 20, (*disc.shape, 3))
    pixels = np.where(disc[..., None], 60, 200) + noise
    stream, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels.astype(np.uint8)).save(stream, "JPEG", quality=95, exif=exif)
    return stream.getvalue()


def encoded(values: Any, mode: str | None = None, suffix: str = "PNG") -> bytes:
    stream = io.BytesIO()
    image = values if isinstance(values, Image.Image) else Image.fromarray(values)
    (image.convert(mode) if mode else image).save(stream, suffix)
    return stream.getvalue()


def palette(colours: list[int], index: np.ndarray = DISC) -> Image.Image:
    made = Image.new("P", index.shape[::-1])
    made.putdata(index.astype(int).ravel().tolist())
    made.putpalette(colours)
    return made


@pytest.mark.parametrize(
    ("content", "written_as"),
    [
        (encoded((DISC * 255).astype(np.uint8)), "0/255"),
        (encoded((DISC * 255).astype(np.uint8), "1"), "0/255"),
        (encoded((DISC * 255).astype(np.uint8), "RGB"), "0/255"),
        (encoded((DISC * 255).astype(np.uint8), suffix="JPEG"), "0/255"),
        (encoded(DISC.astype(np.uint8)), "0/1"),
        (encoded(DISC.astype(np.uint8), "RGB"), "0/1"),
        (encoded(DISC.astype(np.uint16)), "0/1"),
        (encoded((DISC * 255).astype(np.uint16)), "0/255"),
        (encoded((DISC * 65535).astype(np.uint16)), "16 bits"),
        (encoded(DISC.astype(np.float32), suffix="TIFF"), "fractions"),
        (encoded((DISC * 0.9 + 0.05).astype(np.float32), suffix="TIFF"), "fractions"),
        (encoded((DISC * 255).astype(np.float32), suffix="TIFF"), "0/255"),
        (encoded(palette([0, 0, 0, 128, 0, 0])), "0/255"),
        (encoded(palette([0, 0, 0, 60, 40, 20])), "palette index"),
        (encoded(palette([90, 90, 90, 60, 40, 20])), "palette index"),
        (encoded(palette([0, 0, 0, 1, 1, 1])), "palette index"),
    ],
)
def test_ways_to_write_one_mask(content: bytes, written_as: str) -> None:
    decoded = decode_mask(content)
    assert decoded.written_as == written_as
    np.testing.assert_array_equal(decoded.mask, DISC)
    assert decoded.mask.dtype == np.uint8
    np.testing.assert_array_equal(read_mask(content)[0], DISC)


def test_what_is_no_mask() -> None:
    for values in (np.full((4, 4), np.nan), np.full((4, 4), -1.0), np.full((4, 4), 1e9)):
        with pytest.raises(DataError, match="no mask's"):
            decode_mask(encoded(values.astype(np.float32), suffix="TIFF"))
    assert decode_mask(encoded(np.zeros((4, 4), np.uint8))).written_as == "nothing"
    nearly_black = decode_mask(encoded(np.full((16, 16), 1, np.uint8), suffix="JPEG"))
    assert not nearly_black.mask.any(), "black may be 1 in JPEG"
    assert not decode_mask(encoded((DISC * 2).astype(np.uint8))).mask.any(), "classes are no mask"


def lab(folder: Path, masks: list[np.ndarray], images: list[bytes] | None = None) -> Path:
    for n, mask in enumerate(masks):
        write(folder / "images" / f"p{n}.jpg", images[n] if images else picture(np.roll(DISC, n, 1)))
        write(folder / "masks" / f"p{n}.png", encoded(mask))
    return folder


def discs(count: int, white: int = 255) -> list[np.ndarray]:
    return [(np.roll(DISC, n, 1) * white).astype(np.uint8) for n in range(count)]


def test_masks_of_0_and_1_are_read_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        data = prepare_own(lab(tmp_path, discs(5, 1)), size=40)
    assert data.masks.any(axis=(1, 2)).all()
    assert data.info["health"]["written_as"] == {"0/1": 5}
    assert "0/1: 5" in caplog.text
    np.testing.assert_array_equal(data.native_mask(0), DISC)


def test_masks_written_in_two_ways_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"2 masks reach no further than 1, such as .*p3\.png"):
        prepare_own(lab(tmp_path, [*discs(3), *discs(5, 1)[3:]]))


def test_inverted_masks_are_refused_where_most_are(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    good, bad = discs(6), [255 - mask for mask in discs(6)]
    with pytest.raises(DataError, match=r"4 of 6 masks hold lesion all around(?s:.*)Invert"):
        prepare_own(lab(tmp_path / "most", [*good[:2], *bad[2:]]))
    data = prepare_own(lab(tmp_path / "one", [*good[:5], bad[5]]))
    assert data.info["health"]["inverted"] == ["p5"]
    assert "inverted, it seems" in caplog.text
    assert border_share(np.ones((4, 4), np.uint8)) == 0, "all lesion: a close picture, not inverted"


def test_all_empty_is_refused_also_when_empty_ones_are_allowed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="All of the 3 masks are empty"):
        prepare_own(lab(tmp_path / "all", [mask * 0 for mask in discs(3)]), allow_empty=True)
    data = prepare_own(lab(tmp_path / "some", [discs(4)[0] * 0, *discs(4)[1:]]), allow_empty=True)
    assert data.info["health"]["empty"] == 1


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_turned_image_with_an_unturned_mask_says_why_its_sides_differ(
    tmp_path: Path, orientation: int
) -> None:
    folder = lab(tmp_path, discs(3), [picture(orientation=orientation)] * 3)
    with pytest.raises(
        DataError, match=rf"turned by its EXIF orientation \({orientation}\), the mask is not"
    ):
        prepare_own(folder)


@pytest.mark.parametrize("orientation", range(2, 9))
def test_turned_squares_are_compared_both_ways(
    tmp_path: Path, orientation: int, caplog: pytest.LogCaptureFixture
) -> None:
    square = np.zeros((40, 40), bool)
    square[3:15, 6:14] = True  # nowhere near itself when it is turned or mirrored
    masks = [(square * 255).astype(np.uint8)] * 3
    upright, turned = picture(square), picture(square, orientation)
    data = prepare_own(lab(tmp_path, masks, [turned, upright, upright]), size=40)
    assert data.info["health"]["turned_by_exif"] == 1
    assert data.info["health"]["fit_better_unturned"] == ["p0"]
    assert "fit better unturned" in caplog.text
    assert not fits_unturned(np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8), orientation)


def test_the_health_of_good_masks_is_short(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        data = prepare_own(lab(tmp_path, discs(4)))
    (table,) = [message for message in caplog.messages if message.startswith("Health of the masks")]
    assert table.splitlines()[1].split()[:2] == ["masks", "4,"]
    assert len(table.splitlines()) == 2
    assert data.info["health"]["masks"] == 4
