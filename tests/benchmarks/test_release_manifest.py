"""The split of the shipped student: no test image, and nothing that shows what one shows, is trained on."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from dermdistill.core.files import read_csv

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "release_manifest.py"


def run(*arguments: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_lists_and_folders(tmp_path: Path) -> None:
    folder = tmp_path / "2017"
    folder.mkdir()
    for name in ("ISIC_1.jpg", "ISIC_2.jpg", "ISIC_2_superpixels.png", "ISIC_3.jpg", "notes.txt"):
        (folder / name).touch()
    (tmp_path / "2016.txt").write_text("ISIC_0\nISIC_1\n", encoding="utf-8")
    (tmp_path / "test.txt").write_text("ISIC_2\nISIC_9\n", encoding="utf-8")
    (tmp_path / "near.csv").write_text("image_id\nISIC_3\n", encoding="utf-8")
    out = tmp_path / "release.csv"
    told = run(
        "--out", out, "--train-ids", folder, tmp_path / "2016.txt", "--test-ids", tmp_path / "test.txt",
        "--near-duplicates", tmp_path / "near.csv",
    )  # fmt: skip
    assert "2 training and 2 test images; left out: 1 training ids that are test images, 1 near" in told
    split = {row["image_id"]: row["release_split"] for row in read_csv(out)}
    assert split == {"ISIC_0": "train", "ISIC_1": "train", "ISIC_2": "test", "ISIC_9": "test"}


def test_who_drew_the_masks(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("ISIC_0\nISIC_1\nISIC_2\nISIC_3\n", encoding="utf-8")
    (tmp_path / "test.txt").write_text("ISIC_9\n", encoding="utf-8")
    (tmp_path / "who.csv").write_text(
        "image_id,masks,lesion_id,patient_id\nISIC_0,A04:T3:S1,L1,P1\nISIC_1,A04:T1:S1 A06:T1:S2,,\n"
        "ISIC_2,A00:T2:S1 A00:T1:S1,,\nISIC_9,,,\n",
        encoding="utf-8",
    )
    out = tmp_path / "release.csv"
    run(
        "--out", out, "--train-ids", tmp_path / "train.txt", "--test-ids", tmp_path / "test.txt",
        "--annotations", tmp_path / "who.csv",
    )  # fmt: skip
    rows = {row["image_id"]: (row["annotator"], row["style"], row["lesion_id"]) for row in read_csv(out)}
    assert rows == {
        "ISIC_0": ("A04", "autofill", "L1"), "ISIC_1": ("", "points", ""), "ISIC_2": ("A00", "", ""),
        "ISIC_3": ("", "", ""), "ISIC_9": ("", "", ""),
    }  # fmt: skip


def test_the_real_lists(real_data: Path, tmp_path: Path) -> None:
    lists, out = real_data / "splits", tmp_path / "release.csv"
    run(
        "--out", out, "--train-ids", lists / "isic2016_train_ids.txt", lists / "isic2017_train_ids.txt",
        "--test-ids", lists / "isic2016_test_ids.txt",
    )  # fmt: skip
    split = {row["image_id"]: row["release_split"] for row in read_csv(out)}
    test = set((lists / "isic2016_test_ids.txt").read_text(encoding="utf-8").split())
    train = {name for name, where in split.items() if where == "train"}
    assert not train & test
    assert test == {name for name, where in split.items() if where == "test"}
    assert "ISIC_0014846" not in split  # the same slide as the test image ISIC_0000222
    near = {row["image_id"] for row in read_csv(SCRIPT.with_name("release_near_duplicates.csv"))}
    assert not train & near
    known = [
        set((lists / f"isic{y}_train_ids.txt").read_text(encoding="utf-8").split()) for y in (2016, 2017)
    ]
    assert train == set.union(*known) - test - near


def test_missing_lists_are_an_error(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("release_manifest", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with pytest.raises(Exception, match="does not exist"):
        module.read_ids(tmp_path / "absent")
    with pytest.raises(Exception, match="holds no ids"):
        module.read_ids(tmp_path)
