"""Whether a file holds all of the pixels that its header promises, and does not take minutes to decode.

Pillow refuses files that are cut off, but not those that end properly and too early: the rows that are not
there come out black (PNG) or grey (JPEG), and a mask of them would look like one of the whole picture.
"""

from __future__ import annotations

import re
import struct
import zlib
from typing import IO

import numpy as np
from PIL import BmpImagePlugin, Image, ImageFile, JpegImagePlugin, PngImagePlugin

MAX_SCANS = 100
"""Of a JPEG; progressive ones have about ten. Each goes over all pixels (libjpeg-turbo, LJT-01-005)."""
MAX_RUN_LENGTH_BYTES = 4 * 2**20
"""Of a BMP file that is coded in runs: Pillow decodes these in Python, a second for each two megabytes."""
MAX_RUN_LENGTH_PIXELS = 16_000_000

_SCAN = re.compile(rb"\xff\xda\x00(?:\x08\x01|\x0a\x02|\x0c\x03|\x0e\x04)")  # its marker, length, components
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of PNG's colour types
_ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
"""Of each pass of an interlaced PNG: first row and column, steps of rows and columns."""
_BLOCK = 1 << 20
_UNWRITTEN: dict[str, float | tuple[float, ...]] = {
    "1": 255, "L": 254, "P": 254, "LA": (254, 253), "RGB": (1, 254, 3), "RGBA": (1, 254, 3, 253),
    "I;16": 65533,
}  # fmt: skip
"""What a PNG's pixels are before they are decoded, by Pillow's mode: a value that few pictures have."""


def load_complete(image: ImageFile.ImageFile) -> None:
    """Decode a picture's pixels, all of them.

    Args:
        image: Opened, and not decoded yet.

    Raises:
        ValueError: Pixels are missing, or the file is made to take very long.
        OSError: It is cut off or broken, as Pillow says.
    """
    stream = image.fp
    if isinstance(image, JpegImagePlugin.JpegImageFile) and stream is not None:
        _check_scans(stream)
    if isinstance(image, BmpImagePlugin.BmpImageFile) and stream is not None:
        _check_runs(image, stream)
    unwritten = _UNWRITTEN.get(image.mode, 0) if isinstance(image, PngImagePlugin.PngImageFile) else 0
    if unwritten:
        image.im = Image.new(image.mode, image.size, unwritten).im  # the decoder takes what is there
    image.load()
    last = image.height - 1
    if isinstance(image, PngImagePlugin.PngImageFile) and stream is not None:
        # Missing rows stay as they were; only where the last one is so, the bytes are counted, which costs as
        # much as decoding.
        row = _row(image, last)
        if image.info.get("interlace") or (row == np.array(unwritten, dtype=row.dtype)).all():
            _check_rows(stream)
    elif (
        # What is missing has coefficients of 0, which are the middle grey; no camera's row is just that.
        isinstance(image, JpegImagePlugin.JpegImageFile)
        and image.mode in ("L", "RGB")
        and (_row(image, last) == 128).all()
        and not (_row(image, 0) == 128).all()
    ):
        raise ValueError("its lower part is missing")


def _row(image: ImageFile.ImageFile, number: int) -> np.ndarray:
    return np.asarray(image.crop((0, number, image.width, number + 1)))


def _check_scans(stream: IO[bytes]) -> None:
    stream.seek(0)
    scans = sum(1 for _ in _SCAN.finditer(stream.read()))
    if scans > MAX_SCANS:
        raise ValueError(f"it is coded in {scans} scans, of at most {MAX_SCANS}")


def _check_runs(image: ImageFile.ImageFile, stream: IO[bytes]) -> None:
    if image.info.get("compression") not in (1, 2):
        return
    size = stream.seek(0, 2)
    if size > MAX_RUN_LENGTH_BYTES or image.width * image.height > MAX_RUN_LENGTH_PIXELS:
        raise ValueError(
            f"it is a BMP in run-length code, of {size:,} bytes and {image.width} × {image.height} pixels "
            f"(at most {MAX_RUN_LENGTH_BYTES:,} bytes and {MAX_RUN_LENGTH_PIXELS:,} pixels)"
        )


def _check_rows(stream: IO[bytes]) -> None:
    """Inflate a PNG file's pixels in blocks, and hold their bytes against what its size needs."""
    stream.seek(0)
    content = stream.read()
    width, height, depth, colour, _, _, interlace = struct.unpack(">IIBBBBB", content[16:29])
    bits = depth * _CHANNELS[colour]
    needed = 0
    for row, column, rows, columns in _ADAM7 if interlace else ((0, 0, 1, 1),):
        across, down = -((column - width) // columns), -((row - height) // rows)
        needed += down * (1 + (across * bits + 7) // 8) if across > 0 and down > 0 else 0
    found, at, inflate = 0, 8, zlib.decompressobj()
    while found < needed and at + 8 <= len(content):
        length, kind = struct.unpack(">I4s", content[at : at + 8])
        part = content[at + 8 : at + 8 + length] if kind == b"IDAT" else b""
        while part and found < needed:
            found += len(inflate.decompress(part, _BLOCK))
            part = inflate.unconsumed_tail
        at += 12 + length
    found += len(inflate.flush())
    if found < needed:
        raise ValueError(f"only {100 * found / needed:.2g} % of its pixels are there")
