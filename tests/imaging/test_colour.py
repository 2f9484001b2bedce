"""Pictures as phones and cameras write them: HEIC, AVIF, and colours that are not sRGB."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest
from PIL import Image, ImageCms, features

from dermdistill import imaging
from dermdistill.core.errors import DataError
from dermdistill.imaging import colour

SKIN = np.full((40, 60, 3), (200, 150, 130), np.uint8)
SKIN[10:20, 10:30] = (90, 50, 40)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def rgb_profile(red: tuple[float, float], green: tuple[float, float], gamma: float) -> bytes:
    """An ICC profile (version 2, three primaries and a gamma) with sRGB's blue and white.

    Args:
        red: Its chromaticity x, y.
        green: Its chromaticity x, y.
        gamma: Of all three channels.
    """

    def xyz(x: float, y: float) -> np.ndarray:
        return np.array([x / y, 1, (1 - x - y) / y])

    bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    d65, d50 = xyz(0.3127, 0.3290), xyz(0.3457, 0.3585)
    primaries = np.stack([xyz(*red), xyz(*green), xyz(0.15, 0.06)], axis=1)
    matrix = primaries * np.linalg.solve(primaries, d65)
    to_d50 = np.linalg.inv(bradford) @ np.diag((bradford @ d50) / (bradford @ d65)) @ bradford

    def fixed(values: np.ndarray) -> bytes:
        return np.round(np.asarray(values) * 65536).astype(">i4").tobytes()

    columns = (to_d50 @ matrix).T
    curve = b"curv" + bytes(4) + (1).to_bytes(4, "big") + round(gamma * 256).to_bytes(2, "big") + bytes(2)
    text = b"desc" + bytes(4) + (5).to_bytes(4, "big") + b"test\0" + bytes(78 + 1)
    tags = {b"desc": text, b"wtpt": b"XYZ " + bytes(4) + fixed(d50)}
    tags |= {
        n: b"XYZ " + bytes(4) + fixed(c) for n, c in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns, strict=True)
    }
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    table, body, start = len(tags).to_bytes(4, "big"), b"", 128 + 4 + 12 * len(tags)
    for name, value in tags.items():
        table += name + (start + len(body)).to_bytes(4, "big") + len(value).to_bytes(4, "big")
        body += value + bytes(-len(value) % 4)
    head = (start + len(body)).to_bytes(4, "big") + bytes(4) + b"\2\x10\0\0mntrRGB XYZ " + bytes(12) + b"acsp"
    head = head.ljust(68, b"\0") + fixed(d50)
    return head.ljust(128, b"\0") + table + body


DISPLAY_P3 = rgb_profile((0.68, 0.32), (0.265, 0.69), 2.2)
ADOBE_RGB = rgb_profile((0.64, 0.33), (0.21, 0.71), 2.19921875)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize("profile", [DISPLAY_P3, ADOBE_RGB], ids=["Display P3", "Adobe RGB"])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_other_colour_spaces_become_srgb(profile: bytes, kind: str) -> None:
    source = ImageCms.ImageCmsProfile(io.BytesIO(SRGB))
    target = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    there = ImageCms.ImageCmsTransform(source, target, "RGB", "RGB").apply(Image.fromarray(SKIN))
    assert np.abs(np.asarray(there).astype(int) - SKIN).max() > 8, "its numbers are other ones"
    there.info.clear()
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    found = imaging.read_image(encoded(there, kind, icc_profile=profile, **options))
    assert np.abs(found.astype(int) - SKIN).max() <= 4
    plain = imaging.read_image(encoded(there, kind, **options))
    assert np.abs(plain.astype(int) - np.asarray(there)).max() <= 3, "without a profile nothing changes"


def test_srgb_itself_and_no_profile_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    tagged = Image.open(io.BytesIO(encoded(Image.fromarray(whole), icc_profile=SRGB)))
    tagged.load()
    assert colour.to_srgb(tagged) is tagged
    monkeypatch.setattr(colour, "_transform", None)
    plain = Image.fromarray(whole)
    assert colour.to_srgb(plain) is plain


def test_transparency_and_palettes_keep_what_they_mean() -> None:
    picture = Image.fromarray(SKIN)
    palette = encoded(picture.quantize(4), icc_profile=ADOBE_RGB)
    full = encoded(picture, icc_profile=ADOBE_RGB)
    assert np.abs(imaging.read_image(palette).astype(int) - imaging.read_image(full)).max() <= 3
    clear = picture.convert("RGBA")
    clear.putalpha(0)
    assert (imaging.read_image(encoded(clear, icc_profile=DISPLAY_P3)) == 255).all(), "laid on white"


def test_a_broken_profile_is_passed_over_and_said(caplog: pytest.LogCaptureFixture) -> None:
    colour._transform.cache_clear()
    found = imaging.read_image(encoded(Image.fromarray(SKIN), icc_profile=b"no profile at all"))
    assert (found == SKIN).all()
    assert "colour profile is passed over" in caplog.text
    grey = Image.fromarray(SKIN).convert("L")
    assert (imaging.read_image(encoded(grey, icc_profile=ADOBE_RGB))[..., 0] == np.asarray(grey)).all()


def test_heic_of_a_phone_is_turned_and_its_colours_are_converted() -> None:
    pillow_heif = pytest.importorskip("pillow_heif", reason="PILLOW-HEIF IS ABSENT: no HEIC file was made")
    pytest.importorskip("pi_heif", reason="THE EXTRA heic IS ABSENT: no HEIC file was read")
    stream = io.BytesIO()
    made = pillow_heif.from_pillow(Image.fromarray(SKIN))
    made.info["icc_profile"], made.info["icc_profile_type"] = ADOBE_RGB, "prof"
    exif = Image.Exif()
    exif[0x0112] = 6
    made.info["exif"] = exif.tobytes()
    made.save(stream, quality=-1, chroma=444)
    found = imaging.read_image(stream.getvalue())
    assert imaging.image_size(stream.getvalue()) == (found.shape[1], found.shape[0])
    expected = imaging.read_image(
        encoded(Image.fromarray(SKIN).rotate(-90, expand=True), icc_profile=ADOBE_RGB)
    )
    assert found.shape == expected.shape == (60, 40, 3)
    assert np.abs(found.astype(int) - expected).max() <= 6


@pytest.mark.skipif(not features.check("avif"), reason="THIS PILLOW HAS NO AVIF: none was read")
def test_avif_is_read_by_pillow_itself() -> None:
    found = imaging.read_image(encoded(Image.fromarray(SKIN), "AVIF", quality=100, icc_profile=ADOBE_RGB))
    expected = imaging.read_image(encoded(Image.fromarray(SKIN), icc_profile=ADOBE_RGB))
    assert np.abs(found.astype(int) - expected).max() <= 8


def test_without_the_extra_a_heic_file_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("pi_heif")] + [
        "pi_heif",
        "pi_heif.as_plugin",
    ]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(DataError, match=r"(?s)heic.*pip install 'dermdistill\[heic\]'"):
        imaging.read_image(bytes(4) + b"ftypheic" + bytes(40))
    with pytest.raises(DataError, match=r"(?s)kind b'isom'.*Convert it"):
        imaging.read_image(bytes(4) + b"ftypisom" + bytes(40))
