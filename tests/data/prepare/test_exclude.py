"""What an audit found is left out, by prepare and by train."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dermdistill import cli
from dermdistill.config import load_recipe
from dermdistill.core.errors import DataError, MismatchError
from dermdistill.core.files import read_json, write_csv
from dermdistill.data.dataset import PreparedData
from dermdistill.data.prepare.exclude import read_exclusions
from dermdistill.data.prepare.folders import prepare_folder
from dermdistill.data.prepare.prepare import prepare_phantom
from dermdistill.training import run as training
from dermdistill.training.feed import training_data
from smallfiles import write_pairs

COLUMNS = ["image_a", "set_a", "split_a", "image_b", "set_b", "split_b", "crosses", "level"]


def audit_file(path: Path, *rows: tuple[str, str, str, str, str, str, str], level: str = "exact") -> Path:
    write_csv(path, [dict(zip(COLUMNS, (*row, level), strict=True)) for row in rows], COLUMNS)
    return path


def leak(a: str, b: str, split: str = "test", other: str = "own") -> tuple[str, str, str, str, str, str, str]:
    return a, "own", "train", b, other, split, "yes"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_pairs(tmp_path, 8)
    write_pairs(tmp_path / "held", 3, first=20)
    return tmp_path


def prepare(folder: Path, exclude: Path | None, name: str = "own", **more: Any) -> PreparedData:
    held = folder / "held"
    return prepare_folder(
        name, folder / "data", folder / "images", folder / "masks", test_images=held / "images",
        test_masks=held / "masks", size=32, exclude=exclude, progress=False, **more,
    )  # fmt: skip


def ids(data: PreparedData, *splits: str) -> set[str]:
    return {row.image_id for row in data.manifest if row.split in splits}


def test_the_training_side_of_a_leak_is_left_out_and_that_is_recorded(folder: Path) -> None:
    found = audit_file(folder / "audit.csv", leak("p1", "p20"), leak("p4", "p21"))
    plain, clean = prepare(folder, None, "plain"), prepare(folder, found)
    assert ids(plain, "train", "val") - ids(clean, "train", "val") == {"p1", "p4"}
    assert ids(clean, "test") == {"p20", "p21", "p22"}
    assert clean.fingerprint != plain.fingerprint
    record = clean.info["source"]["excluded"]
    assert record["left_out"] == ["p1", "p4"]
    assert len(record["sha256"]) == 64
    assert f"--exclude {found}" in clean.info["command"]


def test_the_command_in_dataset_json_does_the_same_again(folder: Path) -> None:
    clean = prepare(folder, audit_file(folder / "audit.csv", leak("p1", "p20")))
    words = clean.info["command"].split()[1:]
    assert cli.main([*words, "--root", str(folder / "again"), "--size", "32"]) == 0
    again = read_json(folder / "again" / "own" / "dataset.json")
    assert again["manifest_sha256"] == clean.info["manifest_sha256"]


def test_carving_does_not_part_what_shows_the_same(folder: Path) -> None:
    rows = [
        leak("p0", "p1", "val"),
        leak("p2", "p1", "val"),
        ("p5", "own", "train", "p6", "own", "train", "no"),
    ]
    found = audit_file(folder / "audit.csv", *rows)
    for seed in range(6):
        data = prepare(folder, found, f"own{seed}", seed=seed, val_fraction=0.4, manifest=None)
        assert len(ids(data, "train", "val")) == 8, "nobody is left out: nothing is in the test split"
        split = {row.image_id: row.split for row in data.manifest}
        assert split["p0"] == split["p1"] == split["p2"]
        assert split["p5"] == split["p6"]
        group = {row.image_id: row.group for row in data.manifest}
        assert group["p0"] == group["p2"] == "audit-p0"
        assert group["p3"] == ""


def test_lesions_known_from_the_manifest_join_what_was_found(folder: Path) -> None:
    lines = [f"p{n},{'L1' if n < 2 else 'L2' if n < 4 else ''}" for n in range(8)]
    manifest = folder / "m.csv"
    manifest.write_text("image_id,lesion_id\n" + "\n".join(lines) + "\n", encoding="utf-8")
    found = audit_file(folder / "audit.csv", ("p1", "own", "train", "p2", "own", "train", "no"))
    data = prepare_folder(
        "own", folder / "data", folder / "images", folder / "masks", manifest=manifest, size=32,
        exclude=found, progress=False,
    )  # fmt: skip
    assert {row.group for row in data.manifest if row.image_id in ("p0", "p1", "p2", "p3")} == {"L1"}


def test_a_leak_into_another_data_set_is_left_out_too(folder: Path) -> None:
    found = audit_file(folder / "audit.csv", leak("p3", "x", "val", other="theirs"))
    assert "p3" not in ids(prepare(folder, found), "train", "val")


def test_a_plain_list_is_left_out_whatever_it_is_called(folder: Path) -> None:
    path = folder / "list.csv"
    path.write_text("test_id,image_id\nq,p2\nq,p7\nq,p20\nq,not-here\n", encoding="utf-8")
    data = prepare(folder, path)
    assert ids(data, "train", "val", "test") == {"p0", "p1", "p3", "p4", "p5", "p6", "p20", "p21", "p22"}
    assert data.info["source"]["excluded"]["left_out"] == ["p2", "p7"], "a test image stays"


def test_another_exclusion_is_another_data_set(folder: Path) -> None:
    prepare(folder, None)
    with pytest.raises(MismatchError, match="was prepared with"):
        prepare(folder, audit_file(folder / "audit.csv", leak("p1", "p20")))


def test_audits_of_other_sets_and_other_files_are_refused(folder: Path) -> None:
    strange = audit_file(folder / "a.csv", ("p1", "x", "train", "p2", "y", "test", "yes"))
    with pytest.raises(MismatchError, match="is about x, y"):
        prepare(folder, strange)
    (folder / "b.csv").write_text("name,size\na,1\n", encoding="utf-8")
    with pytest.raises(DataError, match="has no column"):
        prepare(folder, folder / "b.csv")
    with pytest.raises(DataError, match="does not exist"):
        prepare(folder, folder / "c.csv")
    assert not (folder / "data" / "own" / "dataset.json").exists()


def test_an_audit_that_found_nothing_leaves_nothing_out(folder: Path) -> None:
    data = prepare(folder, audit_file(folder / "audit.csv"))
    assert len(data) == 11
    assert data.info["source"]["excluded"]["left_out"] == []


def test_equal_names_alone_are_no_leak(folder: Path) -> None:
    found = audit_file(folder / "audit.csv", leak("p1", "p20"), level="same name")
    assert len(prepare(folder, found)) == 11


def test_training_leaves_them_out_and_the_card_says_so(tmp_path: Path) -> None:
    data = prepare_phantom(tmp_path, count=20, size=48, seed=0, progress=False)
    first, second = (data.manifest[row].image_id for row in data.indices("train")[:2])
    test = data.manifest[data.indices("test")[0]].image_id
    found = audit_file(
        tmp_path / "audit.csv",
        (first, "phantom", "train", test, "phantom", "test", "yes"),
        (first, "phantom", "train", second, "phantom", "train", "no"),
    )
    recipe = load_recipe(
        "teacher-phantom",
        {
            "data.name": "phantom", "data.root": str(tmp_path), "data.size": 48, "data.batch_size": 4,
            "data.exclude": str(found), "teacher.arch": "unet-w4", "trainer.epochs": 1,
            "trainer.accelerator": "cpu", "runs_root": str(tmp_path / "runs"),
        },
    )  # fmt: skip
    rows = training_data.train_rows(recipe, data)
    assert set(data.indices("train")) - set(rows) == {data.indices("train")[0]}
    run = training.train(recipe, progress=False)
    card = json.loads((run / "card.json").read_text(encoding="utf-8"))
    assert card["dataset"]["excluded"] == 1
    assert card["dataset"]["exclude_sha256"] == read_exclusions(found, ["phantom"]).sha256
    assert str(found) in (run / "config.yaml").read_text(encoding="utf-8")
