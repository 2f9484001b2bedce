"""DICOM pictures: every way of packing pixels that is read, what is said of them, and what is refused."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dermdistill import imaging
from dermdistill.core.errors import DataError
from dermdistill.imaging import find
from dermdistill.imaging.dicom import MAX_FRAMES
from dermdistill.imaging.frames import list_frames, split_frame
from standins import picture

pydicom = pytest.importorskip("pydicom", reason="THE EXTRA dicom IS ABSENT: no DICOM file was read")
from pydicom import uid  # noqa: E402
from pydicom.encaps import encapsulate, get_frame  # noqa: E402
from pydicom.pixels.processing import convert_color_space  # noqa: E402

from dicomfiles import PATIENT, write_dicom  # noqa: E402

RAMP = (np.mgrid[:48, :64][1] * 4).astype(np.uint8)
COLOUR = np.stack([RAMP, RAMP[::-1], 255 - RAMP], axis=-1)
COLOUR[10:30, 20:40] = (120, 40, 30)
YBR = convert_color_space(COLOUR, "RGB", "YBR_FULL")
NATIVE = (uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian)
LOSSLESS = (uid.RLELossless, uid.JPEGLSLossless, uid.JPEG2000Lossless)


def read(path: Path | bytes) -> np.ndarray:
    return imaging.read_image(path).astype(int)


def as_422(ybr: np.ndarray) -> np.ndarray:
    """Two pixels in four bytes; each pair's second chroma is dropped."""
    pairs = ybr.reshape(-1, 2, 3)
    packed = np.stack([pairs[:, 0, 0], pairs[:, 1, 0], pairs[:, 0, 1], pairs[:, 0, 2]], axis=-1)
    return packed.astype(np.uint8)


@pytest.mark.parametrize("syntax", [*NATIVE, *LOSSLESS], ids=lambda syntax: syntax.name[:28])
def test_lossless_colours_come_back(tmp_path: Path, syntax: str) -> None:
    path = write_dicom(tmp_path / "a.dcm", COLOUR, "RGB", syntax=syntax)
    assert (read(path) == COLOUR).all()
    assert (read(path.read_bytes()) == COLOUR).all(), "its name does not matter"
    assert imaging.image_size(path) == (64, 48)


@pytest.mark.parametrize("syntax", [*NATIVE, uid.RLELossless], ids=lambda syntax: syntax.name[:28])
def test_ybr_full_becomes_rgb(tmp_path: Path, syntax: str) -> None:
    path = write_dicom(tmp_path / "a.dcm", YBR, "YBR_FULL", syntax=syntax)
    assert np.abs(read(path) - COLOUR).max() <= 2


