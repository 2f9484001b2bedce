from __future__ import annotations

import dataclasses
import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest

from dermdistill.core.errors import DataError, MismatchError
from dermdistill.data.dataset import (
    PreparedData,
    Row,
    fingerprint,
    open_dataset,
    read_manifest,
    write_manifest,
)
from dermdistill.data.prepare.folders import prepare_folder
from dermdistill.data.prepare.prepare import ensure_prepared, prepare_phantom
from dermdistill.imaging import read_image, read_mask, resize_image, resize_mask
from smallfiles import mask_bytes, write, write_pairs


@pytest.fixture
def prepared(tmp_path: Path) -> PreparedData:
    write_pairs(tmp_path / "own", 8)
    return prepare_folder(
        "own",
        tmp_path / "data",
        tmp_path / "own" / "images",
        tmp_path / "own" / "masks",
        size=32,
        progress=False,
    )


def test_rows_and_pack_belong_together(prepared: PreparedData) -> None:
    assert len(prepared) == 8
    assert prepared.images.dtype == prepared.masks.dtype == np.uint8
    for i, row in enumerate(prepared.manifest):
        native, _ = read_mask(prepared.mask_path(i))
        assert row.image_id == prepared.image_path(i).stem
        assert (row.width, row.height) == (40, 30)
        assert row.mask_fraction == pytest.approx(native.mean(), abs=1e-6)
        np.testing.assert_array_equal(prepared.native_mask(i), native)
        np.testing.assert_array_equal(prepared.masks[i], resize_mask(native, 32))
        image = read_image(prepared.image_path(i), near=32)
        np.testing.assert_array_equal(prepared.images[i], resize_image(image, 32))
    assert set(np.unique(prepared.masks)) == {0, 1}


def test_splits_cover_everything_once(prepared: PreparedData) -> None:
    splits = [prepared.indices(split) for split in ("train", "val", "test")]
    assert [len(rows) for rows in splits] == [7, 1, 0]
    assert all(rows.dtype == np.int64 for rows in splits)
    assert sorted(np.concatenate(splits).tolist()) == list(range(8))
    with pytest.raises(DataError, match="no split 'valid'"):
        prepared.indices("valid")


def test_manifest_is_written_and_read_without_loss(tmp_path: Path) -> None:
    rows = [
        Row("a,b", "train", "x y/é.jpg", "/m.png", 6000, 4000, 0.1 + 0.2, 'say "no"', ""),
        Row("c", "val", "i", "m", 1, 1, 1.0),
    ]
    write_manifest(tmp_path / "manifest.csv", rows)
    assert read_manifest(tmp_path / "manifest.csv") == rows
    assert "style" not in (tmp_path / "manifest.csv").read_text("utf-8")
    styled = [*rows, Row("d", "val", "i", "m", 1, 1, 1.0, annotator="anna", style="points")]
    write_manifest(tmp_path / "manifest.csv", styled)
    assert read_manifest(tmp_path / "manifest.csv") == styled


def test_styles_belong_to_the_fingerprint_where_there_are_any() -> None:
    rows = [Row("c", "val", "i", "m", 1, 1, 1.0, "nevus", "g")]
    before = '[["c", "val", 1, 1, 1.0, "nevus", "g"]]'  # as it was before there were styles
    assert fingerprint(rows, "x") == hashlib.sha256(f"x{before}".encode()).hexdigest()
    assert fingerprint([dataclasses.replace(rows[0], style="points")], "x") != fingerprint(rows, "x")


def test_reopening_gives_the_same(prepared: PreparedData) -> None:
    again = open_dataset("own", prepared.folder.parent, 32)
    assert again.fingerprint == prepared.fingerprint
    assert again.manifest == prepared.manifest


