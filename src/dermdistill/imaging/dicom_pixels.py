"""The pixels of a DICOM frame as RGB in 8 bits, however they are packed."""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin

from dermdistill.imaging.arrays import UInt8Array

if TYPE_CHECKING:
    from pydicom import Dataset

# One for each, not whichever pydicom finds first. GDCM is not among them: a broken file ends its process.
DECODERS = {
    "1.2.840.10008.1.2.4.50": "pillow",  # JPEG baseline
    "1.2.840.10008.1.2.4.51": "pillow",  # JPEG extended, of 8 bits
    "1.2.840.10008.1.2.4.57": "pillow",  # JPEG lossless, of 8 bits
    "1.2.840.10008.1.2.4.70": "pillow",
    "1.2.840.10008.1.2.4.80": "pyjpegls",
    "1.2.840.10008.1.2.4.81": "pyjpegls",
    "1.2.840.10008.1.2.4.90": "pylibjpeg",  # JPEG 2000, and its high-throughput kinds
    "1.2.840.10008.1.2.4.91": "pylibjpeg",
    "1.2.840.10008.1.2.4.201": "pylibjpeg",
    "1.2.840.10008.1.2.4.202": "pylibjpeg",
    "1.2.840.10008.1.2.4.203": "pylibjpeg",
    "1.2.840.10008.1.2.5": "pydicom",  # run lengths
    "1.2.840.10008.1.2": "",  # uncompressed
    "1.2.840.10008.1.2.1": "",
    "1.2.840.10008.1.2.2": "",
}
"""By transfer syntax; what is not here is refused."""
LOSSLESS_JPEG = ("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")


def decode_frame(stream: Any, header: Dataset, frame: int) -> tuple[Image.Image, tuple[str, ...]]:
    """Decode one frame.

    Args:
        stream: The open file, at any place.
        header: Of the file (see `dicom.read_header`).
        frame: From 0.

    Returns:
        The frame as RGB, and sentences on how greys were brought to 8 bits.

    Raises:
        ValueError: Its pixels do not fit its header. Decoders raise nearly every other kind on broken bytes.
    """
    from pydicom.pixels.processing import convert_color_space
    from pydicom.pixels.utils import pixel_array

    syntax = header.file_meta.TransferSyntaxUID
    if syntax.is_encapsulated and DECODERS[syntax] != "pydicom":
        packed = _packed_frame(stream, header, frame)
        if syntax in LOSSLESS_JPEG:  # pydicom needs GDCM for it; libjpeg leaves its colours
            if header.BitsAllocated != 8:
                raise ValueError(f"it is lossless JPEG of {header.BitsStored} bits, of which 8 are read")
            values = np.asarray(_open_jpeg(packed))
            if header.PhotometricInterpretation.startswith("YBR"):
                values = convert_color_space(values, "YBR_FULL", "RGB")
            return _to_rgb(values, header)
        if DECODERS[syntax] == "pillow" and header.PhotometricInterpretation.startswith("YBR_FULL"):
            # As pydicom would, in a fifth of its time: libjpeg turns YBR into RGB itself.
            image = _open_jpeg(packed)
            return image if image.mode == "RGB" else image.convert("RGB"), ()
    stream.seek(0)
    try:
        values = pixel_array(stream, index=frame, decoding_plugin=DECODERS[syntax])
    except RuntimeError as error:  # of several lines
        raise ValueError(" ".join(str(error).split())) from error
    return _to_rgb(values, header)


def _open_jpeg(packed: bytes) -> Image.Image:
    """A JPEG frame, decoded."""
    image = JpegImagePlugin.JpegImageFile(io.BytesIO(packed))
    image.load()
    return image


def _to_rgb(values: NDArray[Any], header: Dataset) -> tuple[Image.Image, tuple[str, ...]]:
    """Samples as they are stored, but for YBR, as RGB in 8 bits; and sentences on how greys came to it."""
    from pydicom.pixels.processing import apply_color_lut

    colours = header.PhotometricInterpretation
    if colours == "PALETTE COLOR":
        looked_up = apply_color_lut(values, header)
        return Image.fromarray(_upper_eight(looked_up, 8 * looked_up.dtype.itemsize)), ()
    if values.ndim == 3:
        return Image.fromarray(_upper_eight(values, int(header.BitsStored))), ()
    if not colours.startswith("MONOCHROME"):
        raise ValueError(f"one sample a pixel and {colours} do not go together")
    grey, notes = _grey(values, header)
    if colours == "MONOCHROME1" or header.get("PresentationLUTShape") == "INVERSE":
        grey = 255 - grey
    return Image.fromarray(grey).convert("RGB"), notes


