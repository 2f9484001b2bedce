from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from smallfiles import encode, image_bytes, mask_bytes, write, write_pairs

from dermdistill.data import packing
from dermdistill.data.dataset import PreparedData
from dermdistill.data.prepare import ensure_prepared, prepare_folder, prepare_phantom
from dermdistill.errors import DataError, MismatchError, UsageError


def _prepare(folder: Path, **changes: Any) -> PreparedData:
    arguments: dict[str, Any] = {"size": 32, "progress": False} | changes
    name, root = arguments.pop("name", "own"), arguments.pop("root", folder / "data")
    images, masks = arguments.pop("images", folder / "images"), arguments.pop("masks", folder / "masks")
    return prepare_folder(name, root, images, masks, **arguments)


def _counts(data: PreparedData) -> list[int]:
    return [len(data.indices(split)) for split in ("train", "val", "test")]


def test_three_images_are_enough(tmp_path: Path) -> None:
    write_pairs(tmp_path, 3)
    data = _prepare(tmp_path)
    assert _counts(data) == [2, 1, 0]
    info = json.loads((tmp_path / "data" / "own" / "dataset.json").read_text(encoding="utf-8"))
    assert info["counts"] == {"train": 2, "val": 1, "test": 0}
    assert info["format"] == 1
    assert "carved" in info["validation"]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tiff"])
def test_kinds_of_files(tmp_path: Path, suffix: str) -> None:
    for n in range(3):
        write(tmp_path / "images" / f"p{n}{suffix}", image_bytes(suffix, seed=n))
        write(tmp_path / "masks" / f"p{n}_mask{suffix}", mask_bytes(suffix, seed=n))
    data = _prepare(tmp_path)
    assert len(data) == 3
    assert data.info["masks_thresholded"] == (3 if suffix == ".jpg" else 0), "JPEG masks carry greys"


def test_a_second_call_does_nothing_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pairs(tmp_path, 4)
    first = _prepare(tmp_path)
    files = {p: p.stat().st_mtime_ns for p in first.folder.rglob("*") if p.is_file() and p.name != ".lock"}
    monkeypatch.setattr(packing, "read_image", None)  # nothing may be decoded
    with caplog.at_level(logging.INFO):
        second = _prepare(tmp_path)
    assert "nothing to do" in caplog.text
    assert second.fingerprint == first.fingerprint
    after = {p: p.stat().st_mtime_ns for p in first.folder.rglob("*") if p.is_file() and p.name != ".lock"}
    assert after == files


def test_another_size_is_added(tmp_path: Path) -> None:
    write_pairs(tmp_path, 4)
    first = _prepare(tmp_path)
    array = first.folder / "pack-32" / "images.npy"
    before = array.stat().st_mtime_ns
    second = _prepare(tmp_path, size=48)
    assert second.images.shape == (4, 48, 48, 3)
    assert second.fingerprint == first.fingerprint
    third = ensure_prepared("own", tmp_path / "data", 16, progress=False)
    assert third.masks.shape == (4, 16, 16)
    assert array.stat().st_mtime_ns == before
    assert sorted(third.info["packs"]) == ["16", "32", "48"]


def test_another_size_of_changed_files_is_refused(tmp_path: Path) -> None:
    write_pairs(tmp_path, 4)
    _prepare(tmp_path)
    write(tmp_path / "images" / "p0.jpg", image_bytes(seed=99))
    with pytest.raises(MismatchError, match="changed"):
        ensure_prepared("own", tmp_path / "data", 48, progress=False)
    assert ensure_prepared("own", tmp_path / "data", 32, progress=False).size == 32


@pytest.mark.parametrize("change", [{"seed": 5}, {"val_fraction": 0.4}, {"allow_empty": True}, "files"])
def test_other_settings_are_refused(tmp_path: Path, change: Any) -> None:
    write_pairs(tmp_path, 4)
    _prepare(tmp_path)
    if change == "files":
        write_pairs(tmp_path, 1, first=10)
        change = {}
    with pytest.raises(MismatchError, match="was prepared with") as caught:
        _prepare(tmp_path, **change)
    assert all(key in str(caught.value) for key in change)
    assert "--name" in caught.value.mend


