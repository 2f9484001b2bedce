"""Predictions as DICOM: segmentations (binary, and the probability), and a measurement report (TID 1500).

They belong to their source's patient and study, so they carry its patient module, as the standard asks;
nothing of it is printed. A picture that is no DICOM gets a Secondary Capture of an unknown patient, to which
they refer.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dermdistill import imaging
from dermdistill.core.errors import DataError, MissingExtraError
from dermdistill.core.files import atomic_path
from dermdistill.imaging.dicom import is_dicom
from dermdistill.imaging.frames import split_frame
from dermdistill.inference.dicom_report import report_of
from dermdistill.inference.dicom_segmentation import MAKER, segmentation_of
from dermdistill.inference.prediction import Prediction

if TYPE_CHECKING:
    from pydicom import Dataset

ENDINGS = {
    "dicom_seg": "_seg.dcm",
    "dicom_seg_probability": "_seg-probability.dcm",
    "dicom_sr": "_sr.dcm",
    "dicom_image": "_image.dcm",
}
"""By the key in the line of JSON: how the file's name ends."""
_NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
_MAY_BE_EMPTY = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate",
    "StudyTime", "ReferringPhysicianName",
)  # fmt: skip


def check_installed() -> None:
    """Raise MissingExtraError where highdicom is absent; silence pydicom's log, whose lines carry values."""
    try:
        import highdicom  # noqa: F401
    except ImportError:
        raise MissingExtraError(
            "DICOM results need highdicom, which is not installed.",
            "the DICOM part of dermdistill",
            "pip install 'dermdistill[dicom]'",
        ) from None
    for library in ("pydicom", "highdicom"):
        logging.getLogger(library).setLevel(logging.CRITICAL)


def write_results(
    path: Path, prediction: Prediction, name: Path, report: bool, mm_per_pixel: float | None = None
) -> dict[str, str]:
    """Write a prediction's DICOM files, each atomically.

    Args:
        path: Of the picture: DICOM, a frame of it (``lesion.dcm#3``), or any other.
        prediction: Of the picture.
        name: What the files' paths begin with.
        report: Write the measurement report too.
        mm_per_pixel: Side of a pixel, where the file does not say it.

    Returns:
        The files, by their key in the line of JSON (see ``ENDINGS``).

    Raises:
        DataError: The source lacks what results must refer to, or holds what DICOM does not allow.
        MissingExtraError: highdicom is not installed.
    """
    check_installed()
    from pydicom.config import disable_value_validation

    file, frame = split_frame(path)
    scale = prediction.scale(mm_per_pixel)
    made: dict[str, Dataset] = {}
    try:
        # Elements that are too long, say, are carried on as they are: no reason for having no result.
        with disable_value_validation():
            if is_dicom(file):
                source = _read_source(file)
            else:
                source = made["dicom_image"] = _secondary_capture(path, scale)
            made["dicom_seg"] = segmentation_of(prediction, source, frame, scale, fractional=False)
            made["dicom_seg_probability"] = segmentation_of(prediction, source, frame, scale, fractional=True)
            if report:
                made["dicom_sr"] = report_of(prediction, source, frame, made["dicom_seg"], mm_per_pixel)
    except (DataError, OSError):
        raise
    except Exception as error:  # its text may hold what the file says of the patient: only its kind is told
        raise DataError(
            f"{path} cannot be the source of DICOM results: highdicom refuses it ({type(error).__name__}).",
            "a file whose patient, study and series are valid DICOM",
            "Check it with dciodvfy, or leave dicom-seg and dicom-sr out of --outputs.",
        ) from None
    written = {}
    for key, dataset in made.items():
        target = name.with_name(f"{name.name}{ENDINGS[key]}")
        with disable_value_validation(), atomic_path(target) as temporary:
            dataset.save_as(temporary, enforce_file_format=True)
        written[key] = str(target)
    return written


def _read_source(file: Path) -> Dataset:
    """A picture's header, in full."""
    import pydicom

    source = pydicom.dcmread(file, stop_before_pixels=True)
    if missing := [name for name in _NEEDED if not source.get(name)]:
        raise DataError(
            f"{file} has no {', '.join(missing)}.",
            "a DICOM file that others can refer to",
            "Export it again from where it came, or leave dicom-seg and dicom-sr out of --outputs.",
        )
    for name in _MAY_BE_EMPTY:
        if name not in source:
            setattr(source, name, "")
    return source


def _secondary_capture(path: Path, mm_per_pixel: float | None) -> Dataset:
    """A picture that is no DICOM as one of an unknown patient, in a study of its own, packed without loss."""
    from highdicom import UID
    from highdicom.sc import SCImage
    from pydicom.uid import JPEGLSLossless

    made = SCImage(
        np.asarray(imaging.open_picture(path).image), "RGB", 8, "PATIENT",
        study_instance_uid=UID(), series_instance_uid=UID(), series_number=1, sop_instance_uid=UID(),
        instance_number=1, manufacturer=MAKER, patient_orientation=("L", "F"),
        pixel_spacing=None if mm_per_pixel is None else (mm_per_pixel, mm_per_pixel),
        transfer_syntax_uid=JPEGLSLossless,
    )  # fmt: skip
    made.Laterality = ""  # must be there, and is unknown
    return made
