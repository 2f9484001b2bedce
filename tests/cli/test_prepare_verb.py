"""``dermdistill prepare`` as a user types it: a subcommand each, the spelling of before, wrong usage."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from dermdistill import cli
from dermdistill.cli.common import one_of, parse
from dermdistill.data.dataset import open_dataset
from dermdistill.data.prepare.phantom import write_phantoms
from dermdistill.data.prepare.settings import KINDS, FolderSettings, Isic2016Settings, UnlabelledSettings

CARVED = {"--seed", "--val-fraction"}
OFFICIAL = {"--archives", "--verify", "--discard-archives", "--allow-empty", "--exclude"}
TABLE = {"--manifest", "--split-column", "--diagnosis-column", "--annotator-column", "--style-column"}
TAKES = {
    "phantom": CARVED | {"--count"},
    "isic2016": CARVED | OFFICIAL | {"--part"},
    "isic2017": OFFICIAL,
    "isic2018": OFFICIAL,
    "ph2": {"--archives", "--allow-empty"},
    "own": CARVED
    | TABLE
    | {"--images", "--masks", "--test-images", "--test-masks", "--allow-empty", "--exclude"},
    "unlabelled": {"--images", "--exclude"},
}  # fmt: skip


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lab")
    write_phantoms(folder, 6, 48, seed=3)
    return folder


def test_each_has_only_the_options_that_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(TAKES) == set(KINDS)
    for kind, own in TAKES.items():
        with pytest.raises(SystemExit) as stopped:
            cli.main(["prepare", kind, "--help"])
        assert stopped.value.code == 0
        shown = set(re.findall(r"(?<![\w-])--(?!no-)[a-z][\w-]*", capsys.readouterr().out))
        assert shown == own | {"--help", "--name", "--root", "--size"}, kind


def test_one_s_own_images_and_the_spelling_of_before(
    lab: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--images", str(lab / "images"), "--root", str(tmp_path), "--size", "32"]
    masks = ["--masks", str(lab / "masks")]
    assert cli.main(["prepare", "own", *more, *masks, "--name", "new"]) == 0
    told = capsys.readouterr()
    assert "5 train, 1 val, 0 test, 32×32" in told.out
    assert "this spelling" not in told.err
    assert cli.main(["prepare", *more, *masks, "--name", "old"]) == 0
    told = capsys.readouterr()
    assert told.err.count("read as: dermdistill prepare own") == 1
    new, old = (open_dataset(name, tmp_path, 32) for name in ("new", "old"))
    assert new.fingerprint == old.fingerprint
    assert new.info["command"] == old.info["command"].replace("--name old", "--name new")


def test_images_without_masks_and_the_spelling_of_before(
    lab: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--images", str(lab / "images"), "--root", str(tmp_path), "--size", "32"]
    assert cli.main(["prepare", "unlabelled", *more]) == 0
    assert f"{tmp_path / 'images'}: 6 train, 0 val, 0 test, without masks" in capsys.readouterr().out
    assert cli.main(["prepare", "--unlabelled", *more, "--name", "mine"]) == 0
    assert "read as: dermdistill prepare unlabelled" in capsys.readouterr().err
    assert len(open_dataset("mine", tmp_path, 32)) == 6


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "dermdistill prepare own --images DIR --masks DIR"),
        (["phantm"], "phantom"),
        (["phantom", "--size", "7"], "32 to 2048"),
        (["phantom", "--count", "2"], "at least 3"),
        (["phantom", "--val-fraction", "1"], "more than 0 and less than 1"),
        (["phantom", "--name", "isic2016"], "a name of the catalogue"),
        (["phantom", "--exclude", "audit.csv"], "--exclude"),
        (["isic2017", "--part", "3b"], "--part"),
        (["own", "--images", "."], "prepare unlabelled"),  # masks forgotten: never a set without them
        (["--images", "."], "prepare unlabelled"),
        (["--unlabelled", "--images", ".", "--masks", "."], "--masks"),
        (["own", "--images", ".", "--masks", ".", "--name", "../x"], "is not a name"),
    ],
)
def test_wrong_usage_exits_with_2(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = cli.main(["prepare", *words])
    except SystemExit as error:  # tyro's own refusals
        code = int(str(error.code))
    assert code == 2
    err = " ".join(re.sub(r"[│╭╮╰╯─]", " ", capsys.readouterr().err).split())
    assert told in err
    assert "Traceback" not in err


def test_the_command_line_makes_the_same_settings(tmp_path: Path) -> None:
    for settings in (
        Isic2016Settings(part="3b", seed=4, verify=False),
        FolderSettings(name="a", images=tmp_path / "i i", masks=tmp_path, allow_empty=True, split_column="s"),
        UnlabelledSettings(images=tmp_path, exclude=tmp_path / "audit.csv"),
    ):
        words = shlex.split(settings.command_line())
        assert words[:2] == ["dermdistill", "prepare"]
        assert parse(one_of(KINDS), "prepare", words[2:]) == settings
