"""Pictures that are not what their header says, or made to take minutes: refused in one line."""

from __future__ import annotations

import io
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from dermdistill import imaging
from dermdistill.core.errors import DataError
from dermdistill.imaging import complete, decode
from dermdistill.imaging.complete import MAX_SCANS


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    width: int, height: int, rows: bytes, *, colour: int = 2, depth: int = 8, interlace: int = 0
) -> bytes:
    """A PNG that ends properly, whatever rows it holds."""
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    parts = chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


NOISE = Image.fromarray(np.random.default_rng(0).integers(90, 255, (120, 160, 3), np.uint8))


@pytest.mark.parametrize(("width", "height"), [(1, 50_000_000), (50_000_000, 1), (65_536, 2), (2, 65_501)])
def test_long_sides_are_refused_before_decoding(width: int, height: int, monkeypatch) -> None:
    monkeypatch.setattr(decode, "load_complete", None)
    started = time.process_time()
    with pytest.raises(DataError, match="sides of at most 65,500"):
        imaging.read_image(png(width, height, b"", colour=0))
    assert time.process_time() - started < 1


def test_the_longest_side_goes_all_the_way(tmp_path) -> None:
    from dermdistill import Predictor
    from dermdistill.inference.writers import OutputWriter

    path = tmp_path / "thin.png"
    path.write_bytes(png(1, 65_500, bytes([0, 200]) * 65_500, colour=0))
    prediction = Predictor(threads=1)(path)
    OutputWriter(tmp_path, ("mask", "overlay", "probability", "geojson")).write(path, "thin", prediction)
    for name in ("thin_mask.png", "thin_overlay.jpg", "thin_probability.png"):
        assert imaging.image_size(tmp_path / name) == (1, 65_500)


def test_a_png_of_three_rows_of_14000_is_refused() -> None:
    data = png(100, 14_000, (b"\0" + bytes([200]) * 300) * 3)
    with pytest.raises(DataError, match=r"only 0\.021 % of its pixels"):
        imaging.read_image(data)
    with pytest.raises(DataError, match="of its pixels"):
        imaging.read_mask(data)


@pytest.mark.parametrize(
    ("colour", "depth", "row"), [(0, 1, 3), (3, 2, 4), (0, 16, 21), (4, 8, 21), (6, 16, 81)]
)
def test_rows_are_counted_in_every_colour_type(colour: int, depth: int, row: int) -> None:
    whole = png(10, 9, bytes(row * 9), colour=colour, depth=depth)
    if colour == 3:
        at = whole.index(b"IDAT") - 4
        whole = whole[:at] + chunk(b"PLTE", bytes(12)) + whole[at:]
    assert imaging.read_image(whole).shape == (9, 10, 3)  # black, and all there
    short = whole.replace(
        chunk(b"IDAT", zlib.compress(bytes(row * 9))), chunk(b"IDAT", zlib.compress(bytes(row * 8)))
    )
    with pytest.raises(DataError, match="89 % of its pixels"):
        imaging.read_image(short)


def test_interlaced_pngs_are_counted_by_their_passes() -> None:
    # Eleven by nine pixels of grey: two, one and two columns … in passes of 2, 2, 1, 3, 2, 5 and 4 rows.
    passes = [(2, 2), (2, 1), (1, 3), (3, 3), (2, 6), (5, 5), (4, 11)]
    rows = b"".join((b"\0" + bytes([200]) * across) * down for down, across in passes)
    assert (imaging.read_image(png(11, 9, rows, colour=0, interlace=1)) == 200).all()
    with pytest.raises(DataError, match="of its pixels"):
        imaging.read_image(png(11, 9, rows[:-12], colour=0, interlace=1))


def test_a_jpeg_that_ends_properly_in_the_middle_is_refused() -> None:
    whole = encoded(NOISE, "JPEG")
    with pytest.raises(DataError, match="lower part is missing"):
        imaging.read_image(whole[: len(whole) // 2] + b"\xff\xd9")
    grey = Image.new("RGB", (64, 64), (128, 128, 128))
    assert (imaging.read_image(encoded(grey, "JPEG")) == 128).all()  # a picture of that grey is one


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.97])
def test_cut_files_are_refused_in_one_line(kind: str, share: float) -> None:
    data = encoded(NOISE, kind)
    with pytest.raises(DataError) as caught:
        imaging.read_image(data[: int(share * len(data))])
    assert "\n" not in caught.value.found


def test_a_jpeg_of_very_many_scans_is_refused() -> None:
    data = encoded(Image.new("RGB", (64, 64), "tan"), "JPEG", progressive=True)
    last, end = data.rindex(b"\xff\xda"), data.rindex(b"\xff\xd9")
    with pytest.raises(DataError, match="scans"):
        imaging.read_image(data[:end] + data[last:end] * MAX_SCANS + data[end:])
    # What looks like scans in what an application adds is none.
    noise = chunk(b"", b"\xff\xda" * 500)
    assert imaging.read_image(data + noise).shape == (64, 64, 3)


