"""A study's arms, seeds and budget: the shipped ones, what may differ between them, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dermdistill import cli
from dermdistill.config import load_recipe, shipped_recipes, shipped_studies
from dermdistill.core.errors import ConfigError, DataError, UsageError
from dermdistill.core.files import read_json
from dermdistill.data.prepare.prepare import prepare_phantom
from dermdistill.report import records
from dermdistill.report.load import collect
from dermdistill.study import run as study
from dermdistill.study import time_budget
from dermdistill.study.settings import base_recipe, cell_recipe, load_study, student_cells
from dermdistill.training import run as training
from tinystudies import SIZE, tiny, tree


def test_shipped_studies_are_valid() -> None:
    names = {path.stem for path in shipped_studies()}
    assert {"study-isic2016", "study-phantom"} <= names
    for name in names:
        settings = load_study(name)
        baseline = settings.arms[settings.baseline]
        # Changes are compared with what they change, everything else with the student alone.
        assert (baseline.verb, baseline.overrides) == ("distill" if name == "study-ablation" else "train", {})
        for cell in student_cells(settings):
            cell_recipe(settings, cell)
        assert base_recipe(settings).role == "student"


STUDENTS = [path.stem for path in shipped_recipes() if load_recipe(path).role == "student"]


@pytest.mark.parametrize("name", STUDENTS)
def test_every_students_recipe_is_a_study_of_the_usual_arms(name: str) -> None:
    """Also where the recipe has several teachers: the study has one."""
    settings = load_study(name)
    for cell in student_cells(settings):
        recipe = cell_recipe(settings, cell)
        if cell.arm.startswith("kl"):
            assert (recipe.teacher.folds, recipe.teacher.runs) == (None, ())
            assert recipe.teacher.run is not None


def test_a_plain_recipe_gets_the_usual_arms() -> None:
    settings = load_study("isic2016")
    assert list(settings.arms) == ["alone", "kl", "kl-channel", "kl-boundary", "voc-teacher"]
    assert settings.arms["voc-teacher"].optional
    assert base_recipe(settings) == load_recipe("isic2016")
    assert len(student_cells(settings)) == 15
    with pytest.raises(ConfigError, match="trains a teacher"):
        load_study("teacher-cpu")


def test_shares_cover_all_cells_once() -> None:
    cells = student_cells(load_study("isic2016"))
    shares = [study.Share.parse(f"{k}/4") for k in (1, 2, 3, 4)]
    assert sorted(c.name for s in shares for c in cells[s.part - 1 :: s.parts]) == sorted(
        c.name for c in cells
    )
    for wrong in ("0/4", "5/4", "2", "a/b"):
        with pytest.raises(UsageError, match="PART/PARTS"):
            study.Share.parse(wrong)


def test_arms_with_other_teachers_unlabelled_images_and_another_size(root: Path, tmp_path: Path) -> None:
    """Arms that change more than a loss: lists as values, weights of the same teacher, another pack."""
    more = {
        "data.root": str(root), "data.size": SIZE, "data.batch_size": 4, "trainer.epochs": 1,
        "trainer.accelerator": "cpu", "teacher.arch": "unet-w4", "runs_root": str(tmp_path),
    }  # fmt: skip
    teachers = [
        str(training.train(load_recipe("teacher-phantom", {**more, "seed": seed, "name": f"t{seed}"})))
        for seed in (5, 6)
    ]
    arms = {
        "base": {},
        "mean": {"teacher": "own", "overrides": {"teacher.runs": teachers}},
        "last": {"overrides": {"teacher.weights": "last"}},
        "unlabelled": {"overrides": {"data.unlabelled": "phantom"}},
        "larger": {"overrides": {"data.size": 2 * SIZE}},
    }
    given = {"run": teachers[0]}
    settings = tiny(root, tmp_path, arms=arms, baseline="base", seeds=[0], teacher=given)
    result = study.run_study(settings, progress=False)
    assert result.complete
    assert [arm.name for arm in result.arms] == ["teacher", *arms]
    assert len({arm.cells[0].weights_sha256 for arm in result.arms}) >= 5
    assert len({arm.steps for arm in result.arms[1:]}) == 1
    cards = {arm: read_json(settings.folder / "cells" / f"{arm}-seed0" / "card.json") for arm in arms}
    assert len(cards["mean"]["teacher"]["mean_of"]) == 2
    assert cards["last"]["teacher"]["best_sha256"] == cards["base"]["teacher"]["weights_sha256"]
    assert cards["unlabelled"]["dataset"]["unlabelled"]["images"] == 10
    assert cards["larger"]["input_size"] == 2 * SIZE
    table = records.difference_table(collect(settings.folder).report)
    assert table is not None
    rows = {row[0]: row[1:] for row in table.rows}
    assert ", ".join(teachers) in rows["teacher.runs"]
    assert "phantom" in rows["data.unlabelled"]


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ({"trainer.epochs": 2}, "optimiser steps 6, alone: 3"),
        ({"data.batch_size": 2}, "optimiser steps"),
        ({"optim.lr": 0.1}, r"optim\.lr"),
        ({"trainer.early_stop": 3}, "early stopping"),
    ],
)
def test_arms_that_are_not_trained_alike_are_refused(
    overrides: dict[str, Any], told: str, root: Path, tmp_path: Path
) -> None:
    arms = tree(root, tmp_path)["arms"] | {"odd": {"overrides": overrides}}
    with pytest.raises(ConfigError, match=told):
        study.run_study(tiny(root, tmp_path, arms=arms), progress=False)
    assert not (tmp_path / "tiny").exists()


def test_test_images_that_were_trained_on_are_refused(root: Path, tmp_path: Path) -> None:
    prepare_phantom(root, count=6, size=SIZE, seed=0, name="other", progress=False)  # the same first pictures
    with pytest.raises(DataError, match="training"):
        study.run_study(tiny(root, tmp_path, test_data="other"), progress=False)


def test_a_slice_needs_the_teacher(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--only teacher"):
        study.run_study(tiny(root, tmp_path), share=study.Share(1, 2), progress=False)


def test_wall_clock_gives_every_arm_the_longest_arms_time() -> None:
    assert time_budget.share_out({"alone": 1.0, "kl": 2.0}, {"alone": 10, "kl": 10}) == {
        "alone": 20,
        "kl": 10,
    }
    assert time_budget.share_out({"alone": 100.0, "kl": 1.0}, {"alone": 1, "kl": 1}) == {
        "alone": 1,
        "kl": 100,
    }


def test_measured_times_are_kept_and_slices_must_have_them(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tiny(root, tmp_path, budget="wall-clock")
    with pytest.raises(UsageError, match=r"timing\.json"):
        time_budget.scaled_epochs(settings, sliced=True)
    seconds = {"alone": 1.0, "kl": 4.0}
    monkeypatch.setattr(time_budget, "_measure", lambda settings, arm: seconds[arm])
    assert time_budget.scaled_epochs(settings, sliced=False) == {"alone": 4, "kl": 1}
    seconds["alone"] = 9.0  # would be another budget: a resumed study keeps its own
    assert time_budget.scaled_epochs(settings, sliced=True) == {"alone": 4, "kl": 1}


def test_bad_studies_are_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "s.yaml"
    for text, told in [
        ("name: s\nrecipe: phantom\narms: {a: {verb: learn}}\n", "verb"),
        ("name: s\nrecipe: phantom\narms: {kl: {}}\n", "baseline"),
        ("name: s\nrecipe: phantom\narms: {alone: {verb: train}}\nseeds: [1, 1]\n", "different"),
        ("name: s\nrecipe: phantom\narms: {alone: {}, 'a/b': {}}\n", "no name"),
    ]:
        path.write_text(text, encoding="utf-8")
        assert cli.main(["study", str(path)]) == 2
        assert told in capsys.readouterr().err
    assert cli.main(["study", "study-phantom", "--arms", "kl,nobody"]) == 2
    assert cli.main(["study", "study-phantom", "--seeds", "one"]) == 2
    assert cli.main(["study", "study-phantom", "--jobs", "0"]) == 2
    capsys.readouterr()
