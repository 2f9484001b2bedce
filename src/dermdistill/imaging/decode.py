"""Picture files as pixels: decoded, turned upright, as RGB."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageFile, ImageOps, TiffImagePlugin

from dermdistill.core.errors import DataError
from dermdistill.imaging import dicom
from dermdistill.imaging.arrays import UInt8Array
from dermdistill.imaging.colour import to_srgb
from dermdistill.imaging.complete import load_complete
from dermdistill.imaging.find import printable
from dermdistill.imaging.frames import split_frame
from dermdistill.imaging.readers import choose_reader

Source = Path | bytes | BinaryIO

MAX_PIXELS = 200_000_000
"""Largest image that is decoded, in pixels: checked in the header, before any memory is taken.

Decoding takes at most BYTES_PER_PIXEL for each."""
MAX_SIDE = 65_500
"""Longest side, in pixels: that of a JPEG, which the overlay is (libjpeg's JPEG_MAX_DIMENSION)."""
BYTES_PER_PIXEL = 10
"""Most memory that decoding takes: the file's pixels and those that are returned, four bytes each, or a
progressive JPEG's coefficients (docs/how-to/scale.md has what was measured)."""
_PART = 4_000_000  # pixels that are converted at a time

_ORIENTATION = 0x0112  # EXIF and TIFF

_SWAPS_SIDES = (5, 6, 7, 8)


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded picture, turned as its EXIF orientation says, in sRGB."""

    image: Image.Image
    """RGB."""
    width: int
    """Of the file's picture after turning, in pixels: ``image`` may have been shrunk by its decoder."""
    height: int
    dicom: dicom.DicomFacts | None = None
    """What its file says of it, where that is DICOM."""

    @property
    def is_native(self) -> bool:
        """Whether ``image`` has all of the file's pixels."""
        return self.image.size == (self.width, self.height)


def open_picture(source: Source, *, near: int | None = None) -> Picture:
    """Decode a picture as `read_image` does, without a copy of its pixels.

    Args:
        source: As for `read_image`.
        near: As for `read_image`.

    Raises:
        DataError: As for `read_image`.
    """
    with opened(source) as image:
        before = image.size
        width, height = _turned_size(image)
        if near is not None:
            image.draft("RGB", (2 * near, 2 * near))
        shrunk = image.size != before
        turned = to_rgb(to_srgb(oriented(image)), "white")
        if not shrunk:  # a PNG may keep its orientation behind its pixels
            width, height = turned.size
        return Picture(turned, width, height, getattr(image, "facts", None))


def read_image(source: Source, *, near: int | None = None) -> UInt8Array:
    """Decode an image as RGB, turned as its EXIF orientation says.

    Grey, palette, CMYK and 16-bit images are converted (16 bits keep their upper eight); transparent pixels
    are laid on white. Colours are brought to sRGB where the file carries another profile.

    Args:
        source: A path, the bytes of a file, or an open binary file (read to its end, not closed). Of a DICOM
            file with several frames, the path of one: ``lesion.dcm#3``.
        near: Let the JPEG decoder shrink (by 2, 4 or 8) while both sides stay at least twice this; saves time
            and memory on photographs, and leaves the antialiasing to `resize_image`.

    Returns:
        uint8 [h, w, 3], perhaps read-only.

    Raises:
        DataError: Not a JPEG, PNG, BMP, TIFF, WebP, GIF, AVIF, or (with the extras) HEIC or DICOM; truncated,
            broken, or larger than MAX_PIXELS or MAX_SIDE.

    Example:
        >>> import io
        >>> from PIL import Image
        >>> file = io.BytesIO()
        >>> Image.new("RGB", (40, 30), "tan").save(file, "PNG")
        >>> image = read_image(file.getvalue())
        >>> image.shape, image.dtype, image[0, 0].tolist()
        ((30, 40, 3), dtype('uint8'), [210, 180, 140])
    """
    return np.asarray(open_picture(source, near=near).image)


def orientation_of(source: Source) -> int:
    """The EXIF orientation of an image, 1 (upright) to 8.

    Raises:
        DataError: As for `read_image`.
    """
    with opened(source) as image:
        return int(image.getexif().get(_ORIENTATION, 1) or 1)


def image_size(source: Source) -> tuple[int, int]:
    """(width, height) after orientation, from the header (a PNG may keep its orientation behind its pixels).

    Raises:
        DataError: Not an image, or larger than MAX_PIXELS or MAX_SIDE.
    """
    with opened(source) as image:
        return _turned_size(image)


@contextlib.contextmanager
def opened(source: Source) -> Iterator[ImageFile.ImageFile]:
    """Open an image with its size checked, and turn every fault of a broken file into one error."""
    name = printable(source if isinstance(source, Path) else getattr(source, "name", "the image"))
    frame = None
    if isinstance(source, Path):
        source, frame = split_frame(source)
    try:
        with source.open("rb") if isinstance(source, Path) else _in_memory(source) as stream:
            image = choose_reader(stream, name)(stream)
            _check_size(image, name)
            _choose_frame(image, frame, name)
            yield image
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{name} does not exist.", "an image file", "Check the path.") from None
    except Exception as error:  # decoders raise nearly every kind on broken bytes
        reason = str(error) or type(error).__name__
        raise DataError(
            f"{name} cannot be read: {reason}.",
            "a complete image file",
            "Fetch or copy it again, or leave it out.",
        ) from error


def _in_memory(source: bytes | BinaryIO) -> io.BytesIO:
    return io.BytesIO(source if isinstance(source, bytes) else source.read())


def _choose_frame(image: ImageFile.ImageFile, frame: int | None, name: str) -> None:
    """Go to the frame that a path names; of several in a DICOM file one must be named."""
    if frame is not None:
        image.seek(frame - 1)
    elif isinstance(image, dicom.DicomImageFile) and image.is_animated:
        raise DataError(
            f"{name} has {image.n_frames} frames.",
            "one frame at a time",
            "Name one by its number, as in lesion.dcm#1; dermdistill predict takes each by itself.",
        )


def _check_size(image: ImageFile.ImageFile, name: str) -> None:
    width, height = image.size
    most = MAX_PIXELS
    if image.format in ("TIFF", "WEBP", "AVIF", "HEIF"):
        # TIFF's decoder warns beyond Pillow's own limit; the others' take twice the memory.
        most = min(most, Image.MAX_IMAGE_PIXELS or most)
    if width * height > most or max(width, height) > MAX_SIDE:
        memory = f"{most * BYTES_PER_PIXEL / 1e9:.1g} GB of memory" if most > 1e8 else "memory"
        raise DataError(
            f"{name} has {width} × {height} pixels.",
            f"at most {most:,} pixels, for want of {memory}, and sides of at most {MAX_SIDE:,}",
            "Make the picture smaller, or cut it to the lesion.",
        )


def _turned_size(image: ImageFile.ImageFile) -> tuple[int, int]:
    """(width, height) after orientation, from the header."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        # Its `size` is turned already in newer versions of Pillow, not in older ones.
        tags = image.tag_v2
        width, height = int(tags[TiffImagePlugin.IMAGEWIDTH]), int(tags[TiffImagePlugin.IMAGELENGTH])
        turned = tags.get(_ORIENTATION) in _SWAPS_SIDES
    else:
        width, height = image.size
        header = Image.Image()  # a PNG's own `getexif` decodes it, to look behind its pixels
        header.info = image.info
        turned = header.getexif().get(_ORIENTATION) in _SWAPS_SIDES
    return (height, width) if turned else (width, height)


def oriented(image: ImageFile.ImageFile) -> Image.Image:
    """Turn an image upright in place, as its EXIF orientation says; it is returned, decoded."""
    load_complete(image)
    ImageOps.exif_transpose(image, in_place=True)  # without: a copy, even where nothing is to be turned
    return image


def to_rgb(image: Image.Image, backdrop: str) -> Image.Image:
    """Convert an image to RGB: 16 bits keep their upper eight; what is transparent shows the backdrop.

    Raises:
        ValueError: It holds floating-point numbers, or values beyond 16 bits.
    """
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode == "F":
        raise ValueError("it holds floating-point numbers, whose range is unknown")
    if image.mode.startswith("I"):
        extrema: Any = image.getextrema()
        low, high = extrema
        if low < 0 or high > 65535:
            raise ValueError(f"its values reach from {low} to {high}, beyond 16 bits")
    rgb = Image.new("RGB", image.size)
    for part in parts(image):  # so that little memory is taken beside the two pictures
        rgb.paste(_part_to_rgb(image.crop(part), backdrop), part)
    return rgb


def parts(image: Image.Image) -> Iterator[tuple[int, int, int, int]]:
    """Boxes (left, upper, right, lower) of some rows each, that cover an image from top to bottom."""
    rows = max(1, _PART // max(1, image.width))
    for top in range(0, image.height, rows):
        yield 0, top, image.width, min(top + rows, image.height)


def _part_to_rgb(image: Image.Image, backdrop: str) -> Image.Image:
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        behind = Image.new("RGBA", image.size, backdrop)
        return Image.alpha_composite(behind, image).convert("RGB")
    return image.convert("RGB")
