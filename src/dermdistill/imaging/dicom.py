"""DICOM pictures: a frame as RGB, and what its header says about it; nothing of the patient is read here.

Only the elements named in `_ELEMENTS` are read, so that no name, id or date can reach a log, a line of JSON
or a file name. Needs the extra ``dicom``.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import ImageFile

from dermdistill.core.errors import DataError
from dermdistill.imaging.dicom_pixels import DECODERS, decode_frame

if TYPE_CHECKING:
    from pydicom import Dataset

MAGIC = b"DICM"
"""At byte 128 of a DICOM file."""
MAX_FRAMES = 10_000
"""More frames in one file are refused: a header can claim any number."""
FAMILIAR = {
    "1.2.840.10008.5.1.4.1.1.77.1.4",  # VL Photographic Image
    "1.2.840.10008.5.1.4.1.1.77.1.7",  # Dermoscopic Photography Image
    "1.2.840.10008.5.1.4.1.1.7",  # Secondary Capture, and its multi-frame kinds
    "1.2.840.10008.5.1.4.1.1.7.2",
    "1.2.840.10008.5.1.4.1.1.7.3",
    "1.2.840.10008.5.1.4.1.1.7.4",
}
"""SOP classes that pictures of skin come as; others are read too, with a note."""
_NO_PICTURES = {
    "1.2.840.10008.5.1.4.1.1.66.4",  # segmentations have pixels, but are answers
    "1.2.840.10008.5.1.4.1.1.66.7",
    "1.2.840.10008.5.1.4.1.1.77.1.6",  # whole slides come as tiles
}
_ELEMENTS = (
    "SOPClassUID", "NumberOfFrames", "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation",
    "BitsAllocated", "BitsStored", "PixelRepresentation", "ICCProfile", "PresentationLUTShape",
    "WindowCenter", "WindowWidth", "VOILUTSequence",
    "ModalityLUTSequence", "RescaleIntercept", "RescaleSlope", "RescaleType",
    "PixelSpacing", "PixelSpacingCalibrationType", "ImagerPixelSpacing", "NominalScannedPixelSpacing",
    "SharedFunctionalGroupsSequence", "PaletteColorLookupTableUID",
    *(f"{colour}PaletteColorLookupTableData" for colour in ("Red", "Green", "Blue")),
    *(f"{colour}PaletteColorLookupTableDescriptor" for colour in ("Red", "Green", "Blue")),
    *(f"Segmented{colour}PaletteColorLookupTableData" for colour in ("Red", "Green", "Blue")),
)  # fmt: skip


@dataclass(frozen=True)
class DicomFacts:
    """What is said of a picture that came as DICOM.

    Attributes:
        sop_class: Its kind, by the name in the standard.
        transfer_syntax: How its pixels are packed, by the name in the standard.
        photometric_interpretation: How its pixels mean colour, such as ``YBR_FULL_422``.
        frame: Which frame it is, from 1.
        frames: Of the file.
        mm_per_pixel: Side of a pixel in millimetres, where the file says it.
        notes: Sentences on what was assumed.
    """

    sop_class: str
    transfer_syntax: str
    photometric_interpretation: str
    frame: int
    frames: int
    mm_per_pixel: float | None
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self) | {"notes": list(self.notes)}


class DicomImageFile(ImageFile.ImageFile):
    """A DICOM file as Pillow's own formats are: the header at once, a frame's pixels when they are asked for.

    Raises:
        DataError: The extra is not installed, or the file holds no picture that can be read.
    """

    format = "DICOM"
    facts: DicomFacts

    def _open(self) -> None:
        name = getattr(self.fp, "name", "the image")
        self._header: Dataset | None = read_header(self.fp, name)
        if not has_picture(self._header):
            raise DataError(
                f"{name} is a DICOM file without a picture: {_name(self._header.get('SOPClassUID', ''))}.",
                "VL Photographic, Dermoscopic Photography or Secondary Capture",
                "Leave it out.",
            )
        self._size, self._mode, self.tile = (int(self._header.Columns), int(self._header.Rows)), "RGB", []
        if profile := self._header.get("ICCProfile"):
            self.info["icc_profile"] = profile
        self._frame, self.n_frames = 0, frames_of(self._header)
        self.is_animated = self.n_frames > 1
        scale, note = _spacing(self._header)
        kind, syntax = self._header.SOPClassUID, self._header.file_meta.TransferSyntaxUID
        strange = () if kind in FAMILIAR else (f"{_name(kind)} is no usual kind for a photograph of skin.",)
        self.facts = DicomFacts(
            _name(kind), _name(syntax), str(self._header.PhotometricInterpretation),
            1, self.n_frames, scale, (*strange, *note),
        )  # fmt: skip

    def seek(self, frame: int) -> None:
        """Choose a frame, from 0.

        Raises:
            EOFError: There is no such frame.
        """
        if not 0 <= frame < self.n_frames:
            raise EOFError(f"it has {self.n_frames} frames, and no frame {frame + 1}")
        self._frame = frame
        self.facts = dataclasses.replace(self.facts, frame=frame + 1)

    def tell(self) -> int:
        """The frame that is chosen, from 0."""
        return self._frame

    def load(self) -> Any:
        """Decode the chosen frame's pixels, once."""
        if self._header is not None:
            frame, notes = decode_frame(self.fp, self._header, self._frame)
            self.im = frame.im
            self.facts = dataclasses.replace(self.facts, notes=(*self.facts.notes, *notes))
            self._header = None
        return self.im.pixel_access(self.readonly)