def test_reversible_ybr_of_jpeg_2000_becomes_rgb(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", COLOUR, "YBR_RCT", syntax=uid.JPEG2000Lossless)
    assert (read(path) == COLOUR).all()


def test_ybr_full_422_uncompressed(tmp_path: Path) -> None:
    flat = np.repeat(np.repeat(COLOUR[::4, ::4], 4, axis=0), 4, axis=1)
    path = write_dicom(tmp_path / "a.dcm", flat, "RGB")
    dataset = pydicom.dcmread(path)
    dataset.PhotometricInterpretation = "YBR_FULL_422"
    dataset.PixelData = as_422(convert_color_space(flat, "RGB", "YBR_FULL")).tobytes()
    dataset.save_as(path)
    assert np.abs(read(path) - flat).max() <= 2


def test_jpeg_in_dicom_is_as_that_jpeg_alone(tmp_path: Path) -> None:
    photo = picture(64, 96)
    file = io.BytesIO()
    Image.fromarray(photo).save(file, "JPEG", quality=95)
    path = write_dicom(tmp_path / "a.dcm", photo, "YBR_FULL_422", syntax=uid.JPEGBaseline8Bit)
    assert (read(path) == read(file.getvalue())).all()
    grey = write_dicom(tmp_path / "b.dcm", RAMP, "MONOCHROME2", syntax=uid.JPEGBaseline8Bit)
    assert np.abs(read(grey) - RAMP[..., None]).mean() < 2


# A frame of lossless JPEG (process 14, first-order prediction), as GDCM packed it: grey, 8 × 8,
# 10·row + 3·column.
LOSSLESS_GREY = (
    "ffd8ffc3000b080008000801011100ffc400160001010100000000000000000000000000020408ffda00080101000100"
    "00cfedb6dba9b6db7536db6ea6db6dd4db6dba9b6db7536db6ea6db6dfffd9"
)


def test_lossless_jpeg_of_8_bits_is_read_and_of_16_refused(tmp_path: Path) -> None:
    files = Path(pydicom.__file__).parent / "data" / "test_files"  # one picture, packed in several ways
    assert (read(files / "SC_rgb_jpeg_gdcm.dcm") == read(files / "SC_rgb_rle.dcm")).all()
    grey = np.fromfunction(lambda row, column: 10 * row + 3 * column, (8, 8)).astype(np.uint8)
    dataset = pydicom.dcmread(write_dicom(tmp_path / "a.dcm", grey, "MONOCHROME2"))
    dataset.file_meta.TransferSyntaxUID = uid.JPEGLosslessSV1
    dataset.PixelData = encapsulate([bytes.fromhex(LOSSLESS_GREY)])
    dataset["PixelData"].VR = "OB"
    dataset.save_as(tmp_path / "b.dcm")
    assert (read(tmp_path / "b.dcm") == grey[..., None]).all()
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.save_as(tmp_path / "c.dcm")
    with pytest.raises(DataError, match="lossless JPEG of 16 bits, of which 8 are read"):
        read(tmp_path / "c.dcm")


@pytest.mark.parametrize("syntax", [*NATIVE, *LOSSLESS], ids=lambda syntax: syntax.name[:28])
def test_greys_of_8_bits_are_as_they_are_and_monochrome1_is_inverted(tmp_path: Path, syntax: str) -> None:
    bright = write_dicom(tmp_path / "a.dcm", RAMP, "MONOCHROME2", syntax=syntax)
    assert (read(bright) == RAMP[..., None]).all()
    dark = write_dicom(tmp_path / "b.dcm", RAMP, "MONOCHROME1", syntax=syntax)
    assert (read(dark) == 255 - RAMP[..., None].astype(int)).all()


@pytest.mark.parametrize("syntax", [*NATIVE, *LOSSLESS], ids=lambda syntax: syntax.name[:28])
def test_16_bits_are_stretched_or_windowed_and_it_is_said(tmp_path: Path, syntax: str) -> None:
    deep = (RAMP.astype(np.uint16) * 10 + 700).astype(np.uint16)
    plain = write_dicom(tmp_path / "a.dcm", deep, "MONOCHROME2", syntax=syntax, bits=12)
    assert np.abs(read(plain)[..., 0] - np.rint(RAMP * (255 / 252))).max() <= 1
    assert "12 bits without a window: stretched from 700 to 3220." in notes(plain)
    window = write_dicom(
        tmp_path / "b.dcm", deep, "MONOCHROME2", syntax=syntax, bits=12, WindowCenter=["1200", "9"],
        WindowWidth=["1000", "9"],
    )  # fmt: skip
    found = read(window)[..., 0]
    assert found.min() == 0
    assert found.max() == 255
    assert (found[deep > 1701] == 255).all()
    assert abs(found[0, 13] - (1220 - 700) / 1000 * 255) <= 1
    assert "Grey values by the file's window, 1200 ± 500." in notes(window)


@pytest.mark.parametrize("syntax", [*NATIVE, uid.RLELossless, uid.JPEGLSLossless], ids=lambda s: s.name[:28])
def test_palettes_become_rgb(tmp_path: Path, syntax: str) -> None:
    index = (RAMP // 64).astype(np.uint8)
    colours = np.array([[10, 20, 30], [200, 100, 50], [0, 255, 0], [90, 91, 92]])
    more = {}
    for number, name in enumerate(("Red", "Green", "Blue")):
        more[f"{name}PaletteColorLookupTableDescriptor"] = [4, 0, 16]
        more[f"{name}PaletteColorLookupTableData"] = (colours[:, number] * 257).astype("<u2").tobytes()
    path = write_dicom(tmp_path / "a.dcm", index, "PALETTE COLOR", syntax=syntax, **more)
    assert (read(path) == colours[index]).all()


def test_16_bit_colours_keep_their_upper_eight(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", COLOUR.astype(np.uint16) * 257, "RGB")
    assert (read(path) == COLOUR).all()


def notes(path: Path) -> str:
    facts = imaging.open_picture(path).dicom
    assert facts is not None
    return " ".join(facts.notes)


def test_pixel_spacing_becomes_mm_or_is_said_to_be_absent(tmp_path: Path) -> None:
    def scale(**elements: object) -> tuple[float | None, str]:
        path = write_dicom(tmp_path / "a.dcm", COLOUR, **elements)
        facts = imaging.open_picture(path).dicom
        assert facts is not None
        return facts.mm_per_pixel, " ".join(facts.notes)

    assert scale() == (None, "No pixel spacing: lengths and areas are in pixels only.")
    assert scale(PixelSpacing=[0.02, 0.02], PixelSpacingCalibrationType="FIDUCIAL") == (
        0.02, "A pixel is 0.02 mm wide (PixelSpacing, calibrated: FIDUCIAL)."
    )  # fmt: skip
    size, said = scale(ImagerPixelSpacing=[0.1, 0.1])
    assert size == 0.1
    assert "not corrected for magnification" in said
    size, said = scale(PixelSpacing=[0.02, 0.04])
    assert size is None
    assert "no square" in said
    assert scale(PixelSpacing=[0, 0])[0] is None


def test_each_frame_is_a_picture_of_its_own(tmp_path: Path) -> None:
    frames = np.stack([COLOUR, COLOUR[::-1], COLOUR[:, ::-1]])
    for syntax in (uid.ExplicitVRLittleEndian, uid.RLELossless, uid.JPEG2000Lossless):
        path = write_dicom(
            tmp_path / "three.dcm", frames, sop_class=uid.MultiFrameTrueColorSecondaryCaptureImageStorage,
            syntax=syntax,
        )  # fmt: skip
        listed = list_frames([path])
        assert [each.name for each in listed] == ["three.dcm#1", "three.dcm#2", "three.dcm#3"]
        for each, frame in zip(listed, frames, strict=True):
            assert (read(each) == frame).all()
        with pytest.raises(DataError, match=r"(?s)three.dcm has 3 frames.*lesion.dcm#1"):
            read(path)
        with pytest.raises(DataError, match="no frame 4"):
            read(tmp_path / "three.dcm#4")
    odd = tmp_path / "a#1"
    odd.write_bytes(path.read_bytes())
    assert split_frame(odd) == (odd, None), "a file that is there is no frame"


def test_what_is_no_picture_or_packed_in_another_way_is_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good = write_dicom(tmp_path / "good.dcm", COLOUR)
    report = write_dicom(tmp_path / "report.dcm", COLOUR, sop_class=uid.BasicTextSRStorage)
    dataset = pydicom.dcmread(report)
    for name in ("Rows", "Columns", "PixelData"):
        delattr(dataset, name)
    dataset.save_as(report)
    assert list_frames([good, report]) == [good]
    assert "1 DICOM without a picture" in caplog.text
    assert list_frames([report]) == [report]
    with pytest.raises(DataError, match="without a picture: Basic Text SR"):
        read(report)
    for syntax, said in (
        (uid.DeflatedExplicitVRLittleEndian, "Deflated Explicit VR"),
        (uid.MPEG2MPML, "MPEG2"),
        (uid.UID("1.2.3.4"), "a private kind"),
    ):
        dataset = pydicom.dcmread(good)
        dataset.file_meta.TransferSyntaxUID = syntax
        if syntax != uid.DeflatedExplicitVRLittleEndian:
            dataset.PixelData = encapsulate([b"\0\0"])
        bad = tmp_path / "bad.dcm"
        pydicom.dcmwrite(bad, dataset, implicit_vr=False, little_endian=True, force_encoding=True)
        with pytest.raises(DataError, match=f"packed as {said}.* which is not read"):
            read(bad)
    twelve = write_dicom(tmp_path / "ct.dcm", COLOUR, sop_class=uid.CTImageStorage)
    assert "CT Image Storage is no usual kind for a photograph of skin." in notes(twelve)


def test_headers_that_lie_are_refused_before_memory_is_taken(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", COLOUR, syntax=uid.JPEG2000Lossless)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(struct.pack(">4I", 64, 48, 0, 0), struct.pack(">4I", 60000, 60000, 0, 0)))
    with pytest.raises(DataError, match="60000 × 60000, but its header says 64 × 48"):
        read(path)
    path = write_dicom(tmp_path / "b.dcm", COLOUR)
    dataset = pydicom.dcmread(path)
    dataset.Rows = dataset.Columns = 40000
    dataset.save_as(path)
    with pytest.raises(DataError, match="40000 × 40000 pixels"):
        read(path)
    dataset.Rows, dataset.Columns, dataset.NumberOfFrames = 48, 64, MAX_FRAMES + 1
    dataset.save_as(path)
    assert list_frames([path]) == [path]
    with pytest.raises(DataError, match="its header claims 10001 frames"):
        read(path)
    dataset = pydicom.dcmread(write_dicom(tmp_path / "c.dcm", COLOUR, syntax=uid.JPEGLSLossless))
    dataset.PixelData = encapsulate([get_frame(dataset.PixelData, 0)[:-9]])
    dataset.save_as(path)
    with pytest.raises(DataError, match="its pixels are cut off"):
        read(path)
    path.write_bytes(write_dicom(tmp_path / "c.dcm", COLOUR).read_bytes()[:-500])
    with pytest.raises(DataError, match="cannot be read"):
        read(path)


def test_nothing_of_the_patient_is_read(tmp_path: Path) -> None:
    from dermdistill.imaging.dicom import read_header

    path = write_dicom(tmp_path / "a.dcm", COLOUR)
    with path.open("rb") as stream:
        header = read_header(stream, "a.dcm")
    assert not [name for name in PATIENT if name in header]
    assert not [
        name for name in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID") if name in header
    ]


def test_files_of_archives_without_an_ending_are_found(tmp_path: Path) -> None:
    made = write_dicom(tmp_path / "IM000001", COLOUR)
    write_dicom(tmp_path / "1.2.840.7", COLOUR)
    (tmp_path / "README").write_text("no picture")
    (tmp_path / "DICOMDIR").write_bytes(made.read_bytes())
    (tmp_path / "short").write_bytes(b"DICM")
    listing = find.list_folder(tmp_path)
    assert [path.name for path in listing.images] == ["1.2.840.7", "IM000001"]
    assert not listing.missed


def test_without_the_extra_a_file_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_dicom(tmp_path / "a.dcm", COLOUR)
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    with pytest.raises(DataError, match=r"(?s)a.dcm is a DICOM file.*pip install 'dermdistill\[dicom\]'"):
        read(path)
    assert list_frames([path]) == [path]
