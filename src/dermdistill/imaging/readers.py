"""Which reader opens a picture file: by its first bytes, never by its name."""

from __future__ import annotations

import contextlib
from typing import BinaryIO

from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from dermdistill.core.errors import DataError
from dermdistill.imaging import dicom

# By their first bytes. `Image.open` would do it too, but it knows formats that start other programs, and its
# guard against huge images is a warning, which cannot be made an error for one thread alone.
_READERS: tuple[tuple[bytes, type[ImageFile.ImageFile]], ...] = (
    (b"\xff\xd8\xff", JpegImagePlugin.JpegImageFile),
    (b"\x89PNG\r\n\x1a\n", PngImagePlugin.PngImageFile),
    (b"BM", BmpImagePlugin.BmpImageFile),
    (b"II*\0", TiffImagePlugin.TiffImageFile),
    (b"MM\0*", TiffImagePlugin.TiffImageFile),
    (b"RIFF", WebPImagePlugin.WebPImageFile),
    (b"GIF8", GifImagePlugin.GifImageFile),  # its first frame
)
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"mif1")


def choose_reader(stream: BinaryIO, name: str) -> type[ImageFile.ImageFile]:
    """What opens a picture file.

    Args:
        stream: The open file, at its beginning; it is left there.
        name: Of the file, for messages.

    Raises:
        DataError: It is of no format that is read, or of one that this installation does not read.
    """
    start = stream.read(132)
    stream.seek(0)
    if start[128:] == dicom.MAGIC:  # first: what stands before it is free, and may look like a TIFF
        return dicom.DicomImageFile
    if start[4:8] == b"ftyp":
        return _iso_reader(start[8:12], name)
    start = start[:8]
    for magic, reader in _READERS:
        if start.startswith(magic):
            return reader
    found = f"starts with {start!r}" if start else "is empty"
    raise DataError(
        f"{name} is not an image that can be read: it {found}.",
        "a JPEG, PNG, BMP, TIFF, WebP or GIF file",
        "Convert it to one of these, or leave it out.",
    )


def _iso_reader(brand: bytes, name: str) -> type[ImageFile.ImageFile]:
    """For what phones write, by the brand in its first box: HEIC (extra ``heic``) or AVIF (newer Pillow)."""
    fix = "pip install --upgrade pillow" if brand in (b"avif", b"avis") else "pip install 'dermdistill[heic]'"
    with contextlib.suppress(ImportError):
        if brand in (b"avif", b"avis"):
            from PIL.AvifImagePlugin import AvifImageFile

            return AvifImageFile
        if brand in _HEIF_BRANDS:
            from pi_heif.as_plugin import HeifImageFile

            return HeifImageFile
        fix = "Convert it to one of these, or leave it out."
    raise DataError(
        f"{name} is of the kind {brand!r}, which cannot be read here.",
        "a JPEG, PNG, BMP, TIFF, WebP or GIF file, or what the extras heic and dicom add",
        fix,
    )
