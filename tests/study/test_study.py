"""A study on a few phantoms: what it writes, skips, resumes, refuses."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from dermdistill import cli
from dermdistill.config import to_tree
from dermdistill.core.errors import MismatchError
from dermdistill.core.files import hash_file, read_csv, read_json, write_json
from dermdistill.data.dataset import open_dataset
from dermdistill.study import run as study
from dermdistill.study.schema import StudyResult
from dermdistill.study.settings import StudySettings, parse_study
from tinystudies import SIZE, run_in_child, tiny, tree, unequal, without_times


@pytest.fixture(scope="module")
def finished(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[StudySettings, StudyResult]:
    settings = tiny(root, tmp_path_factory.mktemp("runs"))
    return settings, study.run_study(settings, called_as="dermdistill study tiny", progress=False)


def test_a_study_holds_what_is_promised(finished: tuple[StudySettings, StudyResult]) -> None:
    settings, result = finished
    assert read_json(settings.folder / "study.json") == result.to_json()
    assert StudyResult.read(settings.folder) == result
    assert result.complete
    assert [arm.name for arm in result.arms] == ["teacher", "alone", "kl"]
    teacher, alone, kl = result.arms
    assert teacher.role == "teacher"
    assert alone.seeds == kl.seeds == (0, 1)
    assert alone.steps == kl.steps == 3  # 10 training images in batches of 4
    assert alone.agreement is not None
    assert kl.agreement is not None
    assert not alone.agreement.taught
    assert kl.agreement.taught
    assert kl.agreement.dice.n == 3
    assert len(kl.scores["dice"].by_seed) == 2
    assert teacher.kept == 1
    (against_teacher, against_kl) = result.comparisons
    assert (against_teacher.arm, against_teacher.metrics["dice"].p_holm) == ("teacher", None)
    d = against_kl.metrics["dice"]
    assert d.mean == pytest.approx(kl.scores["dice"].mean - alone.scores["dice"].mean)
    assert d.p_holm == d.p_wilcoxon
    assert "student alone" in result.verdict
    assert result.commands[-1] == "dermdistill study tiny"
    for cell in kl.cells:
        rows = read_csv(settings.folder / cell.evaluation / "per_image.csv")
        assert np.mean([float(row["dice"]) for row in rows]) == pytest.approx(cell.dice, abs=1e-6)


def test_what_is_done_is_skipped(
    finished: tuple[StudySettings, StudyResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, result = finished
    monkeypatch.setattr("dermdistill.training.run.fit", None)  # would be called to train
    monkeypatch.setattr("dermdistill.evaluation.evaluate.evaluate", None)
    again = study.run_study(settings, progress=False)
    assert again.model_copy(update={"created": ""}) == result.model_copy(update={"created": ""})


def test_no_test_image_chooses_anything(
    finished: tuple[StudySettings, StudyResult], root: Path, tmp_path: Path
) -> None:
    """With noise in place of all test images and masks, the same weights come out."""
    settings, result = finished
    noisy = tmp_path / "data"
    shutil.copytree(root / "phantom", noisy / "phantom")
    test = open_dataset("phantom", root, SIZE).indices("test")
    info = read_json(noisy / "phantom" / "dataset.json")
    for name, most in (("images", 255), ("masks", 1)):
        path = noisy / "phantom" / f"pack-{SIZE}" / f"{name}.npy"
        array = np.load(path, mmap_mode="r+")
        array[test] = np.random.default_rng(0).integers(0, most + 1, array[test].shape)
        array.flush()
        info["packs"][str(SIZE)][f"{name}_sha256"] = hash_file(path)
    write_json(noisy / "phantom" / "dataset.json", info)
    overrides = {**settings.overrides, "data.root": str(noisy)}
    other = settings.model_copy(update={"runs_root": tmp_path, "overrides": overrides, "seeds": (0,)})
    again = study.run_study(other, progress=False)
    for arm, same in zip(result.arms, again.arms, strict=True):
        assert arm.cells[0].weights_sha256 == same.cells[0].weights_sha256
        assert arm.cells[0].dice != same.cells[0].dice


def test_an_arm_that_cannot_be_run_is_told_and_stops_no_other(
    finished: tuple[StudySettings, StudyResult], tmp_path: Path, capsys: pytest.CaptureFixture[str]
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


def test_cells_that_do_not_belong_together_are_refused(
    finished: tuple[StudySettings, StudyResult], tmp_path: Path
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


def test_a_cell_begun_with_other_settings_is_refused(finished: tuple[StudySettings, StudyResult]) -> None:
    settings, _ = finished
    other = settings.model_copy(update={"overrides": {**settings.overrides, "kd.temperature": 3.0}})
    with pytest.raises(MismatchError, match=r"kd\.temperature"):
        study.run_study(other, progress=False)


def test_the_command_line_collects(
    finished: tuple[StudySettings, StudyResult], capsys: pytest.CaptureFixture[str]
) -> None:
    settings, result = finished
    path = str(settings.folder / "study.yaml")
    assert cli.main(["study", path, "--collect"]) == 0
    told = capsys.readouterr().out
    assert "distilled, KL" in told
    assert "(baseline)" in told
    assert cli.main(["study", path, "--collect", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["arms"] == result.to_json()["arms"]
    assert cli.main(["study", path, "--collect", "--json", "--human", "isic2016"]) == 0  # named afterwards
    human = json.loads(capsys.readouterr().out)["human"]
    assert human["n"] == 167
    assert not human["comparable"]


@pytest.mark.slow
def test_a_study_killed_ten_times_ends_with_the_same_table(
    finished: tuple[StudySettings, StudyResult], root: Path, tmp_path: Path
) -> None:
    """SIGKILL at random moments of a study's life; each time the same call goes on."""
    # A server that has imported torch once, and forks: ten starts would cost a minute of imports.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["dermdistill.training.run", "dermdistill.evaluation.evaluate", "tinystudies"]
    )
    rng, kills, moments = np.random.default_rng(), 0, []
    started = time.monotonic()
    plain = tree(root, tmp_path)
    while kills < 10:
        child = context.Process(target=run_in_child, args=(plain,))
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
    finished: tuple[StudySettings, StudyResult], root: Path, tmp_path: Path
) -> None:
    settings = tiny(root, tmp_path)
    study.run_study(settings, only=["teacher"], progress=False)
    study.run_study(settings, share=study.Share(1, 2), progress=False)  # in this process
    partial = study.collect(settings)
    assert partial.missing == ("kl-seed0", "kl-seed1")
    assert not partial.complete
    result = study.run_study(settings, share=study.Share(2, 2), workers=2, progress=False)
    assert unequal(without_times(result), without_times(finished[1])) == []