def read_header(stream: Any, name: str) -> Dataset:
    """The elements of a DICOM file that reading its picture needs; none of them is the patient's.

    Args:
        stream: The open file, at any place.
        name: Of the file, for messages.

    Returns:
        A pydicom data set without its pixels.

    Raises:
        DataError: The extra is not installed, or the file is packed as nothing that is read.
    """
    try:
        import pydicom
        from pydicom.filereader import read_dataset, read_preamble
    except ImportError:
        raise DataError(
            f"{name} is a DICOM file.", "the DICOM part of dermdistill", "pip install 'dermdistill[dicom]'"
        ) from None
    stream.seek(0)
    read_preamble(stream, force=False)
    meta = read_dataset(stream, False, True, stop_when=lambda tag, _vr, _length: tag.group != 2)
    syntax = meta.get("TransferSyntaxUID", "")
    if syntax not in DECODERS:  # before the rest: a deflated file may hold a bomb
        raise DataError(
            f"{name} is packed as {_name(syntax) or 'nothing that it names'}, which is not read.",
            "an uncompressed file, JPEG, JPEG-LS, JPEG 2000 or RLE",
            "Convert it, with dcmconv or gdcmconv, say.",
        )
    stream.seek(0)
    return pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=list(_ELEMENTS))


def is_dicom(path: Path) -> bool:
    """Whether a file begins as DICOM does; its name does not matter."""
    try:
        with path.open("rb") as stream:
            return stream.read(132)[128:] == MAGIC
    except OSError:
        return False


def has_picture(header: Dataset) -> bool:
    """Whether a file holds a picture: reports and presentations do not, nor do segmentations and slides."""
    is_picture = header.get("SOPClassUID") and header.SOPClassUID not in _NO_PICTURES
    return bool(is_picture and header.get("Rows") and header.get("Columns"))


def frames_of(header: Dataset) -> int:
    """How many frames a file has.

    Raises:
        ValueError: More than MAX_FRAMES, or less than one.
    """
    frames = int(header.get("NumberOfFrames") or 1)
    if not 1 <= frames <= MAX_FRAMES:
        raise ValueError(f"its header claims {frames} frames, where 1 to {MAX_FRAMES:,} are read")
    return frames


def _name(uid: str) -> str:
    """A UID's name in the standard; one that is not there is kept to itself, as others' may identify."""
    from pydicom.uid import UID

    name = UID(uid).name
    return "a private kind" if uid and name == uid else name


def _spacing(header: Dataset) -> tuple[float | None, tuple[str, ...]]:
    """Side of a pixel in mm where it is known, and sentences on it (PS3.3 10.7.1.3)."""
    groups = header.get("SharedFunctionalGroupsSequence") or [{}]
    measures = groups[0].get("PixelMeasuresSequence") or [{}]
    for keyword, said in (
        ("PixelSpacing", ""),
        ("ImagerPixelSpacing", "at the detector, not corrected for magnification"),
        ("NominalScannedPixelSpacing", "of the scanner, by its maker"),
    ):
        pair = header.get(keyword) or (measures[0].get(keyword) if keyword == "PixelSpacing" else None)
        if not pair or len(pair) != 2:
            continue
        down, across = map(float, pair)
        if not (down > 0 and across > 0) or abs(down - across) > 0.01 * across:
            return None, (
                f"{keyword} is {down:g} × {across:g} mm: no square pixel, so lengths are in pixels only.",
            )
        calibration = header.get("PixelSpacingCalibrationType") if keyword == "PixelSpacing" else None
        how = said or (f"calibrated: {calibration}" if calibration in ("GEOMETRY", "FIDUCIAL") else "")
        return down, (f"A pixel is {down:g} mm wide ({keyword}{', ' if how else ''}{how}).",)
    return None, ("No pixel spacing: lengths and areas are in pixels only.",)
