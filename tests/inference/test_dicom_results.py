"""Predictions as DICOM: pixels, references, codes and units, by readers that did not write them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dermdistill import imaging
from dermdistill.core.errors import DataError, MissingExtraError
from dermdistill.inference import dicom_results
from dermdistill.inference.folder import predict_files
from dermdistill.inference.predictor import Predictor
from dermdistill.inference.writers import read_kinds
from standins import CARD, darkness, picture

pydicom = pytest.importorskip("pydicom", reason="THE EXTRA dicom IS ABSENT: no DICOM result was written")
import highdicom  # noqa: E402
from pydicom import uid  # noqa: E402

from dicomfiles import PATIENT, write_dicom  # noqa: E402

WANTED = read_kinds("dicom-seg,dicom-sr")
SERIES = uid.generate_uid()
FRAMES = np.stack([picture(), np.roll(picture(), 12, axis=1)])


def results(paths: list[Path], out: Path, mm_per_pixel: float | None = None) -> list[dict[str, Any]]:
    predictor = Predictor.from_backend(CARD, darkness)
    lines = list(predict_files(predictor, paths, out, outputs=WANTED, mm_per_pixel=mm_per_pixel))
    assert all(isinstance(line, dict) for line in lines), lines
    return lines  # type: ignore[return-value]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Lines of a dermoscopic picture with a scale, one of the same series without, two frames, and a PNG."""
    folder = tmp_path_factory.mktemp("study")
    scaled = {"PixelSpacing": [0.02, 0.02], "FrameOfReferenceUID": "1.2.3.4.5"}
    write_dicom(folder / "a.dcm", picture(), SeriesInstanceUID=SERIES, **scaled)
    write_dicom(folder / "b.dcm", picture(dark=230), SeriesInstanceUID=SERIES)
    write_dicom(folder / "c.dcm", FRAMES, sop_class=uid.MultiFrameTrueColorSecondaryCaptureImageStorage)
    Image.fromarray(picture()).save(folder / "d.png")
    paths = [folder / name for name in ("a.dcm", "b.dcm", "c.dcm#1", "c.dcm#2", "d.png")]
    return {Path(line["path"]).name: line for line in results(paths, folder / "out")}


def source_of(line: dict[str, Any]) -> Any:
    return pydicom.dcmread(line.get("dicom_image") or line["path"].partition("#")[0])


def test_segmentations_hold_the_mask_and_the_probability(study: dict[str, dict[str, Any]]) -> None:
    predictor = Predictor.from_backend(CARD, darkness)
    for line in study.values():
        prediction = predictor(line["path"])
        binary, fractional = (pydicom.dcmread(line[key]) for key in ("dicom_seg", "dicom_seg_probability"))
        assert binary.SegmentationType == "BINARY"
        assert (binary.pixel_array == prediction.mask).all()
        assert (fractional.SegmentationType, fractional.SegmentationFractionalType) == (
            "FRACTIONAL", "PROBABILITY"
        )  # fmt: skip
        assert fractional.MaximumFractionalValue == 255
        assert np.abs(fractional.pixel_array / 255 - prediction.prob).max() <= 0.51 / 255
        read = highdicom.seg.segread(line["dicom_seg"])
        assert read.get_segment_description(1).segmented_property_type.value == "52988006"
        assert read.SegmentSequence[0].AnatomicRegionSequence[0].CodeValue == "39937001"
        assert read.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0].AlgorithmVersion


def test_results_belong_to_the_patient_and_study_of_their_source(study: dict[str, dict[str, Any]]) -> None:
    series: dict[str, set[str]] = {}
    for name, line in study.items():
        source = source_of(line)
        for key in ("dicom_seg", "dicom_seg_probability", "dicom_sr"):
            made = pydicom.dcmread(line[key])
            assert made.StudyInstanceUID == source.StudyInstanceUID
            assert made.PatientID == source.PatientID
            assert str(made.PatientName) == str(source.PatientName)
            assert made.SeriesInstanceUID != source.SeriesInstanceUID
            series.setdefault(key, set()).add(f"{name[0] in 'ab'} {made.SeriesInstanceUID}")
            if key != "dicom_sr":
                (image,) = (
                    made.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0].SourceImageSequence
                )
                assert image.ReferencedSOPInstanceUID == source.SOPInstanceUID
                assert image.ReferencedSOPClassUID == source.SOPClassUID
                assert image.get("ReferencedFrameNumber") == (int(name[-1]) if "#" in name else None)
                assert made.get("FrameOfReferenceUID") == source.get("FrameOfReferenceUID")
    assert all(len([one for one in of if one.startswith("True")]) == 1 for of in series.values())
    assert len({one.split()[1] for of in series.values() for one in of}) == 9, "three kinds of three series"


