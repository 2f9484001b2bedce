"""DICOM files through predict: frames, scale, names, and no word of the patient in what is printed."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest

from dermdistill.core.errors import DataError
from dermdistill.imaging.find import find_images
from dermdistill.imaging.frames import list_frames
from dermdistill.inference.folder import predict_files
from dermdistill.inference.predictor import Predictor
from standins import CARD, darkness, picture

pytest.importorskip("pydicom", reason="THE EXTRA dicom IS ABSENT: no DICOM file was predicted")
from pydicom import uid

from dicomfiles import PATIENT, write_dicom

FRAMES = np.stack([picture(), picture()[::-1], np.roll(picture(), 12, axis=1)])


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """A folder with one picture that has a scale, one with three frames, and an export's odd names."""
    folder = tmp_path / "scans"
    folder.mkdir()
    write_dicom(folder / "lesion.dcm", picture(), PixelSpacing=[0.02, 0.02])
    write_dicom(
        folder / "IM0001", FRAMES, sop_class=uid.MultiFrameTrueColorSecondaryCaptureImageStorage,
        syntax=uid.RLELossless,
    )  # fmt: skip
    broken = write_dicom(folder / "broken.dcm", picture())
    broken.write_bytes(broken.read_bytes()[:-900])
    return folder


def test_every_frame_is_predicted_with_its_scale_and_no_word_of_the_patient(
    scans: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    predictor = Predictor.from_backend(CARD, darkness)
    images = list_frames(find_images([scans]))
    out = tmp_path / "out"
    found = list(predict_files(predictor, images, out, outputs=("mask", "overlay", "geojson", "coco", "csv")))
    errors = [line for line in found if isinstance(line, DataError)]
    lines = {Path(line["path"]).name: line for line in found if not isinstance(line, DataError)}
    assert sorted(lines) == ["IM0001#1", "IM0001#2", "IM0001#3", "lesion.dcm"]
    assert len(errors) == 1
    assert "broken.dcm" in errors[0].found

    lesion = lines["lesion.dcm"]
    assert lesion["mm_per_pixel"] == lesion["dicom"]["mm_per_pixel"] == 0.02
    assert lesion["measures"]["area_mm2"] == pytest.approx(lesion["measures"]["area_px"] * 0.0004, rel=1e-3)
    shape = json.loads((out / "lesion.geojson").read_text())["features"][0]["properties"]
    assert shape["area_mm2"] == pytest.approx(lesion["measures"]["area_mm2"], rel=1e-3)
    frame = lines["IM0001#2"]
    assert (frame["dicom"]["frame"], frame["dicom"]["frames"]) == (2, 3)
    assert frame["mm_per_pixel"] is None
    assert frame["dicom"]["notes"] == ["No pixel spacing: lengths and areas are in pixels only."]
    assert Path(frame["mask"]).name == "IM0001-frame2_mask.png"
    boxes = [lines[f"IM0001#{n}"]["bounding_box"][0] for n in (1, 3)]
    assert boxes[1] - boxes[0] == pytest.approx(12, abs=2)

    names = " ".join(path.name for path in out.iterdir())
    texts = [path.read_text() for path in out.iterdir() if path.suffix not in (".png", ".jpg")]
    printed = " ".join([names, *texts, *map(str, found), caplog.text])
    for value in [*PATIENT.values(), "Nobody", "1.2.826"]:
        assert value == "F" or value not in printed

    again = list(predict_files(predictor, images, out, outputs=("mask", "overlay"), resume=True))
    assert [type(each) for each in again] == [DataError], "what is done is not done again"


def test_a_scale_that_is_given_stands_above_the_files(scans: Path, tmp_path: Path) -> None:
    predictor = Predictor.from_backend(CARD, darkness)
    images = [scans / "lesion.dcm"]
    (line,) = predict_files(predictor, images, tmp_path / "out", mm_per_pixel=0.1)
    assert isinstance(line, dict)
    assert line["mm_per_pixel"] == 0.1
    assert line["dicom"]["mm_per_pixel"] == 0.02
    assert len(list(predict_files(predictor, images, tmp_path / "out", resume=True))) == 1, "another scale"
