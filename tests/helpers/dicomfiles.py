"""DICOM files that tests make: a patient who does not exist, and pixels packed in any way that is read."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DermoscopicPhotographyImageStorage,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

PATIENT = {
    "PatientName": "Nobody^Nora",
    "PatientID": "SECRET-4711",
    "PatientBirthDate": "19610203",
    "PatientSex": "F",
    "StudyDate": "20240506",
    "StudyTime": "070809",
    "AccessionNumber": "ACC-0815",
    "StudyID": "ST-99",
    "ReferringPhysicianName": "Referrer^Rita",
    "InstitutionName": "Clinic of Nowhere",
}
"""What must never be printed."""
_PLUGINS = {JPEG2000Lossless: "pylibjpeg", JPEGLSLossless: "pyjpegls", RLELossless: "pydicom"}


def write_dicom(
    path: Path,
    pixels: np.ndarray,
    photometric: str = "RGB",
    *,
    syntax: str = ExplicitVRLittleEndian,
    bits: int | None = None,
    sop_class: str = DermoscopicPhotographyImageStorage,
    **elements: Any,
) -> Path:
    """Write a picture, [h, w], [h, w, 3] or [frames, h, w, 3], as its photometric interpretation has it."""
    dataset = pydicom.Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, generate_uid()
    for name in ("StudyInstanceUID", "SeriesInstanceUID"):
        setattr(dataset, name, generate_uid())
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.Modality = "DMS"
    dataset.SeriesNumber, dataset.InstanceNumber = 3, 7
    for name, value in {**PATIENT, **elements}.items():
        setattr(dataset, name, value)
    if "BurnedInAnnotation" not in dataset:
        dataset.BurnedInAnnotation = "NO"
    coloured = pixels.shape[-1] == 3 and pixels.ndim > 2
    dataset.SamplesPerPixel = 3 if coloured else 1
    if coloured:
        dataset.PlanarConfiguration = 0
    dataset.PhotometricInterpretation = photometric
    dataset.Rows, dataset.Columns = pixels.shape[-3:-1] if coloured else pixels.shape[-2:]
    frames = pixels.shape[0] if pixels.ndim == (4 if coloured else 3) else 1
    if frames > 1:
        dataset.NumberOfFrames = frames
    dataset.BitsAllocated = 8 * pixels.dtype.itemsize
    dataset.BitsStored = bits or dataset.BitsAllocated
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    if syntax == JPEGBaseline8Bit:
        packed = [_jpeg(frame) for frame in (pixels if frames > 1 else [pixels])]
        dataset.PixelData = encapsulate(packed)
        dataset["PixelData"].VR = "OB"
        dataset.file_meta.TransferSyntaxUID = syntax
    else:
        dataset.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
        dataset["PixelData"].VR = "OB" if dataset.BitsAllocated == 8 else "OW"
        if syntax in _PLUGINS:
            dataset.compress(syntax, encoding_plugin=_PLUGINS[syntax], generate_instance_uid=False)
            dataset.PhotometricInterpretation = photometric
        else:
            dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(path, enforce_file_format=True)
    return path


def _jpeg(frame: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "JPEG", quality=95)
    return file.getvalue()
