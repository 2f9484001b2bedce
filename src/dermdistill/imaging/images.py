"""Decode, orient, resize, restore: the only preprocessing there is.

Training (through `prepare`) and prediction call the same functions, so that both see the same pixels.
Outlines are drawn by :mod:`dermdistill.imaging.drawing`; its `overlay` is offered here too.
"""

from __future__ import annotations

import contextlib
import io
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from dermdistill.core.errors import DataError
from dermdistill.imaging.drawing import draw_outlines, line_width, overlay

__all__ = [
    "MAX_PIXELS",
    "Float32Array",
    "MaskFile",
    "Picture",
    "Region",
    "Source",
    "UInt8Array",
    "decode_mask",
    "draw_outlines",
    "encode_jpeg",
    "encode_png",
    "image_size",
    "open_picture",
    "orientation_of",
    "overlay",
    "read_image",
    "read_mask",
    "region_of",
    "resize_image",
    "resize_mask",
    "restore_prob",
    "restore_region",
    "to_mask",
    "write_bytes",
    "write_png",
]

UInt8Array = NDArray[np.uint8]
Float32Array = NDArray[np.float32]
Source = Path | bytes | BinaryIO

MAX_PIXELS = 200_000_000
"""Largest image that is decoded, in pixels: checked in the header, before any memory is taken."""

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
_ORIENTATION = 0x0112  # EXIF and TIFF
_SWAPS_SIDES = (5, 6, 7, 8)
_BAND = 64  # rows restored at a time: they stay in the processor's cache
_WIDE_LINE = 6.0  # pixels; colour at half resolution does not show in such a line


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded picture, turned as its EXIF orientation says."""

    image: Image.Image
    """RGB."""
    width: int
    """Of the file's picture after turning, in pixels: ``image`` may have been shrunk by its decoder."""
    height: int

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
    with _opened(source) as image:
        before = image.size
        width, height = _turned_size(image)
        if near is not None:
            image.draft("RGB", (2 * near, 2 * near))
        shrunk = image.size != before
        turned = _to_rgb(_oriented(image), "white")
        if not shrunk:  # a PNG may keep its orientation behind its pixels
            width, height = turned.size
        return Picture(turned, width, height)


