"""Splits of images of one's own: a folder or a manifest gives them, and groups are not torn."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dermdistill.core.errors import UsageError
from smallfiles import prepare_own, split_sizes, write, write_pairs


def test_test_folder_stays_apart(tmp_path: Path) -> None:
    write_pairs(tmp_path / "a", 4)
    write_pairs(tmp_path / "b", 3, first=10)
    given = {"images": tmp_path / "a" / "images", "masks": tmp_path / "a" / "masks"}
    data = prepare_own(
        tmp_path, **given, test_images=tmp_path / "b" / "images", test_masks=tmp_path / "b" / "masks"
    )
    assert split_sizes(data) == [3, 1, 3]
    assert {data.manifest[i].image_id for i in data.indices("test")} == {"p10", "p11", "p12"}
    with pytest.raises(UsageError, match="lie in one another"):
        prepare_own(tmp_path, name="x", **given, test_images=given["images"], test_masks=given["masks"])


def test_manifest_gives_split_diagnosis_and_group(tmp_path: Path) -> None:
    write_pairs(tmp_path, 6)
    lines = ["image_id,split,diagnosis,patient_id", "p0,train,benign,a", "p1,train,malignant,a"]
    lines += ["p2,val,benign,b", "p3,test,benign,c", "p4,,benign,d", "p9,train,benign,e"]
    table = write(tmp_path / "table.csv", "\n".join(lines).encode())
    data = prepare_own(tmp_path, manifest=table)
    found = {row.image_id: (row.split, row.diagnosis, row.group) for row in data.manifest}
    assert found == {
        "p0": ("train", "benign", "a"),
        "p1": ("train", "malignant", "a"),
        "p2": ("val", "benign", "b"),
        "p3": ("test", "benign", "c"),
    }
    assert "carved" not in data.info["validation"].split(";")[0]
    unmatched = json.dumps(data.info["unmatched"])
    assert "p9" in unmatched
    assert "p5" in unmatched
    assert "p4" not in unmatched


def test_groups_are_not_torn(tmp_path: Path) -> None:
    write_pairs(tmp_path, 12)
    lines = ["image_id,lesion_id", *(f"p{n},l{n // 3}" for n in range(12))]
    table = write(tmp_path / "table.csv", "\n".join(lines).encode())
    data = prepare_own(tmp_path, manifest=table, val_fraction=0.25)
    val = {data.manifest[i].group for i in data.indices("val")}
    assert len(val) == 1
    assert not val & {data.manifest[i].group for i in data.indices("train")}
    assert split_sizes(data) == [9, 3, 0]


def test_real_images(real_data: Path, tmp_path: Path) -> None:
    """The data as it lies there, cut to a few images by a manifest of its own."""
    folder = real_data / "isic2017-256"
    lines = (folder / "manifest.csv").read_text(encoding="utf-8").splitlines()
    wanted = [lines[0], *[line for line in lines[1:] if line.split(",")[1]][:40]]
    table = write(tmp_path / "manifest.csv", "\n".join(wanted).encode())
    data = prepare_own(
        tmp_path,
        images=folder / "images",
        masks=folder / "masks",
        manifest=table,
        split_column="isic2016_split",
    )
    splits = [line.split(",")[1] for line in wanted[1:]]
    assert sum(split_sizes(data)[:2]) == splits.count("train")
    assert split_sizes(data)[2] == splits.count("test")
    expected = {line.split(",")[0]: line.split(",") for line in wanted[1:]}
    for i, row in enumerate(data.manifest):
        assert row.diagnosis == expected[row.image_id][6]
        assert row.mask_fraction == pytest.approx(float(expected[row.image_id][5]), abs=0.005)
        assert data.native_mask(i).shape == (256, 256)
    with pytest.raises(UsageError, match="isic2016_split, isic2017_split"):
        prepare_own(tmp_path, name="b", images=folder / "images", masks=folder / "masks", manifest=table)
