"""PH2: a test set that is fetched by hand, with diagnoses in a table of its own."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dermdistill.core.errors import DataError, UsageError
from smallfiles import encode, image_bytes, mask_bytes, prepare_official, split_sizes, write


def _write_ph2(folder: Path) -> None:
    for n in (2, 3, 4):
        name = f"IMD{n:03d}"
        place = folder / "PH2Dataset" / "PH2 Dataset images" / name
        write(place / f"{name}_Dermoscopic_Image" / f"{name}.bmp", image_bytes(".bmp", seed=n))
        with Image.open(io.BytesIO(mask_bytes(seed=n))) as mask:
            mode = "RGB" if n == 2 else "1"  # as in the copy that was looked at
            write(place / f"{name}_lesion" / f"{name}_lesion.bmp", encode(mask.convert(mode), ".bmp"))


def test_ph2_is_a_test_set(tmp_path: Path) -> None:
    _write_ph2(tmp_path / "ph2")
    data = prepare_official("ph2", tmp_path / "data", archives=tmp_path / "ph2")
    assert split_sizes(data) == [0, 0, 3]
    assert [row.image_id for row in data.manifest] == ["IMD002", "IMD003", "IMD004"]
    assert set(np.unique(data.masks)) == {0, 1}
    assert "carved" not in json.dumps(data.info["validation"]).split(";")[0]


PH2_TABLE = """||   Name || Histological Diagnosis || Clinical Diagnosis || Asymmetry | Pigment || Colors ||
|| IMD002 ||                        ||                  1 ||         1 |       T ||   3  4 ||
|| IMD003 ||                        ||                  0 ||         0 |       T ||      4 ||
|| IMD004 ||               Melanoma ||                  2 ||         2 |      AT ||   1  4 ||

Legends
 Clinical Diagnosis: 0 - Common Nevus; 1 - Atypical Nevus; 2 - Melanoma.
"""


@pytest.mark.parametrize("inner", [False, True], ids=["the archive's folder", "the folder of images"])
def test_ph2_diagnoses_are_read_from_its_table(tmp_path: Path, inner: bool) -> None:
    _write_ph2(tmp_path / "ph2")
    dataset = tmp_path / "ph2" / "PH2Dataset"
    (dataset / "PH2_dataset.txt").write_text(PH2_TABLE.replace("\n", "\r\n"), encoding="latin-1")
    data = prepare_official(
        "ph2", tmp_path / "data", archives=dataset / "PH2 Dataset images" if inner else tmp_path / "ph2"
    )
    assert [row.diagnosis for row in data.manifest] == ["atypical nevus", "common nevus", "melanoma"]


def test_ph2_without_its_table_or_with_holes_in_it_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _write_ph2(tmp_path / "ph2")
    prepare_official("ph2", tmp_path / "without", archives=tmp_path / "ph2")
    assert "no PH2_dataset.txt" in caplog.text
    table = tmp_path / "ph2" / "PH2_dataset.txt"
    table.write_text(PH2_TABLE.replace("IMD003", "IMD999"), encoding="utf-8")
    data = prepare_official("ph2", tmp_path / "holes", archives=tmp_path / "ph2")
    assert [row.diagnosis for row in data.manifest] == ["atypical nevus", "", "melanoma"]
    assert "1 images have no diagnosis" in caplog.text
    table.write_text("<html>Not found</html>", encoding="utf-8")
    with pytest.raises(DataError, match="names no diagnosis"):
        prepare_official("ph2", tmp_path / "broken", archives=tmp_path / "ph2")


def test_ph2_that_is_still_packed(tmp_path: Path) -> None:
    write(tmp_path / "ph2" / "PH2Dataset.rar", b"Rar!")
    with pytest.raises(DataError, match="still packed") as caught:
        prepare_official("ph2", tmp_path / "data", archives=tmp_path / "ph2")
    assert "unrar" in caught.value.fix
    with pytest.raises(UsageError, match="RAR"):
        prepare_official("ph2", tmp_path / "data")
