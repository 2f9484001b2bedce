"""A study on a few phantoms: what it writes, skips, resumes, refuses; and its table from hand-made cells."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from dermdistill import cli, study, study_clock, training
from dermdistill.config import load_recipe, shipped_studies, to_tree
from dermdistill.data.dataset import open_dataset
from dermdistill.data.prepare import prepare_phantom
from dermdistill.errors import ConfigError, DataError, MismatchError, UsageError
from dermdistill.files import read_csv, read_json, write_json
from dermdistill.report import records
from dermdistill.report.collect import collect
from dermdistill.study_config import (
    StudySettings,
    base_recipe,
    cell_recipe,
    load_study,
    parse_study,
    student_cells,
)

SIZE = 32


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    prepare_phantom(root, count=15, size=SIZE, seed=0, name="phantom", progress=False)
    return root


def tree(root: Path, runs_root: Path, **more: Any) -> dict[str, Any]:
    """A study of two arms and two seeds that trains for seconds."""
    return {
        "name": "tiny",
        "recipe": "phantom",
        "overrides": {
            "data.root": str(root), "data.size": SIZE, "data.batch_size": 4,
            "trainer.epochs": 1, "trainer.accelerator": "cpu",
        },
        "arms": {
            "alone": {"verb": "train", "title": "student alone"},
            "kl": {"title": "distilled, KL"},
        },
        "teacher": {"overrides": {"teacher.arch": "unet-w4", "trainer.epochs": 1}},
        "seeds": [0, 1],
        "runs_root": str(runs_root),
    } | more  # fmt: skip


def tiny(root: Path, runs_root: Path, **more: Any) -> StudySettings:
    return parse_study(tree(root, runs_root, **more), "the test")


@pytest.fixture(scope="module")
def finished(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[StudySettings, dict[str, Any]]:
    settings = tiny(root, tmp_path_factory.mktemp("runs"))
    return settings, study.run_study(settings, called_as="dermdistill study tiny", progress=False)


def test_a_study_holds_what_is_promised(finished: tuple[StudySettings, dict[str, Any]]) -> None:
    settings, result = finished
    assert read_json(settings.folder / "study.json") == result
    assert result["complete"]
    assert [arm["arm"] for arm in result["arms"]] == ["teacher", "alone", "kl"]
    teacher, alone, kl = result["arms"]
    assert teacher["role"] == "teacher"
    assert alone["seeds"] == kl["seeds"] == [0, 1]
    assert alone["steps"] == kl["steps"] == 3  # 10 training images in batches of 4
    assert alone["agreement"]["taught"] is False
    assert kl["agreement"]["taught"] is True
    assert kl["agreement"]["dice"]["n"] == 3
    assert len(kl["scores"]["dice"]["by_seed"]) == 2
    assert teacher["kept"] == 1
    (against_teacher, against_kl) = result["comparisons"]
    assert (against_teacher["arm"], against_teacher["metrics"]["dice"]["p_holm"]) == ("teacher", None)
    d = against_kl["metrics"]["dice"]
    expected = kl["scores"]["dice"]["mean"] - alone["scores"]["dice"]["mean"]
    assert d["mean"] == pytest.approx(expected)
    assert d["p_holm"] == d["p_wilcoxon"]
    assert "student alone" in result["verdict"]
    assert result["commands"][-1] == "dermdistill study tiny"
    for cell in kl["cells"]:
        evaluation = settings.folder / cell["evaluation"]
        rows = read_csv(evaluation / "per_image.csv")
        assert np.mean([float(row["dice"]) for row in rows]) == pytest.approx(cell["dice"], abs=1e-6)


def test_what_is_done_is_skipped(
    finished: tuple[StudySettings, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, result = finished
    monkeypatch.setattr("dermdistill.training._fit", None)  # would be called to train
    monkeypatch.setattr("dermdistill.evaluation.evaluate", None)
    again = study.run_study(settings, progress=False)
    assert {**again, "created": ""} == {**result, "created": ""}


def test_no_test_image_chooses_anything(
    finished: tuple[StudySettings, dict[str, Any]], root: Path, tmp_path: Path
) -> None:
    """With noise in place of all test images and masks, the same weights come out."""
    settings, result = finished
    noisy = tmp_path / "data"
    shutil.copytree(root / "phantom", noisy / "phantom")
    test = open_dataset("phantom", root, SIZE).indices("test")
    for name, most in (("images", 255), ("masks", 1)):
        array = np.load(noisy / "phantom" / f"pack-{SIZE}" / f"{name}.npy", mmap_mode="r+")
        array[test] = np.random.default_rng(0).integers(0, most + 1, array[test].shape)
        array.flush()
    overrides = {**settings.overrides, "data.root": str(noisy)}
    other = settings.model_copy(update={"runs_root": tmp_path, "overrides": overrides, "seeds": (0,)})
    again = study.run_study(other, progress=False)
    for arm, same in zip(result["arms"], again["arms"], strict=True):
        assert arm["cells"][0]["weights_sha256"] == same["cells"][0]["weights_sha256"]
        assert arm["cells"][0]["dice"] != same["cells"][0]["dice"]


def test_an_arm_that_cannot_be_run_is_told_and_stops_no_other(
    finished: tuple[StudySettings, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings, _ = finished
    shutil.copytree(settings.folder, tmp_path / "tiny")
    gone = {
        "teacher.recipe": None, "teacher.arch": "deeplabv3-torchvision", "teacher.encoder": "resnet50",
        "teacher.encoder_weights": str(tmp_path / "nowhere.pth"),
    }  # fmt: skip
    arms = {
        **settings.model_dump()["arms"],
        "voc": {"teacher": "own", "overrides": gone, "optional": True},
        "unlabelled": {"overrides": {"data.unlabelled": "nowhere"}, "optional": True},
        "kl": settings.arms["kl"].model_dump(),
    }
    path = tmp_path / "study.yaml"
    plain = {**to_tree(settings), "arms": arms, "runs_root": str(tmp_path)}
    path.write_text(yaml.safe_dump(plain), encoding="utf-8")
    assert cli.main(["study", str(path)]) == 0
    told = capsys.readouterr().out
    assert "not run: voc, seed 1" in told
    assert "nowhere.pth" in told
    result = read_json(tmp_path / "tiny" / "study.json")
    assert [one["arm"] for one in result["not_run"]] == ["unlabelled", "unlabelled", "voc", "voc"]
    assert result["complete"]
    plain["arms"]["voc"]["optional"] = False
    path.write_text(yaml.safe_dump(plain), encoding="utf-8")
    assert cli.main(["study", str(path), "--collect"]) == 1
    assert not read_json(tmp_path / "tiny" / "study.json")["complete"]


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
    assert result["complete"]
    assert [arm["arm"] for arm in result["arms"]] == ["teacher", *arms]
    assert len({arm["cells"][0]["weights_sha256"] for arm in result["arms"]}) >= 5
    assert len({arm["steps"] for arm in result["arms"][1:]}) == 1
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


def test_cells_that_do_not_belong_together_are_refused(
    finished: tuple[StudySettings, dict[str, Any]], tmp_path: Path
) -> None:
    settings, _ = finished
    shutil.copytree(settings.folder, tmp_path / "tiny")
    moved = settings.model_copy(update={"runs_root": tmp_path})
    evaluation = tmp_path / "tiny" / "cells" / "kl-seed1" / "evaluation" / "phantom-test"
    rows = (evaluation / "per_image.csv").read_text(encoding="utf-8").splitlines()
    (evaluation / "per_image.csv").write_text("\n".join(rows[:-1]), encoding="utf-8")
    with pytest.raises(MismatchError, match="other images"):
        study.collect(moved)
    shutil.copytree(
        settings.folder / "cells" / "kl-seed1" / "evaluation", evaluation.parent, dirs_exist_ok=True
    )
    card = tmp_path / "tiny" / "cells" / "kl-seed1" / "card.json"
    told = read_json(card)
    told["teacher"]["weights_sha256"] = "0" * 64
    write_json(card, told)
    with pytest.raises(MismatchError, match="another teacher"):
        study.collect(moved)
    told["weights_sha256"] = "1" * 64
    write_json(card, told)
    with pytest.raises(MismatchError, match="other weights"):
        study.collect(moved)


def test_a_cell_begun_with_other_settings_is_refused(finished: tuple[StudySettings, dict[str, Any]]) -> None:
    settings, _ = finished
    other = settings.model_copy(update={"overrides": {**settings.overrides, "kd.temperature": 3.0}})
    with pytest.raises(MismatchError, match=r"kd\.temperature"):
        study.run_study(other, progress=False)


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
    assert study_clock.share_out({"alone": 1.0, "kl": 2.0}, {"alone": 10, "kl": 10}) == {
        "alone": 20,
        "kl": 10,
    }
    assert study_clock.share_out({"alone": 100.0, "kl": 1.0}, {"alone": 1, "kl": 1}) == {
        "alone": 1,
        "kl": 100,
    }


def test_measured_times_are_kept_and_slices_must_have_them(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tiny(root, tmp_path, budget="wall-clock")
    with pytest.raises(UsageError, match=r"timing\.json"):
        study_clock.scaled_epochs(settings, sliced=True)
    seconds = {"alone": 1.0, "kl": 4.0}
    monkeypatch.setattr(study_clock, "_measure", lambda settings, arm: seconds[arm])
    assert study_clock.scaled_epochs(settings, sliced=False) == {"alone": 4, "kl": 1}
    seconds["alone"] = 9.0  # would be another budget: a resumed study keeps its own
    assert study_clock.scaled_epochs(settings, sliced=True) == {"alone": 4, "kl": 1}


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


def test_the_command_line_collects(
    finished: tuple[StudySettings, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    settings, result = finished
    path = str(settings.folder / "study.yaml")
    assert cli.main(["study", path, "--collect"]) == 0
    told = capsys.readouterr().out
    assert "distilled, KL" in told
    assert "(baseline)" in told
    assert cli.main(["study", path, "--collect", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["arms"] == result["arms"]
    assert cli.main(["study", path, "--collect", "--json", "--human", "isic2016"]) == 0  # named afterwards
    human = json.loads(capsys.readouterr().out)["human"]
    assert human["n"] == 167
    assert not human["comparable"]


def _run_in_child(plain: dict[str, Any]) -> None:
    study.run_study(parse_study(plain, "the test"), progress=False)


def unequal(a: Any, b: Any, place: str = "") -> list[str]:
    """Where two trees differ, for a message that can be read."""
    if isinstance(a, dict) and isinstance(b, dict):
        return [d for k in sorted({*a, *b}) for d in unequal(a.get(k), b.get(k), f"{place}.{k}")]
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return [d for i, (x, y) in enumerate(zip(a, b, strict=True)) for d in unequal(x, y, f"{place}[{i}]")]
    return [] if a == b else [f"{place}: {a} != {b}"]


def without_times(result: dict[str, Any]) -> dict[str, Any]:
    """What must not depend on how often a study was broken off: all but dates, durations and the call."""
    kept = {k: v for k, v in result.items() if k not in ("created", "commands")}
    for arm in kept["arms"]:
        arm["seconds"] = None
        for cell in arm["cells"]:
            cell["seconds"] = None
    return kept


@pytest.mark.slow
def test_a_study_killed_ten_times_ends_with_the_same_table(
    finished: tuple[StudySettings, dict[str, Any]], root: Path, tmp_path: Path
) -> None:
    """SIGKILL at random moments of a study's life; each time the same call goes on."""
    # A server that has imported torch once, and forks: ten starts would cost a minute of imports.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["dermdistill.training", "dermdistill.evaluation", "tests.test_study"])
    rng, kills, moments = np.random.default_rng(), 0, []
    started = time.monotonic()
    plain = tree(root, tmp_path)
    while kills < 10:
        child = context.Process(target=_run_in_child, args=(plain,))
        child.start()
        moments.append(float(rng.uniform(0, 4.0)))
        child.join(moments[-1])
        kills += child.is_alive()
        child.kill()
        child.join()
        assert time.monotonic() - started < 300, moments
    result = study.run_study(parse_study(plain, "the test"), progress=False)
    assert unequal(without_times(result), without_times(finished[1])) == [], moments
    assert not list((tmp_path / "tiny").rglob("*.part"))


@pytest.mark.slow
def test_cells_side_by_side_give_the_same_table(
    finished: tuple[StudySettings, dict[str, Any]], root: Path, tmp_path: Path
) -> None:
    settings = tiny(root, tmp_path)
    study.run_study(settings, only=["teacher"], workers=2, progress=False)
    study.run_study(settings, share=study.Share(1, 2), workers=2, progress=False)
    partial = study.collect(settings)
    assert partial["missing"] == ["kl-seed0", "kl-seed1"]
    assert not partial["complete"]
    result = study.run_study(settings, share=study.Share(2, 2), workers=2, progress=False)
    assert unequal(without_times(result), without_times(finished[1])) == []
