from __future__ import annotations

from pathlib import Path

import pytest

from dermdistill.core.errors import DataError
from dermdistill.data.prepare.pairing import mask_stem, pair_folders, pair_ph2


def _touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.mark.parametrize("ending", ["_Segmentation", "_segmentation", "_mask", "_lesion", "_MASK", ""])
@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".png", ".bmp", ".tif", ".TIFF"])
def test_usual_names(tmp_path: Path, ending: str, suffix: str) -> None:
    _touch(tmp_path / "i" / f"ISIC_1{suffix}", tmp_path / "m" / f"ISIC_1{ending}.png")
    (pair,) = pair_folders(tmp_path / "i", tmp_path / "m").pairs
    assert (pair.image_id, pair.image.name) == ("ISIC_1", f"ISIC_1{suffix}")
    assert pair.mask.name == f"ISIC_1{ending}.png"


def test_part_3b_has_both_in_one_folder(tmp_path: Path) -> None:
    _touch(*(tmp_path / "in" / f"ISIC_{n}{end}" for n in (1, 2) for end in (".jpg", "_Segmentation.png")))
    _touch(tmp_path / "in" / "ISIC_3.jpg", tmp_path / "in" / "ISIC_4_Segmentation.png")
    found = pair_folders(tmp_path, tmp_path, "test")
    assert [(p.image_id, p.mask.name, p.split) for p in found.pairs] == [
        ("ISIC_1", "ISIC_1_Segmentation.png", "test"),
        ("ISIC_2", "ISIC_2_Segmentation.png", "test"),
    ]
    assert [p.name for p in found.images_without_mask] == ["ISIC_3.jpg"]
    assert [p.name for p in found.masks_without_image] == ["ISIC_4_Segmentation.png"]


def test_superpixels_hidden_and_other_files_are_not_images(tmp_path: Path) -> None:
    _touch(*(tmp_path / "i" / n for n in ("a.jpg", "a_superpixels.png", "._a.jpg", ".a.jpg", "meta.csv")))
    _touch(tmp_path / "m" / "a_segmentation.png")
    found = pair_folders(tmp_path / "i", tmp_path / "m")
    assert [p.image.name for p in found.pairs] == ["a.jpg"]
    assert not found.images_without_mask
    assert not found.masks_without_image


@pytest.mark.parametrize(("images", "masks"), [("d", "d/masks"), ("d/images", "d")])
def test_a_folder_inside_the_other_keeps_its_files(tmp_path: Path, images: str, masks: str) -> None:
    _touch(tmp_path / images / "a.png", tmp_path / masks / "a.png")
    (pair,) = pair_folders(tmp_path / images, tmp_path / masks).pairs
    assert (pair.image.parent, pair.mask.parent) == (tmp_path / images, tmp_path / masks)


def test_ambiguous_names_are_all_listed(tmp_path: Path) -> None:
    _touch(*(tmp_path / "i" / n for n in ("a.jpg", "b.jpg", "b.png", "c.jpg")))
    _touch(*(tmp_path / "m" / n for n in ("a.png", "a_mask.png", "b.png", "c.png")))
    with pytest.raises(DataError, match="ambiguous") as caught:
        pair_folders(tmp_path / "i", tmp_path / "m")
    assert "a.jpg has 2 masks" in caught.value.found
    assert "b.jpg, b.png" in caught.value.found
    assert "c.jpg" not in caught.value.found


def test_nothing_matches(tmp_path: Path) -> None:
    _touch(tmp_path / "i" / "a.jpg", tmp_path / "m" / "b.png")
    with pytest.raises(DataError, match=r"(?s)None of 1 images.*a\.jpg.*b\.png"):
        pair_folders(tmp_path / "i", tmp_path / "m")
    with pytest.raises(DataError, match="not a folder"):
        pair_folders(tmp_path / "absent", tmp_path / "m")


def test_ph2(tmp_path: Path) -> None:
    inner = tmp_path / "PH2Dataset" / "PH2 Dataset images"
    for n in ("IMD002", "IMD003"):
        _touch(
            inner / n / f"{n}_Dermoscopic_Image" / f"{n}.bmp", inner / n / f"{n}_roi" / f"{n}_R1_Label3.bmp"
        )
    _touch(inner / "IMD002" / "IMD002_lesion" / "IMD002_lesion.bmp")
    left_behind = tmp_path / "__MACOSX" / "IMD004"  # by a system: passed over
    _touch(left_behind / "IMD004_Dermoscopic_Image" / "IMD004.bmp")
    found = pair_ph2(tmp_path)
    assert [(p.image_id, p.mask.name, p.split) for p in found.pairs] == [
        ("IMD002", "IMD002_lesion.bmp", "test")
    ]
    assert [p.name for p in found.images_without_mask] == ["IMD003.bmp"]


@pytest.mark.parametrize(
    ("stem", "bare"), [("a_Segmentation", "a"), ("a_lesion_mask", "a_lesion"), ("a", "a")]
)
def test_mask_stem(stem: str, bare: str) -> None:
    assert mask_stem(stem) == bare