def test_all_bad_pairs_are_listed_at_once_and_the_good_ones_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pairs(tmp_path, 8)
    images, masks = tmp_path / "images", tmp_path / "masks"
    write(images / "p0.jpg", image_bytes()[:300])
    write(images / "p1.jpg", b"<html>")
    write(masks / "p2_Segmentation.png", mask_bytes(width=30, height=40))
    write(masks / "p3_Segmentation.png", encode(Image.new("L", (40, 30)), ".png"))
    write(masks / "p4_Segmentation.png", mask_bytes()[:60])
    with pytest.raises(DataError, match="5 of 8") as caught:
        _prepare(tmp_path)
    for n in range(8):
        assert (f"p{n}" in caught.value.found) == (n < 5)
    assert "40×30" in caught.value.found
    assert "30×40" in caught.value.found
    assert not (tmp_path / "data" / "own" / "dataset.json").exists()
    write_pairs(tmp_path, 5)
    decoded = []
    original = packing.read_image
    monkeypatch.setattr(packing, "read_image", lambda path, **k: decoded.append(path) or original(path, **k))
    assert len(_prepare(tmp_path)) == 8
    # An empty mask is a fault of the settings: its pair had been read in full.
    assert len(decoded) == 5


def test_empty_masks_when_allowed(tmp_path: Path) -> None:
    write_pairs(tmp_path, 3)
    write(tmp_path / "masks" / "p1_Segmentation.png", encode(Image.new("1", (40, 30)), ".png"))
    with pytest.raises(DataError, match="--allow-empty") as caught:
        _prepare(tmp_path)
    assert "p1_Segmentation" in caught.value.found
    data = _prepare(tmp_path, allow_empty=True)
    assert data.info["masks_empty"] == 1
    assert not data.masks[1].any()


def test_goes_on_after_an_interruption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pairs(tmp_path, 10)
    whole = _prepare(tmp_path, root=tmp_path / "other")
    monkeypatch.setattr(packing, "CHUNK", 2)
    decoded: list[Path] = []
    original = packing.read_image

    def count(path: Path, **how: Any) -> Any:
        if len(decoded) == 5:
            raise KeyboardInterrupt
        decoded.append(path)
        return original(path, **how)

    monkeypatch.setattr(packing, "read_image", count)
    with pytest.raises(KeyboardInterrupt):
        _prepare(tmp_path)
    assert not (tmp_path / "data" / "own" / "dataset.json").exists()
    later: list[Path] = []
    monkeypatch.setattr(packing, "read_image", lambda path, **k: later.append(path) or original(path, **k))
    data = _prepare(tmp_path)
    assert len(later) <= 6
    np.testing.assert_array_equal(data.images, whole.images)
    np.testing.assert_array_equal(data.masks, whole.masks)
    assert data.info["packs"] == whole.info["packs"]
    assert data.fingerprint == whole.fingerprint
    names = {path.name for path in data.folder.iterdir()} - {".lock"}
    assert names == {"dataset.json", "manifest.csv", "pack-32"}


@pytest.mark.parametrize("step", ["write_manifest", "publish_pack", "write_json", "drop_log"])
def test_goes_on_after_a_stop_at_any_later_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    from dermdistill.data import assemble

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    write_pairs(tmp_path, 4)
    with monkeypatch.context() as patch:
        patch.setattr(assemble, step, stop)
        with pytest.raises(KeyboardInterrupt):
            _prepare(tmp_path)
    data = _prepare(tmp_path)
    assert _counts(data) == [3, 1, 0]
    assert data.images.any(axis=(1, 2, 3)).all()


def test_unmatched_files_are_listed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_pairs(tmp_path, 3)
    write(tmp_path / "images" / "lonely.jpg", image_bytes())
    write(tmp_path / "masks" / "stray_Segmentation.png", mask_bytes())
    with caplog.at_level(logging.WARNING):
        data = _prepare(tmp_path)
    assert "lonely.jpg" in caplog.text
    assert "stray_Segmentation.png" in caplog.text
    assert "lonely.jpg" in json.dumps(data.info["unmatched"])
    assert len(data) == 3


