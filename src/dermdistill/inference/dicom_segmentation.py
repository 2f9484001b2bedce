"""A prediction as a DICOM Segmentation (PS3.3 A.51), and what all results of one source have in common."""

from __future__ import annotations

import copy
import uuid
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dermdistill._version import __version__
from dermdistill.inference.prediction import Prediction

if TYPE_CHECKING:
    from pydicom import Dataset

MAKER = "dermdistill"


def segmentation_of(
    prediction: Prediction,
    source: Dataset,
    frame: int | None,
    mm_per_pixel: float | None,
    *,
    fractional: bool,
) -> Dataset:
    """A DICOM Segmentation of one frame, of the source's size.

    Args:
        prediction: What it shows.
        source: The picture's header, in full but for its pixels.
        frame: Which one of the source it is of, from 1; None: the source has one.
        mm_per_pixel: Side of a pixel; None: unknown.
        fractional: The probability in 255 steps, packed by JPEG-LS; otherwise the mask, a bit for each pixel.

    Returns:
        The data set, in the patient, study and (where there is one) frame of reference of its source.

    Raises:
        Exception: Of any kind, from highdicom or pydicom: the source does not hold what DICOM asks for.
    """
    from highdicom import UID, PixelMeasuresSequence
    from highdicom.seg import Segmentation, SegmentDescription
    from pydicom.sr.codedict import codes
    from pydicom.uid import ExplicitVRLittleEndian, JPEGLSLossless

    lesion = SegmentDescription(
        1, "lesion", codes.SCT.MorphologicallyAbnormalStructure, codes.SCT.Lesion, "AUTOMATIC",
        _algorithm(prediction), tracking_uid=UID(), tracking_id="lesion", anatomic_regions=[codes.SCT.Skin],
    )  # fmt: skip
    single = source if frame is None else _as_single(source)
    measures = None
    if mm_per_pixel is not None:  # readers ask for a thickness, which a photograph has not: a cube's
        measures = PixelMeasuresSequence((mm_per_pixel, mm_per_pixel), mm_per_pixel)
    pixels: NDArray[Any] = prediction.mask
    if fractional:  # in its 255 steps already: highdicom sorts all values
        pixels = (np.rint(prediction.prob * 255) / np.float32(255))[None, ..., None]
    kind = "FRACTIONAL" if fractional else "BINARY"
    made = Segmentation(
        [single], pixels, kind, [lesion],
        sop_instance_uid=UID(), instance_number=frame or int(source.get("InstanceNumber") or 1),
        content_label="LESION", content_description="Outline of a skin lesion; not a diagnosis",
        series_description=f"dermdistill {'probability' if fractional else 'outline'}",
        transfer_syntax_uid=JPEGLSLossless if fractional else ExplicitVRLittleEndian,
        omit_empty_frames=False, pixel_measures=measures,
        **series_of(source, kind, 2 if fractional else 1), **equipment_of(prediction),
    )  # fmt: skip
    made.PatientOrientation = source.get("PatientOrientation") or ""
    if frame is not None:
        _refer_to_frame(made, source.SOPClassUID, frame)
    return made


def _as_single(source: Dataset) -> Dataset:
    """A file of several frames as highdicom takes one: a Secondary Capture of one frame."""
    from pydicom.uid import SecondaryCaptureImageStorage

    single = copy.deepcopy(source)
    single.SOPClassUID, single.NumberOfFrames = SecondaryCaptureImageStorage, 1
    return single


def _refer_to_frame(segmentation: Dataset, sop_class: str, frame: int) -> None:
    """Let a segmentation refer to the source's true kind, and to the frame that it is of."""
    for series in segmentation.ReferencedSeriesSequence:
        for instance in series.ReferencedInstanceSequence:
            instance.ReferencedSOPClassUID = sop_class
    for group in segmentation.PerFrameFunctionalGroupsSequence:
        for derivation in group.DerivationImageSequence:
            for image in derivation.SourceImageSequence:
                image.ReferencedSOPClassUID, image.ReferencedFrameNumber = sop_class, frame


def _algorithm(prediction: Prediction) -> Any:
    from highdicom import AlgorithmIdentificationSequence
    from pydicom.sr.codedict import codes

    return AlgorithmIdentificationSequence(
        MAKER, codes.DCM.ArtificialIntelligence, __version__,
        parameters={
            "weights_sha256": prediction.model["weights_sha256"],
            "threshold": f"{prediction.threshold:.6g}",
        },
    )  # fmt: skip


def equipment_of(prediction: Prediction) -> dict[str, Any]:
    """What made it, as highdicom's arguments."""
    return {
        "manufacturer": MAKER,
        "manufacturer_model_name": prediction.model["recipe"] or MAKER,
        "software_versions": __version__,
        "device_serial_number": prediction.model["weights_sha256"][:16],
    }


def series_of(source: Dataset, kind: str, number: int) -> dict[str, Any]:
    """All results of one kind for one series of pictures are one series, whoever writes them and when."""
    return {
        "series_instance_uid": uid_of(source.SeriesInstanceUID, kind),
        "series_number": 100 * int(source.get("SeriesNumber") or 0) + number,
    }


def uid_of(*parts: str) -> str:
    """A UID that is the same for the same parts (PS3.5 B.2: a UUID as an integer)."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, '/'.join((MAKER, *parts))).int}"
