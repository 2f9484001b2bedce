"""Images and masks of one's own: what is accepted, kept, gone on with, refused."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dermdistill.core.errors import DataError, MismatchError, UsageError
from dermdistill.data.prepare import packing
from dermdistill.data.prepare.prepare import ensure_prepared
from smallfiles import encode, image_bytes, mask_bytes, prepare_own, split_sizes, write, write_pairs


def test_three_images_are_enough(tmp_path: Path) -> None:
    write_pairs(tmp_path, 3)
    data = prepare_own(tmp_path)
    assert split_sizes(data) == [2, 1, 0]
    info = json.loads((tmp_path / "data" / "own" / "dataset.json").read_text(encoding="utf-8"))
    assert info["counts"] == {"train": 2, "val": 1, "test": 0}
    assert info["format"] == 1
    assert "carved" in info["validation"]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tiff"])
def test_kinds_of_files(tmp_path: Path, suffix: str) -> None:
    for n in range(3):
        write(tmp_path / "images" / f"p{n}{suffix}", image_bytes(suffix, seed=n))
        write(tmp_path / "masks" / f"p{n}_mask{suffix}", mask_bytes(suffix, seed=n))
    data = prepare_own(tmp_path)
    assert len(data) == 3
    assert data.info["masks_thresholded"] == (3 if suffix == ".jpg" else 0), "JPEG masks carry greys"


def test_a_second_call_does_nothing_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pairs(tmp_path, 4)
    first = prepare_own(tmp_path)
    files = {p: p.stat().st_mtime_ns for p in first.folder.rglob("*") if p.is_file() and p.name != ".lock"}
    monkeypatch.setattr(packing, "open_picture", None)  # nothing may be decoded
    with caplog.at_level(logging.INFO):
        second = prepare_own(tmp_path)
    assert "nothing to do" in caplog.text
    assert second.fingerprint == first.fingerprint
    after = {p: p.stat().st_mtime_ns for p in first.folder.rglob("*") if p.is_file() and p.name != ".lock"}
    assert after == files


def test_another_size_is_added(tmp_path: Path) -> None:
    write_pairs(tmp_path, 4)
    first = prepare_own(tmp_path)
    array = first.folder / "pack-32" / "images.npy"
    before = array.stat().st_mtime_ns
    second = prepare_own(tmp_path, size=48)
    assert second.images.shape == (4, 48, 48, 3)
    assert second.fingerprint == first.fingerprint
    third = ensure_prepared("own", tmp_path / "data", 16, progress=False)
    assert third.masks.shape == (4, 16, 16)
    assert array.stat().st_mtime_ns == before
    assert sorted(third.info["packs"]) == ["16", "32", "48"]


def test_another_size_of_changed_files_is_refused(tmp_path: Path) -> None:
    write_pairs(tmp_path, 4)
    prepare_own(tmp_path)
    write(tmp_path / "images" / "p0.jpg", image_bytes(seed=99))
    with pytest.raises(MismatchError, match="changed"):
        ensure_prepared("own", tmp_path / "data", 48, progress=False)
    assert ensure_prepared("own", tmp_path / "data", 32, progress=False).size == 32


@pytest.mark.parametrize("change", [{"seed": 5}, {"val_fraction": 0.4}, {"allow_empty": True}, "files"])
def test_other_settings_are_refused(tmp_path: Path, change: Any) -> None:
    write_pairs(tmp_path, 4)
    prepare_own(tmp_path)
    if change == "files":
        write_pairs(tmp_path, 1, first=10)
        change = {}
    with pytest.raises(MismatchError, match="was prepared with") as caught:
        prepare_own(tmp_path, **change)
    assert all(key in str(caught.value) for key in change)
    assert "--name" in caught.value.fix


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
        prepare_own(tmp_path)
    for n in range(8):
        assert (f"p{n}" in caught.value.found) == (n < 5)
    assert "40×30" in caught.value.found
    assert "30×40" in caught.value.found
    assert not (tmp_path / "data" / "own" / "dataset.json").exists()
    write_pairs(tmp_path, 5)
    decoded = []
    original = packing.open_picture
    monkeypatch.setattr(
        packing, "open_picture", lambda path, **k: decoded.append(path) or original(path, **k)
    )
    assert len(prepare_own(tmp_path)) == 8
    # An empty mask is a fault of the settings: its pair had been read in full.
    assert len(decoded) == 5


def test_empty_masks_when_allowed(tmp_path: Path) -> None:
    write_pairs(tmp_path, 3)
    write(tmp_path / "masks" / "p1_Segmentation.png", encode(Image.new("1", (40, 30)), ".png"))
    with pytest.raises(DataError, match="--allow-empty") as caught:
        prepare_own(tmp_path)
    assert "p1_Segmentation" in caught.value.found
    data = prepare_own(tmp_path, allow_empty=True)
    assert data.info["masks_empty"] == 1
    assert not data.masks[1].any()


def test_goes_on_after_an_interruption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pairs(tmp_path, 10)
    whole = prepare_own(tmp_path, root=tmp_path / "other")
    monkeypatch.setattr(packing, "CHUNK", 2)
    decoded: list[Path] = []
    original = packing.open_picture

    def count(path: Path, **how: Any) -> Any:
        if len(decoded) == 5:
            raise KeyboardInterrupt
        decoded.append(path)
        return original(path, **how)

    monkeypatch.setattr(packing, "open_picture", count)
    with pytest.raises(KeyboardInterrupt):
        prepare_own(tmp_path)
    assert not (tmp_path / "data" / "own" / "dataset.json").exists()
    later: list[Path] = []
    monkeypatch.setattr(packing, "open_picture", lambda path, **k: later.append(path) or original(path, **k))
    data = prepare_own(tmp_path)
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
    from dermdistill.data.prepare import assemble

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    write_pairs(tmp_path, 4)
    with monkeypatch.context() as patch:
        patch.setattr(assemble, step, stop)
        with pytest.raises(KeyboardInterrupt):
            prepare_own(tmp_path)
    data = prepare_own(tmp_path)
    assert split_sizes(data) == [3, 1, 0]
    assert data.images.any(axis=(1, 2, 3)).all()


def test_unmatched_files_are_listed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_pairs(tmp_path, 3)
    write(tmp_path / "images" / "lonely.jpg", image_bytes())
    write(tmp_path / "masks" / "stray_Segmentation.png", mask_bytes())
    with caplog.at_level(logging.WARNING):
        data = prepare_own(tmp_path)
    assert "lonely.jpg" in caplog.text
    assert "stray_Segmentation.png" in caplog.text
    assert "lonely.jpg" in json.dumps(data.info["unmatched"])
    assert len(data) == 3


def test_a_turned_photograph_whose_mask_is_not_turned(tmp_path: Path) -> None:
    write_pairs(tmp_path, 3)
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "images" / "p0.jpg"
    with Image.open(path) as image:
        image.save(path, exif=exif)
    with pytest.raises(DataError, match=r"30×40.*40×30"):
        prepare_own(tmp_path)
    write(tmp_path / "masks" / "p0_Segmentation.png", mask_bytes(width=30, height=40))
    row = prepare_own(tmp_path).manifest[0]
    assert (row.width, row.height) == (30, 40)


@pytest.mark.parametrize("name", ["", "../evil", "a/b", ".hidden", "isic2016", "phantom"])
def test_names_that_cannot_be(tmp_path: Path, name: str) -> None:
    write_pairs(tmp_path, 3)
    with pytest.raises(UsageError):
        prepare_own(tmp_path, name=name)