def test_test_folder_stays_apart(tmp_path: Path) -> None:
    write_pairs(tmp_path / "a", 4)
    write_pairs(tmp_path / "b", 3, first=10)
    given = {"images": tmp_path / "a" / "images", "masks": tmp_path / "a" / "masks"}
    data = _prepare(
        tmp_path, **given, test_images=tmp_path / "b" / "images", test_masks=tmp_path / "b" / "masks"
    )
    assert _counts(data) == [3, 1, 3]
    assert {data.manifest[i].image_id for i in data.indices("test")} == {"p10", "p11", "p12"}
    with pytest.raises(UsageError, match="lie in one another"):
        _prepare(tmp_path, name="x", **given, test_images=given["images"], test_masks=given["masks"])


def test_manifest_gives_split_diagnosis_and_group(tmp_path: Path) -> None:
    write_pairs(tmp_path, 6)
    lines = ["image_id,split,diagnosis,patient_id", "p0,train,benign,a", "p1,train,malignant,a"]
    lines += ["p2,val,benign,b", "p3,test,benign,c", "p4,,benign,d", "p9,train,benign,e"]
    table = write(tmp_path / "table.csv", "\n".join(lines).encode())
    data = _prepare(tmp_path, manifest=table)
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
    data = _prepare(tmp_path, manifest=table, val_fraction=0.25)
    val = {data.manifest[i].group for i in data.indices("val")}
    assert len(val) == 1
    assert not val & {data.manifest[i].group for i in data.indices("train")}
    assert _counts(data) == [9, 3, 0]


def test_a_turned_photograph_whose_mask_is_not_turned(tmp_path: Path) -> None:
    write_pairs(tmp_path, 3)
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "images" / "p0.jpg"
    with Image.open(path) as image:
        image.save(path, exif=exif)
    with pytest.raises(DataError, match=r"30×40.*40×30"):
        _prepare(tmp_path)
    write(tmp_path / "masks" / "p0_Segmentation.png", mask_bytes(width=30, height=40))
    row = _prepare(tmp_path).manifest[0]
    assert (row.width, row.height) == (30, 40)


@pytest.mark.parametrize("name", ["", "../evil", "a/b", ".hidden", "isic2016", "phantom"])
def test_names_that_cannot_be(tmp_path: Path, name: str) -> None:
    write_pairs(tmp_path, 3)
    with pytest.raises(UsageError):
        _prepare(tmp_path, name=name)


def test_phantoms(tmp_path: Path) -> None:
    data = prepare_phantom(tmp_path / "a", count=12, size=32, seed=3, progress=False)
    assert _counts(data) == [8, 2, 2]
    assert {row.diagnosis for row in data.manifest} <= {"benign", "malignant"}
    again = prepare_phantom(tmp_path / "b", count=12, size=32, seed=3, progress=False)
    assert again.fingerprint == data.fingerprint
    np.testing.assert_array_equal(again.images, data.images)
    assert (
        prepare_phantom(tmp_path / "c", count=12, size=32, seed=4, progress=False).fingerprint
        != data.fingerprint
    )
    assert _counts(prepare_phantom(tmp_path / "d", count=3, size=32, progress=False)) == [1, 1, 1]
    with pytest.raises(UsageError, match="at least 3"):
        prepare_phantom(tmp_path / "e", count=2, progress=False)


def test_real_images(real_data: Path, tmp_path: Path) -> None:
    """The data as it lies there, cut to a few images by a manifest of its own."""
    folder = real_data / "isic2017-256"
    lines = (folder / "manifest.csv").read_text(encoding="utf-8").splitlines()
    wanted = [lines[0], *[line for line in lines[1:] if line.split(",")[1]][:40]]
    table = write(tmp_path / "manifest.csv", "\n".join(wanted).encode())
    data = _prepare(
        tmp_path,
        images=folder / "images",
        masks=folder / "masks",
        manifest=table,
        split_column="isic2016_split",
    )
    splits = [line.split(",")[1] for line in wanted[1:]]
    assert sum(_counts(data)[:2]) == splits.count("train")
    assert _counts(data)[2] == splits.count("test")
    expected = {line.split(",")[0]: line.split(",") for line in wanted[1:]}
    for i, row in enumerate(data.manifest):
        assert row.diagnosis == expected[row.image_id][6]
        assert row.mask_fraction == pytest.approx(float(expected[row.image_id][5]), abs=0.005)
        assert data.native_mask(i).shape == (256, 256)
    with pytest.raises(UsageError, match="isic2016_split, isic2017_split"):
        _prepare(tmp_path, name="b", images=folder / "images", masks=folder / "masks", manifest=table)
