from __future__ import annotations

from pathlib import Path

import pytest

from dermdistill.core.errors import DataError, UsageError
from dermdistill.data.prepare.tables import Entry, read_labels, read_table


def _csv(folder: Path, text: str) -> Path:
    path = folder / "table.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_split_diagnosis_and_patient(tmp_path: Path) -> None:
    path = _csv(
        tmp_path,
        "image_id,split,diagnosis,lesion_id,patient_id\n"
        "a.jpg,Training,nevus,l1,p1\nb,val,,l2,\nc,,x,,\nd,test,melanoma,l3,p1\n",
    )
    table = read_table(path)
    assert table.entries == {
        "a": Entry("train", "nevus", "p1"),
        "b": Entry("val", "", "lesion_id l2"),
        "d": Entry("test", "melanoma", "p1"),
    }
    assert table.left_out == ["c"]


def test_who_drew_the_mask_and_how(tmp_path: Path) -> None:
    path = _csv(tmp_path, "image_id,Annotator,release_style,tool\na,anna,points,x\nb,,NA,y\n")
    assert read_table(path).entries == {"a": Entry("", "", "", "anna", "points"), "b": Entry()}
    other = read_table(path, style_column="tool")
    assert [entry.style for entry in other.entries.values()] == ["x", "y"]
    assert other.style_column == "tool"
    assert "release_style" in other.unused_columns
    with pytest.raises(UsageError, match="no column 'hand'"):
        read_table(path, annotator_column="hand")


def test_the_diagnosis_goes_with_the_split(tmp_path: Path) -> None:
    path = _csv(tmp_path, "image_id,a_split,b_split,a_diagnosis,b_diagnosis\nx,train,test,benign,malignant\n")
    assert read_table(path, "a_split").entries["x"] == Entry("train", "benign")
    assert read_table(path, "b_split").entries["x"] == Entry("test", "malignant")
    with pytest.raises(UsageError, match=r"(?s)a_split, b_split.*--split-column"):
        read_table(path)
    with pytest.raises(UsageError, match="no column 'c_split'"):
        read_table(path, "c_split")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image_id,split\na,train\na,test\n", "stand there twice: a"),
        ("image_id,split\na,train\nb,holdout\nc,dev\n", r"b: 'holdout', c: 'dev'"),
        ("name,split\na,train\n", "columns name, split"),
        ("image_id,split\n", "no rows"),
    ],
)
def test_unclear_tables_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_table(_csv(tmp_path, text))


def test_labels_of_part_3b(tmp_path: Path) -> None:
    assert read_labels(_csv(tmp_path, "I1,benign\nI2,malignant\n")) == {"I1": "benign", "I2": "malignant"}
    assert read_labels(_csv(tmp_path, "I1,0.0\nI2,1\n")) == {"I1": "benign", "I2": "malignant"}
    with pytest.raises(DataError, match="line 1"):
        read_labels(_csv(tmp_path, "<html>not here</html>\n"))


def test_real_labels(real_data: Path) -> None:
    labels = read_labels(real_data / "splits" / "ISBI2016_ISIC_Part3_Training_GroundTruth.csv")
    assert len(labels) == 900
    assert labels["ISIC_0000002"] == "malignant"