def test_the_report_measures_in_mm_where_there_is_a_scale(study: dict[str, dict[str, Any]]) -> None:
    for name, line in study.items():
        report = highdicom.sr.srread(line["dicom_sr"])
        assert (report.VerificationFlag, report.PreliminaryFlag) == ("UNVERIFIED", "PRELIMINARY")
        (group,) = report.content.get_planar_roi_measurement_groups()
        assert group.finding_type.value == "52988006"
        values = {each.name.meaning: (each.value, each.unit.value) for each in group.get_measurements()}
        measures = line["measures"]
        if name == "a.dcm":
            assert values == {
                "Area": (pytest.approx(measures["area_mm2"], abs=1e-4), "mm2"),
                "Perimeter": (pytest.approx(measures["perimeter_mm"], abs=1e-4), "mm"),
                "Long axis": (pytest.approx(measures["longest_diameter_mm"], abs=1e-4), "mm"),
            }
        elif name == "b.dcm":
            assert values == {"Area": (0, "{pixels}")}, "no lesion"
        else:
            assert values["Area"] == (pytest.approx(measures["area_px"], abs=1e-4), "{pixels}")
        referred = {
            item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
            for item in report.ContentSequence[-1].ContentSequence[0].ContentSequence
            if item.ValueType == "IMAGE"
        }
        segmentation = pydicom.dcmread(line["dicom_seg"]).SOPInstanceUID
        assert referred == {segmentation, source_of(line).SOPInstanceUID}


def test_a_picture_that_is_no_dicom_gets_a_secondary_capture(
    study: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    line = study["d.png"]
    image = pydicom.dcmread(line["dicom_image"])
    assert (imaging.read_image(Path(line["dicom_image"])) == picture()).all()
    assert not image.PatientName
    assert not image.PatientID
    assert "dicom_image" not in study["a.dcm"]
    (scaled,) = results([Path(line["path"])], tmp_path / "out", mm_per_pixel=0.5)
    facts = imaging.open_picture(Path(scaled["dicom_image"])).dicom
    assert facts is not None
    assert facts.mm_per_pixel == 0.5


@pytest.mark.skipif(not shutil.which("dciodvfy"), reason="dciodvfy IS ABSENT (dicom3tools)")
def test_a_validator_finds_no_fault(study: dict[str, dict[str, Any]]) -> None:
    for line in study.values():
        for key in dicom_results.ENDINGS.keys() & line.keys():
            judged = subprocess.run(
                ["dciodvfy", "-new", line[key]], capture_output=True, text=True, check=False
            )
            said = judged.stdout + judged.stderr
            assert "Error" not in said, f"{line[key]}\n{said}"


@pytest.mark.parametrize(
    ("elements", "said"),
    [
        ({"StudyInstanceUID": ""}, "has no StudyInstanceUID"),
        ({"PatientBirthDate": "born 1961"}, "highdicom refuses it (ValueError)"),
    ],
)
def test_a_source_that_cannot_be_referred_to_is_an_error_without_its_words(
    elements: dict[str, Any], said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    with pydicom.config.disable_value_validation():
        path = write_dicom(tmp_path / "a.dcm", picture(), **elements)
    caplog.clear()
    predictor = Predictor.from_backend(CARD, darkness)
    (error,) = predict_files(predictor, [path], tmp_path / "out", outputs=WANTED)
    assert isinstance(error, DataError)
    assert said in str(error)
    for value in (*PATIENT.values(), "1961"):
        assert value == "F" or value not in str(error) + caplog.text


def test_elements_that_are_too_long_are_carried_on(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    with pydicom.config.disable_value_validation():
        path = write_dicom(tmp_path / "a.dcm", picture(), AccessionNumber="ACC-0815-" * 5)
    (line,) = results([path], tmp_path / "out")
    assert not recwarn.list, "nothing is said of them"
    with pydicom.config.disable_value_validation():
        assert pydicom.dcmread(line["dicom_seg"]).AccessionNumber == "ACC-0815-" * 5


def test_missing_elements_that_may_be_empty_are_left_empty(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", picture())
    dataset = pydicom.dcmread(path)
    for name in PATIENT:
        delattr(dataset, name)
    dataset.save_as(path)
    (line,) = results([path], tmp_path / "out")
    assert not pydicom.dcmread(line["dicom_seg"]).PatientID


def test_kinds_need_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    assert WANTED == ("dicom-seg", "dicom-sr")
    assert not set(WANTED) & set(read_kinds("all"))
    monkeypatch.setitem(__import__("sys").modules, "highdicom", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'dermdistill\[dicom\]'"):
        read_kinds("mask,dicom-seg")
