"""A prediction's measurements as a DICOM structured report (PS3.16 TID 1500)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dermdistill._version import __version__
from dermdistill.inference.dicom_segmentation import MAKER, series_of, uid_of
from dermdistill.inference.prediction import Prediction

if TYPE_CHECKING:
    from pydicom import Dataset


def report_of(
    prediction: Prediction,
    source: Dataset,
    frame: int | None,
    segmentation: Dataset,
    mm_per_pixel: float | None,
) -> Dataset:
    """A Comprehensive SR by TID 1500 and 1410: area, perimeter and longest diameter of the segment.

    Args:
        prediction: What is measured.
        source: The picture's header, in full but for its pixels.
        frame: Which one of the source it is of, from 1; None: the source has one.
        segmentation: The binary one, which the report refers to.
        mm_per_pixel: Side of a pixel, where the source does not say it; without any, units are pixels.

    Returns:
        The data set, preliminary and unverified: nobody has looked at it.

    Raises:
        Exception: Of any kind, from highdicom or pydicom: the source does not hold what DICOM asks for.
    """
    from highdicom import UID, sr
    from highdicom.sr.coding import CodedConcept
    from pydicom.sr.codedict import codes

    measured = prediction.measures(mm_per_pixel)
    scaled = "area_mm2" in measured
    pixels = CodedConcept("{pixels}", "UCUM", "pixels")
    names = (
        (codes.SCT.Area, "area_mm2" if scaled else "area_px", codes.UCUM.SquareMillimeter),
        (codes.SCT.Perimeter, "perimeter_mm" if scaled else "perimeter_px", codes.UCUM.Millimeter),
        (
            codes.SCT.LongAxis,
            "longest_diameter_mm" if scaled else "longest_diameter_px",
            codes.UCUM.Millimeter,
        ),
    )
    algorithm = sr.AlgorithmIdentification(MAKER, __version__)
    tracking = segmentation.SegmentSequence[0]
    frames = None if frame is None else [frame]
    segment = sr.ReferencedSegmentationFrame(
        segmentation.SOPClassUID, segmentation.SOPInstanceUID, 1, 1,
        sr.SourceImageForSegmentation(source.SOPClassUID, source.SOPInstanceUID, frames),
    )  # fmt: skip
    del segment[0].ReferencedSOPSequence[0].ReferencedFrameNumber  # a segment is named (C.18.4)
    group = sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(UID(tracking.TrackingUID), tracking.TrackingID),
        referenced_segment=segment,
        finding_category=codes.SCT.MorphologicallyAbnormalStructure,
        finding_type=codes.SCT.Lesion,
        finding_sites=[sr.FindingSite(codes.SCT.Skin)],
        algorithm_id=algorithm,
        measurements=[
            sr.Measurement(name, round(float(measured[key]), 4), unit if scaled else pixels)
            for name, key, unit in names
            if key in measured
        ],
    )
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=UID(uid_of("device", prediction.model["weights_sha256"])), name=MAKER, manufacturer_name=MAKER,
        model_name=prediction.model["recipe"],
    )  # fmt: skip
    content = sr.MeasurementReport(
        sr.ObservationContext(observer_device_context=sr.ObserverContext(codes.DCM.Device, device)),
        procedure_reported=codes.SCT.DermoscopicPhotography,
        imaging_measurements=[group],
        title=codes.DCM.ImagingMeasurementReport,
    )
    return sr.ComprehensiveSR(
        [segmentation, source], content[0],
        sop_instance_uid=UID(), instance_number=segmentation.InstanceNumber,
        series_description="dermdistill measurements",
        manufacturer=MAKER, is_final=False, **series_of(source, "SR", 3),
    )  # fmt: skip