def test_run_length_bitmaps_are_bounded() -> None:
    def bitmap(width: int, height: int, code: bytes) -> bytes:
        palette = b"".join(bytes([i, i, i, 0]) for i in range(256))
        start = 54 + len(palette)
        head = struct.pack("<IHHI", start + len(code), 0, 0, start)
        info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(code), 0, 0, 256, 256)
        return b"BM" + head + info + palette + code

    assert (imaging.read_image(bitmap(4, 2, b"\x04\x80\0\0\x04\x80\0\1")) == 128).all()
    with pytest.raises(DataError, match="run-length code"):
        imaging.read_image(bitmap(60_000, 3_000, b"\0\2\xff\xff" * 1000))


def test_a_png_is_not_decoded_for_its_size(monkeypatch) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(Image.new("RGB", (7, 5)), "PNG", exif=exif)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", None)
    assert imaging.image_size(data) == (5, 7)
    assert imaging.image_size(encoded_without(data)) == (7, 5)


def encoded_without(data: bytes) -> bytes:
    """The PNG without its EXIF, and without its pixels."""
    start = data.index(b"eXIf") - 4
    return data[:start] + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize("mode", ["RGBA", "LA", "I;16", "P", "CMYK"])
def test_converting_takes_little_memory_and_changes_nothing(mode: str, monkeypatch) -> None:
    rng = np.random.default_rng(1)
    if mode == "I;16":
        picture = Image.fromarray(rng.integers(0, 65_536, (50, 40)).astype(np.uint16))
    elif mode == "P":
        picture = Image.fromarray(rng.integers(0, 256, (50, 40, 3)).astype(np.uint8)).quantize(50)
        picture.info["transparency"] = 3
    else:
        picture = Image.frombytes(
            mode, (40, 50), rng.bytes(40 * 50 * len(Image.new(mode, (1, 1)).getbands()))
        )
    whole = np.asarray(decode.to_rgb(picture, "white"))
    monkeypatch.setattr(decode, "_PART", 300)
    assert np.array_equal(np.asarray(decode.to_rgb(picture, "white")), whole)
    if mode in ("RGBA", "LA"):
        behind = Image.new("RGBA", picture.size, "white")
        expected = Image.alpha_composite(behind, picture.convert("RGBA")).convert("RGB")
        assert np.array_equal(whole, np.asarray(expected))


def test_grey_levels_and_mean_of_a_restored_map() -> None:
    prob = np.random.default_rng(2).random((33, 20), dtype=np.float32)
    restored = imaging.restore_prob(prob, 150, 260)
    assert np.array_equal(
        imaging.restore_grey(prob, 150, 260), (restored * np.float32(255)).round().astype(np.uint8)
    )
    half = (restored / 2 * np.float32(510)).round().astype(np.uint8)
    assert np.abs(imaging.restore_grey(prob / 2, 150, 260, 0.5).astype(int) - half).max() <= 1
    assert imaging.restored_mean(prob, 150, 260) == pytest.approx(restored.mean(dtype=np.float64), abs=1e-7)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "I;16"])
def test_a_whole_png_is_decoded_once_and_as_pillow_does(mode: str, monkeypatch) -> None:
    counted = []
    monkeypatch.setattr(complete, "_check_rows", counted.append)
    dark = Image.new(mode, (40, 30))
    dark.paste(Image.new(mode, (9, 7), 200), (5, 5))
    stream = io.BytesIO()
    dark.save(stream, "PNG")
    expected = np.asarray(Image.open(io.BytesIO(stream.getvalue())))  # Pillow alone
    image = Image.open(io.BytesIO(stream.getvalue()))
    complete.load_complete(image)
    np.testing.assert_array_equal(np.asarray(image), expected)
    assert not counted


@pytest.mark.slow
def test_memory_of_the_largest_transparent_picture_is_bounded(tmp_path) -> None:
    import subprocess
    import sys

    path = tmp_path / "large.png"
    Image.new("RGBA", (14_000, 14_000), (1, 2, 3, 100)).save(path, compress_level=1)
    code = (
        "import sys\nfrom pathlib import Path\nfrom dermdistill import imaging\n"
        "imaging.open_picture(Path(sys.argv[1]))\n"
        # ru_maxrss would be that of the process that forked this one, where it was larger
        "print([line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')][0])"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, check=True)
    peak = int(done.stdout) * 1024
    assert peak < 14_000**2 * decode.BYTES_PER_PIXEL
