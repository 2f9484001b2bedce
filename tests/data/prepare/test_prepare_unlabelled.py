"""Images without masks: prepared for training beside others, refused everywhere else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dermdistill.core.errors import DataError, MismatchError
from dermdistill.core.files import read_json, write_csv
from dermdistill.data.dataset import read_manifest
from dermdistill.data.prepare.folders import prepare_unlabelled
from dermdistill.data.prepare.phantom import write_phantoms
from dermdistill.data.prepare.prepare import ensure_prepared, prepare_phantom

SIZE = 32


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    raw = tmp_path_factory.mktemp("raw")
    write_phantoms(raw, 5, 48, 3, progress=False)
    (raw / "images" / "deep").mkdir()
    next((raw / "images").glob("*.*")).rename(raw / "images" / "deep" / "ELSEWHERE.png")
    return raw / "images"


def test_all_are_training_images_without_masks(images: Path, tmp_path: Path) -> None:
    data = prepare_unlabelled("more", tmp_path, images, size=SIZE, progress=False)
    assert [len(data.indices(split)) for split in ("train", "val", "test")] == [5, 0, 0]
    assert data.images.shape == (5, SIZE, SIZE, 3)
    assert not np.array_equal(data.images[0], data.images[1])
    assert not data.masks.any()
    rows = read_manifest(data.folder / "manifest.csv")
    assert rows == data.manifest
    assert [row.mask for row in rows] == [""] * 5
    assert (rows[0].image_id, rows[0].width, rows[0].height) == ("ELSEWHERE", 48, 48)
    info = read_json(data.folder / "dataset.json")
    assert info["masks"] is False
    assert (info["masks_empty"], info["validation"][:5]) == (0, "none:")
    assert "prepare unlabelled --name more" in info["command"]
    again = prepare_unlabelled("more", tmp_path, images, size=SIZE, progress=False)
    assert again.fingerprint == data.fingerprint
    larger = ensure_prepared("more", tmp_path, 64, progress=False)
    assert larger.images.shape == (5, 64, 64, 3)
    assert larger.fingerprint == data.fingerprint


def test_what_needs_masks_refuses_them(images: Path, tmp_path: Path) -> None:
    data = prepare_unlabelled("more", tmp_path, images, size=SIZE, progress=False)
    for refused in (data.need_masks, lambda: data.native_mask(0)):
        with pytest.raises(DataError, match=r"without masks(?s:.*)--data\.unlabelled more"):
            refused()
    labelled = prepare_phantom(tmp_path, count=6, size=SIZE, progress=False)
    labelled.need_masks()
    info = read_json(labelled.folder / "dataset.json")
    assert info["masks"] is True


def test_exclusions_and_changes(images: Path, tmp_path: Path) -> None:
    write_csv(tmp_path / "out.csv", [{"image_id": "ELSEWHERE"}], ["image_id"])
    data = prepare_unlabelled(
        "fewer", tmp_path, images, size=SIZE, exclude=tmp_path / "out.csv", progress=False
    )
    assert len(data) == 4
    assert "ELSEWHERE" not in {row.image_id for row in data.manifest}
    with pytest.raises(MismatchError, match="was prepared with"):
        prepare_unlabelled("fewer", tmp_path, images, size=SIZE, progress=False)


def test_broken_missing_and_ambiguous_images(images: Path, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    with pytest.raises(DataError, match="no images"):
        prepare_unlabelled("none", tmp_path, folder, size=SIZE, progress=False)
    good = (images / "deep" / "ELSEWHERE.png").read_bytes()
    (folder / "good.png").write_bytes(good)
    (folder / "broken.png").write_bytes(good[:100])
    with pytest.raises(DataError, match=r"1 of 2 pairs cannot be used(?s:.*)broken\.png"):
        prepare_unlabelled("bad", tmp_path, folder, size=SIZE, progress=False)
    (folder / "good.jpg").write_bytes(good)
    with pytest.raises(DataError, match=r"ambiguous.*good\.jpg, good\.png"):
        prepare_unlabelled("bad", tmp_path, folder, size=SIZE, progress=False)
