"""Pixels as files: PNG and JPEG, written whole or not at all."""

from __future__ import annotations

import io
import uuid
from pathlib import Path

import numpy as np
from PIL import Image

from dermdistill.imaging.arrays import UInt8Array
from dermdistill.imaging.drawing import line_width

_WIDE_LINE = 6.0  # pixels; colour at half resolution does not show in such a line


def encode_png(array: UInt8Array, *, grey: bool = False, compress_level: int = 1) -> bytes:
    """An RGB image, a {0, 1} mask as 0/255, or grey values as they are (``grey``), as a PNG file."""
    if array.ndim == 2 and not grey and array.max(initial=0) <= 1:
        array = array * np.uint8(255)
    file = io.BytesIO()
    # Level 1: a photograph of 24 megapixels takes several seconds at the usual 6, for a tenth less.
    Image.fromarray(array).save(file, "PNG", compress_level=compress_level)
    return file.getvalue()


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