def test_the_fingerprint_is_of_content_and_split_not_of_place_or_size(tmp_path: Path) -> None:
    found = {}
    for place, size, seed in (("a", 32, 0), ("b", 48, 0), ("c", 32, 1)):
        write_pairs(tmp_path / place, 12)
        found[place] = prepare_folder(
            "own", tmp_path / place / "data", tmp_path / place / "images", tmp_path / place / "masks",
            size=size, seed=seed, progress=False,
        ).fingerprint  # fmt: skip
    assert found["a"] == found["b"]
    assert found["a"] != found["c"], "another seed is another split"
    write(tmp_path / "d" / "keep", b"")
    write_pairs(tmp_path / "d", 11)
    write_pairs(tmp_path / "d" / "x", 1, first=500)
    shutil.copy(tmp_path / "d" / "x" / "images" / "p500.jpg", tmp_path / "d" / "images" / "p11.jpg")
    shutil.copy(tmp_path / "a" / "masks" / "p11_Segmentation.png", tmp_path / "d" / "masks")
    other = prepare_folder(
        "own", tmp_path / "data", tmp_path / "d" / "images", tmp_path / "d" / "masks", size=32, progress=False
    )
    assert other.fingerprint != found["a"], "one image differs"


def test_absent(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="dermdistill prepare own --name clinic"):
        open_dataset("clinic", tmp_path, 32)
    with pytest.raises(DataError, match="dermdistill prepare own --name clinic"):
        ensure_prepared("clinic", tmp_path, 32, progress=False)


def test_a_size_that_is_not_packed_names_the_command(prepared: PreparedData) -> None:
    root = prepared.folder.parent
    with pytest.raises(MismatchError) as caught:
        open_dataset("own", root, 64)
    assert "prepare own --name own" in caught.value.fix
    assert f"--root {root} --size 64" in caught.value.fix
    assert "32" in caught.value.expected


def test_a_manifest_edited_by_hand_is_refused(prepared: PreparedData) -> None:
    path = prepared.folder / "manifest.csv"
    path.write_text(path.read_text(encoding="utf-8").replace(",val,", ",test,"), encoding="utf-8")
    with pytest.raises(MismatchError, match=r"manifest\.csv"):
        open_dataset("own", prepared.folder.parent, 32)


@pytest.mark.parametrize("damage", ["gone", "cut", "other shape", "other type"])
def test_a_damaged_pack_is_refused(prepared: PreparedData, damage: str) -> None:
    path = prepared.folder / "pack-32" / "masks.npy"
    match damage:
        case "gone":
            path.unlink()
        case "cut":
            path.write_bytes(path.read_bytes()[:-100])
        case "other shape":
            np.save(path, np.zeros((7, 32, 32), np.uint8))
        case "other type":
            np.save(path, np.zeros((8, 32, 32), np.int16))
    with pytest.raises(DataError, match=r"masks\.npy"):
        open_dataset("own", prepared.folder.parent, 32)


def test_another_format_is_refused(prepared: PreparedData) -> None:
    write(prepared.folder / "dataset.json", b'{"format": 99}')
    with pytest.raises(DataError, match="format 1"):
        open_dataset("own", prepared.folder.parent, 32)


def test_native_mask_of_a_file_that_changed(prepared: PreparedData) -> None:
    prepared.mask_path(0).write_bytes(mask_bytes(width=20, height=20))
    with pytest.raises(DataError, match="20×20"):
        prepared.native_mask(0)
    prepared.mask_path(0).unlink()
    with pytest.raises(DataError, match="is gone"):
        prepared.native_mask(0)


def test_a_data_set_with_its_own_files_can_be_moved(tmp_path: Path) -> None:
    before = prepare_phantom(tmp_path / "old", count=5, size=32, progress=False)
    (tmp_path / "old").rename(tmp_path / "new")
    after = open_dataset("phantom", tmp_path / "new", 32)
    assert after.fingerprint == before.fingerprint
    assert after.native_mask(0).shape == (after.manifest[0].height, after.manifest[0].width)
