"""Pixels as files: PNG and JPEG, written whole or not at all."""

from __future__ import annotations

import io
import struct
import uuid
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from dermdistill.imaging.arrays import UInt8Array
from dermdistill.imaging.drawing import line_width

_BAND = 64  # lines of a mask that are compressed at a time
_WIDE_LINE = 6.0  # pixels; colour at half resolution does not show in such a line


def encode_png(array: UInt8Array, *, grey: bool = False, compress_level: int = 1) -> bytes:
    """An RGB image, a {0, 1} mask as 0/255, or grey values as they are (``grey``), as a PNG file."""
    if array.ndim == 2 and not grey and array.max(initial=0) <= 1:
        return _encode_mask(array)
    file = io.BytesIO()
    # Level 1: a photograph of 24 megapixels takes several seconds at the usual 6, for a tenth less.
    Image.fromarray(array).save(file, "PNG", compress_level=compress_level)
    return file.getvalue()


def _encode_mask(mask: UInt8Array) -> bytes:
    """A {0, 1} mask as 0/255, as a PNG file whose lines are not filtered and whose runs are counted.

    Pillow tries five filters on each line, none of which helps with a mask: four times the time, and twice
    the bytes.
    """
    height, width = mask.shape
    deflate = zlib.compressobj(strategy=zlib.Z_RLE)
    data = b""
    lines = np.zeros((_BAND, width + 1), np.uint8)  # the first byte of each is its filter: none
    for top in range(0, height, _BAND):
        band = mask[top : top + _BAND]
        np.multiply(band, np.uint8(255), out=lines[: len(band), 1:])
        data += deflate.compress(lines[: len(band)].data)
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)  # 8 bits of grey
    chunks = (b"IHDR", header), (b"IDAT", data + deflate.flush()), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )


def encode_jpeg(image: UInt8Array | Image.Image) -> bytes:
    """An RGB image with an outline, as a JPEG file.

    Where lines are thin, all of the colour is kept, so that they stay clean; in large pictures, whose lines
    are wide, half of its resolution is: 0.6 times the time and 0.7 times the bytes.
    """
    picture = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    file = io.BytesIO()
    wide = line_width(picture.size) >= _WIDE_LINE
    picture.save(file, "JPEG", quality=92, subsampling="4:2:0" if wide else "4:4:4")
    return file.getvalue()


def write_png(path: Path, array: UInt8Array, *, grey: bool = False) -> None:
    """Write a small PNG atomically: an RGB image, a mask or grey values, as `encode_png` takes them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, encode_png(array, grey=grey, compress_level=6))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically, into a folder that is there.

    With fewer calls of the system than `atomic_path`, which take longer than the writing of a small file.
    """
    temporary = path.with_name(f".{uuid.uuid4().hex}")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
