"""DICOM files that are uploaded: segmented in memory, and nothing of the patient comes back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from standins import decoded, picture

pytest.importorskip("pydicom", reason="THE EXTRA dicom IS ABSENT: no DICOM file was uploaded")
from dicomfiles import PATIENT, write_dicom

DICOM = {"Content-Type": "application/dicom"}


def test_a_dicom_file_is_segmented_with_its_scale(client: TestClient, tmp_path: Path) -> None:
    data = write_dicom(tmp_path / "a.dcm", picture(), PixelSpacing=[0.02, 0.02]).read_bytes()
    by_form = client.post("/v1/segment", files={"image": ("a.dcm", data, "application/dicom")})
    for response in (by_form, client.post("/v1/segment", content=data, headers=DICOM)):
        assert response.status_code == 200, response.text
        answer = response.json()
        assert answer["mm_per_pixel"] == 0.02
        measures = answer["measures"]
        assert measures["area_mm2"] == pytest.approx(measures["area_px"] * 0.0004, rel=1e-3)
        assert answer["dicom"]["sop_class"] == "Dermoscopic Photography Image Storage"
        for value in PATIENT.values():
            assert value == "F" or value not in response.text
    shown = client.post("/v1/segment", params={"output": "image"}, content=data, headers=DICOM)
    assert (decoded(shown.content) == picture()).all(), "for browsers, which cannot show it"


def test_of_several_frames_one_must_be_sent(client: TestClient, tmp_path: Path) -> None:
    data = write_dicom(tmp_path / "a.dcm", np.stack([picture()] * 3)).read_bytes()
    response = client.post("/v1/segment", content=data, headers=DICOM)
    assert response.status_code == 422
    assert "3 frames" in response.json()["detail"]