def read_image(source: Source, *, near: int | None = None) -> UInt8Array:
    """Decode an image as RGB, turned as its EXIF orientation says.

    Grey, palette, CMYK and 16-bit images are converted (16 bits keep their upper eight); transparent pixels
    are laid on white.

    Args:
        source: A path, the bytes of a file, or an open binary file (read to its end, not closed).
        near: Let the JPEG decoder shrink (by 2, 4 or 8) while both sides stay at least twice this; saves time
            and memory on photographs, and leaves the antialiasing to `resize_image`.

    Returns:
        uint8 [h, w, 3], perhaps read-only.

    Raises:
        DataError: Not a JPEG, PNG, BMP, TIFF, WebP or GIF, truncated, broken, or larger than MAX_PIXELS.

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


@dataclass(frozen=True, eq=False)
class MaskFile:
    """A decoded mask, and how its file writes what is lesion.

    Attributes:
        mask: {0, 1} uint8 [h, w].
        greys: Whether there were values between black and white (JPEG masks have them).
        written_as: ``0/255``, ``0/1``, ``16 bits``, ``fractions`` (floating point, 0 to 1), ``palette index``
            or ``nothing`` (all black).
    """

    mask: UInt8Array
    greys: bool
    written_as: str


def read_mask(source: Source) -> tuple[UInt8Array, bool]:
    """Decode a mask as {0, 1}, however its file writes it (`decode_mask`).

    Returns:
        {0, 1} uint8 [h, w], and whether there were values between black and white (JPEG masks have them).

    Raises:
        DataError: As for `read_image`, or the values are no mask's.
    """
    decoded = decode_mask(source)
    return decoded.mask, decoded.greys


def decode_mask(source: Source) -> MaskFile:
    """Decode a mask as {0, 1}, and say how its file writes it.

    Lesion is what is above half of white: above 127 in 8 bits (of a coloured mask the brightest channel
    counts), above 32767 in 16 bits, above 0.5 in fractions. Where no value is above 1, it is 1 that is
    lesion, but not in JPEG, whose black may be 1; 16 bits that reach no further than 255 are read as 8. A
    palette whose colours do not part lesion from skin is read by its index: 0 is skin.

    Args:
        source: As for `read_image`.

    Raises:
        DataError: As for `read_image`, or the values are no mask's.
    """
    with _opened(source) as image:
        is_jpeg = isinstance(image, JpegImagePlugin.JpegImageFile)
        turned = _oriented(image)
        if turned.mode in ("F", "I") or turned.mode.startswith("I;"):
            return _mask_of_numbers(np.asarray(turned))
        if turned.mode in ("1", "L"):
            grey = np.asarray(turned.convert("L"))
        else:  # what is transparent is no lesion
            grey = np.asarray(_to_rgb(turned, "black")).max(axis=2)
        white = grey > 127
        if turned.mode == "P":
            index = np.asarray(turned)
            if index.any() and not white.any():
                return MaskFile((index > 0).astype(np.uint8), False, "palette index")
        if not grey.any():
            return MaskFile(white.astype(np.uint8), False, "nothing")
        if grey.max() == 1 and not is_jpeg:
            return MaskFile(grey, False, "0/1")
    greys = bool(((grey > 0) & (grey < 255)).any())
    return MaskFile(white.astype(np.uint8), greys, "0/255")


def _mask_of_numbers(values: NDArray[Any]) -> MaskFile:
    """The mask that 16 or 32 bits or floating-point numbers write."""
    most = values.max(initial=0)
    if not np.isfinite(values).all() or values.min(initial=0) < 0 or most > 65535:
        raise ValueError(f"its values reach from {values.min()} to {most}: no mask's")
    if most == 0:
        return MaskFile(np.zeros(values.shape, np.uint8), False, "nothing")
    if most <= 1:
        white, written_as = 1, "fractions" if values.dtype.kind == "f" else "0/1"
    elif most <= 255:
        white, written_as = 255, "0/255"
    else:
        white, written_as = 65535, "16 bits"
    greys = bool(((values > 0) & (values < white)).any())
    return MaskFile((values > white / 2).astype(np.uint8), greys, written_as)


def orientation_of(source: Source) -> int:
    """The EXIF orientation of an image, 1 (upright) to 8.

    Raises:
        DataError: As for `read_image`.
    """
    with _opened(source) as image:
        return int(image.getexif().get(_ORIENTATION, 1) or 1)


def image_size(source: Source) -> tuple[int, int]:
    """(width, height) after orientation, from the header (a PNG may keep its orientation behind its pixels).

    Raises:
        DataError: Not an image, or larger than MAX_PIXELS.
    """
    with _opened(source) as image:
        return _turned_size(image)


def resize_image(image: UInt8Array | Image.Image, size: int) -> UInt8Array:
    """Squash to a square with antialiased bilinear filtering.

    Args:
        image: RGB, uint8 [h, w, 3] or Pillow's.
        size: Side of the square in pixels.

    Returns:
        uint8 [size, size, 3], perhaps read-only.
    """
    picture = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    if picture.size != (size, size):
        picture = picture.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=3.0)
    return np.asarray(picture)


def resize_mask(mask: UInt8Array, size: int) -> UInt8Array:
    """Squash a {0, 1} mask to a square: a pixel is lesion where at least half of its area is."""
    if mask.shape == (size, size):
        return np.ascontiguousarray(mask)
    # In floating point: eight bits would round twice, and turn some exact halves down.
    area = Image.fromarray(mask.astype(np.float32)).resize((size, size), Image.Resampling.BOX)
    return (np.asarray(area) >= 0.5 - 1e-5).astype(np.uint8)


def restore_prob(prob: Float32Array, height: int, width: int) -> Float32Array:
    """Bring a probability map back to native size; float32 [s, s] → [height, width].

    Bilinear between pixel centres, edges held (torch's ``align_corners=False``); a side that shrinks is
    antialiased as in `resize_image`. Little memory is taken beside what is returned.
    """
    restoring = _Restoring(prob, height, width)
    if restoring.prob.shape == (height, width):
        return restoring.prob
    restored = np.empty((height, width), np.float32)
    for rows in restoring.bands(0, height):
        restoring.write(rows, slice(0, width), restored[rows])
    return restored


@dataclass(frozen=True, eq=False)
class Region:
    """A probability map's pixels above a threshold, at native size, and what they amount to."""

    mask: UInt8Array
    """{0, 1} uint8 [height, width]."""
    count: int
    """How many pixels are 1."""
    prob_sum: float
    """Of their probabilities."""
    bounding_box: tuple[int, int, int, int] | None
    """(x0, y0, x1, y1) in pixels, x1 and y1 exclusive; None where there is none."""


def restore_region(prob: Float32Array, height: int, width: int, threshold: float) -> Region:
    """`to_mask` of `restore_prob`, bit by bit, computed only where the lesion may be.

    Args:
        prob: float32 [s, s].
        height: In pixels, of the mask.
        width: Likewise.
        threshold: A pixel is lesion where its probability is above this.
    """
    mask = np.zeros((height, width), np.uint8)
    restoring = _Restoring(prob, height, width)
    rows, columns = restoring.reach(threshold)
    count, total = 0, 0.0
    buffer = np.empty((_BAND, columns.stop - columns.start), np.float32)
    for band in restoring.bands(rows.start, rows.stop):
        values = restoring.write(band, columns, buffer[: band.stop - band.start])
        inside = values > threshold
        mask[band, columns] = inside
        count += int(np.count_nonzero(inside))
        total += float(values.sum(where=inside, dtype=np.float64))
    if not count:
        return Region(mask, 0, 0.0, None)
    part = mask[rows, columns]
    y, x = np.flatnonzero(part.any(axis=1)) + rows.start, np.flatnonzero(part.any(axis=0)) + columns.start
    return Region(mask, count, total, (int(x[0]), int(y[0]), int(x[-1]) + 1, int(y[-1]) + 1))


def region_of(prob: Float32Array, threshold: float) -> Region:
    """As `restore_region`, of a map that has its native size already."""
    mask = to_mask(prob, threshold)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return Region(mask, 0, 0.0, None)
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    values = prob[box][mask[box].view(np.bool_)]
    return Region(
        mask,
        len(values),
        float(values.sum(dtype=np.float64)),
        (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1),
    )


def to_mask(prob: Float32Array, threshold: float = 0.5) -> UInt8Array:
    """{0, 1} uint8: lesion where the probability is above the threshold (a logit above 0 at 0.5)."""
    return (prob > threshold).astype(np.uint8)


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


class _Restoring:
    """`restore_prob` of any part of the picture: the columns first, then rows in bands."""

    def __init__(self, prob: Float32Array, height: int, width: int) -> None:
        prob = np.ascontiguousarray(prob, dtype=np.float32)
        rows, columns = min(height, prob.shape[0]), min(width, prob.shape[1])
        if prob.shape != (rows, columns):
            prob = np.asarray(Image.fromarray(prob).resize((columns, rows), Image.Resampling.BILINEAR))
        self.prob = prob
        self._columns, self._rows = _neighbours(columns, width), _neighbours(rows, height)
        self._wide: tuple[slice, Float32Array] | None = None

    def reach(self, threshold: float) -> tuple[slice, slice]:
        """The rows and columns that values above a threshold may lie in."""
        above = np.greater(self.prob, threshold - 1e-5)  # far more than rounding can add
        spans = []
        for axis, (before, after, _) in ((1, self._rows), (0, self._columns)):
            near: NDArray[np.bool_] = np.any(above, axis=axis)
            within = np.flatnonzero(near[before] | near[after])
            spans.append(slice(int(within[0]), int(within[-1]) + 1) if len(within) else slice(0, 0))
        return spans[0], spans[1]

    @staticmethod
    def bands(start: int, stop: int) -> Iterator[slice]:
        """Some rows at a time: little memory."""
        for top in range(start, stop, _BAND):
            yield slice(top, min(top + _BAND, stop))

    def write(self, rows: slice, columns: slice, out: Float32Array) -> Float32Array:
        """Compute a part of the restored map into an array of its size."""
        if self._wide is None or self._wide[0] != columns:
            left, right, share = self._columns
            wide = self.prob.take(left[columns], axis=1)
            wide *= 1 - share[columns]
            after = self.prob.take(right[columns], axis=1)
            after *= share[columns]
            wide += after
            self._wide = columns, wide
        wide = self._wide[1]
        above, below, share = self._rows
        wide.take(above[rows], axis=0, out=out, mode="clip")  # unlike the other modes, it needs no copy
        out *= (1 - share[rows])[:, None]
        after = wide.take(below[rows], axis=0)
        after *= share[rows, None]
        out += after
        return out


def _neighbours(old: int, new: int) -> tuple[NDArray[np.int64], NDArray[np.int64], Float32Array]:
    """For each of ``new`` ≥ ``old`` pixels: the old ones before and after its centre, the latter's share."""
    centre = np.clip((np.arange(new) + 0.5) * (old / new) - 0.5, 0, old - 1)
    before = np.floor(centre).astype(np.int64)
    return before, np.minimum(before + 1, old - 1), (centre - before).astype(np.float32)


@contextlib.contextmanager
def _opened(source: Source) -> Iterator[ImageFile.ImageFile]:
    """Open an image with its size checked, and turn every fault of a broken file into one error."""
    name = str(source if isinstance(source, Path) else getattr(source, "name", "the image"))
    try:
        with source.open("rb") if isinstance(source, Path) else _in_memory(source) as stream:
            image = _reader(stream, name)(stream)
            _check_size(image, name)
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


def _reader(stream: BinaryIO | io.BytesIO, name: str) -> type[ImageFile.ImageFile]:
    start = stream.read(8)
    stream.seek(0)
    for magic, reader in _READERS:
        if start.startswith(magic):
            return reader
    found = f"starts with {start!r}" if start else "is empty"
    raise DataError(
        f"{name} is not an image that can be read: it {found}.",
        "a JPEG, PNG, BMP, TIFF, WebP or GIF file",
        "Convert it to one of these, or leave it out.",
    )


def _check_size(image: ImageFile.ImageFile, name: str) -> None:
    width, height = image.size
    most = MAX_PIXELS
    if isinstance(image, TiffImagePlugin.TiffImageFile):  # its decoder warns beyond Pillow's own limit
        most = min(most, Image.MAX_IMAGE_PIXELS or most)
    if width * height > most:
        raise DataError(
            f"{name} has {width} × {height} pixels.",
            f"at most {most:,} pixels",
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
        turned = image.getexif().get(_ORIENTATION) in _SWAPS_SIDES
    return (height, width) if turned else (width, height)


def _oriented(image: Image.Image) -> Image.Image:
    image.load()
    ImageOps.exif_transpose(image, in_place=True)  # without: a copy, even where nothing is to be turned
    return image


def _to_rgb(image: Image.Image, backdrop: str) -> Image.Image:
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.size and (values.min() < 0 or values.max() > 65535):
            raise ValueError(f"its values reach from {values.min()} to {values.max()}, beyond 16 bits")
        image = Image.fromarray((values.astype(np.uint32) >> 8).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("it holds floating-point numbers, whose range is unknown")
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        behind = Image.new("RGBA", image.size, backdrop)
        return Image.alpha_composite(behind, image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")  # `convert` copies in any case