def _packed_frame(stream: Any, header: Dataset, frame: int) -> bytes:
    """A frame as it is packed; ValueError where its size is not its header's: decoders go by the frame's."""
    import pydicom
    from pydicom.encaps import get_frame

    stream.seek(0)
    pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=["Rows"])
    stream.seek(12, 1)  # the pixels' tag, kind and length
    packed = get_frame(stream, frame, number_of_frames=int(header.get("NumberOfFrames") or 1))
    size = codestream_size(packed)
    if size != (header.Columns, header.Rows):
        found = f"{size[0]} × {size[1]}" if size else "no JPEG, JPEG-LS or JPEG 2000"
        raise ValueError(f"its pixels are {found}, but its header says {header.Columns} × {header.Rows}")
    if not packed.rstrip(b"\0").endswith(b"\xff\xd9"):  # CharLS takes a minute over a frame that is cut off
        raise ValueError("its pixels are cut off")
    return packed


def codestream_size(packed: bytes) -> tuple[int, int] | None:
    """(width, height) that a JPEG, JPEG-LS or JPEG 2000 codestream says of itself; None where it says none.

    Examples:
        >>> codestream_size(bytes.fromhex("ffd8 ffc0 000b 08 001e 0028 01 011100"))
        (40, 30)
    """
    start = 12 if packed[4:8] == b"jP  " else 0
    while start and packed[start + 4 : start + 8] not in (b"jp2c", b""):  # boxes, which DICOM does not allow
        start += max(8, int.from_bytes(packed[start : start + 4]))
    start += 8 if start else 0
    if packed[start : start + 4] == b"\xff\x4f\xff\x51" and len(packed) >= start + 24:
        x1, y1, x0, y0 = struct.unpack_from(">4I", packed, start + 8)
        return x1 - x0, y1 - y0
    place = 2
    while packed.startswith(b"\xff\xd8") and place + 9 <= len(packed) and packed[place] == 0xFF:
        marker, length = packed[place + 1], int.from_bytes(packed[place + 2 : place + 4])
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            height, width = struct.unpack_from(">2H", packed, place + 5)
            return width, height
        place += 1 if marker == 0xFF else 2 + length
    return None


def _upper_eight(values: NDArray[Any], bits: int) -> UInt8Array:
    """The upper eight of some bits."""
    return (values >> (bits - 8)).astype(np.uint8) if bits > 8 else values.astype(np.uint8)


def _grey(values: NDArray[Any], header: Dataset) -> tuple[UInt8Array, tuple[str, ...]]:
    """Grey values in 8 bits: by the file's window, else as they are, or stretched where they have more."""
    from pydicom.pixels.processing import apply_modality_lut, apply_voi

    real = apply_modality_lut(values, header)
    if header.get("VOILUTSequence"):
        bits = int(header.VOILUTSequence[0].LUTDescriptor[2])
        return _upper_eight(apply_voi(real, header), bits), ("Grey values by the file's lookup table.",)
    centre, width = (header.get(name) for name in ("WindowCenter", "WindowWidth"))
    if centre is not None and width is not None:
        c, w = (float(np.ravel(np.asarray(each, float))[0]) for each in (centre, width))
        low, high = c - 0.5 - (w - 1) / 2, c - 0.5 + (w - 1) / 2  # PS3.3 C.11.2.1.2
        note = f"Grey values by the file's window, {c:g} ± {w / 2:g}."
    elif int(header.BitsStored) <= 8:
        return real.astype(np.uint8), ()
    else:
        low, high = float(real.min()), float(real.max())
        note = f"{header.BitsStored} bits without a window: stretched from {low:g} to {high:g}."
    return (np.clip((real - low) / max(high - low, 1e-9), 0, 1) * 255).round().astype(np.uint8), (note,)
