"""The official id lists."""

from __future__ import annotations

from pathlib import Path

import pytest

from dermdistill.audit.official import is_archive_id, official_ids, official_overlaps
from dermdistill.core.files import read_csv
from pictures import entry


def test_the_lists_have_their_published_lengths() -> None:
    lengths = {key: len(ids) for key, ids in official_ids().items()}
    assert lengths == {
        ("isic2016", "train"): 900, ("isic2016", "test"): 379, ("isic2017", "train"): 2000,
        ("isic2017", "val"): 150, ("isic2017", "test"): 600, ("isic2018", "train"): 2594,
    }  # fmt: skip


def test_no_challenge_has_an_image_on_both_sides() -> None:
    lists = official_ids()
    assert not lists["isic2016", "train"] & lists["isic2016", "test"]
    assert not lists["isic2017", "train"] & (lists["isic2017", "test"] | lists["isic2017", "val"])


def test_the_lists_are_the_shared_ones(real_data: Path) -> None:
    names = {
        ("isic2016", "train"): "isic2016_train_ids", ("isic2016", "test"): "isic2016_test_ids",
        ("isic2017", "train"): "isic2017_train_ids", ("isic2017", "val"): "isic2017_val_ids",
        ("isic2017", "test"): "isic2017_test_ids", ("isic2018", "train"): "isic2018_task1_train_ids",
    }  # fmt: skip
    for key, name in names.items():
        assert official_ids()[key] == set((real_data / "splits" / f"{name}.txt").read_text().split())


def test_2017s_training_set_holds_305_of_2016s_test_images(real_data: Path) -> None:
    rows = read_csv(real_data / "isic2017-256" / "manifest.csv")
    entries = [entry(row["image_id"], row["isic2017_split"], "isic2017") for row in rows]
    found = {(o.challenge, o.official_split): o for o in official_overlaps(entries) if o.split == "train"}
    assert found["isic2016", "test"].count == 305
    assert found["isic2016", "test"].total == 379
    assert "305 of the 379 ISIC 2016 test images" in str(found["isic2016", "test"])
    assert ("isic2017", "test") not in found


def test_training_on_here_what_is_tested_there_is_a_warning_and_the_reverse_a_note() -> None:
    tested = sorted(official_ids()["isic2016", "test"] & official_ids()["isic2017", "train"])[:4]
    trained_on = official_overlaps([entry(name, "train") for name in tested])
    assert [(o.count, o.is_warning) for o in trained_on] == [(4, True)]
    unknown = official_overlaps([entry(name, "") for name in tested])
    assert [(o.count, o.is_warning) for o in unknown] == [(4, True)]
    held_out = official_overlaps([entry(name, "test") for name in tested])
    assert ("isic2017", False) in [(o.challenge, o.is_warning) for o in held_out]
    assert not any(o.is_warning for o in held_out)
    assert "4" in str(held_out[0])
    assert official_overlaps([entry("mole-1")]) == []


@pytest.mark.parametrize(
    ("name", "is_one"), [("ISIC_0000003", True), ("isic_0000003", True), ("ISIC_3", False), ("3", False)]
)
def test_numbers_of_the_archive(name: str, is_one: bool) -> None:
    assert is_archive_id(name) == is_one
