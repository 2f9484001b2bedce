"""Cross-validation: every training image scored once, by a network that has not seen its lesion."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from dermdistill import cli
from dermdistill.artifacts.card import ModelCard
from dermdistill.core.errors import ConfigError, DataError, MismatchError
from dermdistill.core.files import read_csv, read_json, write_json
from dermdistill.data.dataset import open_dataset
from dermdistill.data.prepare.split import part_of
from dermdistill.evaluation.evaluate import evaluate
from dermdistill.evaluation.per_image import read_per_image
from dermdistill.metrics.overlap import pooled_dice
from dermdistill.models.ensemble import Ensemble, as_one_network
from dermdistill.models.torch_backend import load_run
from dermdistill.study import run as study
from dermdistill.study.schema import StudyResult
from dermdistill.study.settings import StudySettings
from tinystudies import SIZE, tiny

FOLDS = 2


@pytest.fixture(scope="module")
def finished(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[StudySettings, StudyResult]:
    settings = tiny(root, tmp_path_factory.mktemp("runs"), seeds=[0], folds=FOLDS)
    return settings, study.run_study(settings, progress=False)


def test_each_training_image_is_scored_once_by_a_network_that_has_not_seen_it(
    finished: tuple[StudySettings, StudyResult], root: Path
) -> None:
    settings, result = finished
    assert result.complete
    assert StudyResult.read(settings.folder) == result
    assert (result.folds, result.data.split) == (FOLDS, "out-of-fold")
    data = open_dataset("phantom", root, SIZE)
    rows = {data.manifest[i].image_id: data.manifest[i] for i in data.indices("train")}
    assert [arm.name for arm in result.arms] == ["teacher", "alone", "kl"]
    for arm in result.arms:
        (cell,) = arm.cells
        merged = read_csv(settings.folder / cell.evaluation / "per_image.csv")
        assert [row["image_id"] for row in merged] == sorted(rows)
        for row in merged:
            assert int(float(row["fold"])) == part_of(rows[row["image_id"]], FOLDS)
        assert np.mean([float(row["dice"]) for row in merged]) == pytest.approx(cell.dice, abs=1e-6)
        assert len(cell.folds) == FOLDS
        for part, fold in enumerate(cell.folds):
            card = ModelCard.read(settings.folder / fold.run / "card.json")
            assert card.dataset["fold"] == f"{part}/{FOLDS}"
            if arm.name == "kl":  # its teacher has not seen them either
                assert card.teacher is not None
                assert card.teacher.fold == f"{part}/{FOLDS}"
    counts = read_per_image(settings.folder / "out-of-fold" / "kl-seed0" / "per_image.csv").counts
    summary = read_json(settings.folder / "out-of-fold" / "kl-seed0" / "summary.json")
    assert summary["dice_pooled"] == pytest.approx(pooled_dice(counts))
    assert sum(one["share"] for one in summary["calibration"]["bins"]) == pytest.approx(1)
    assert result.comparison("kl") is not None
    assert result.comparison("kl").n == len(rows)  # type: ignore[union-attr]


def test_the_folds_as_one_network_give_the_mean_probability(
    finished: tuple[StudySettings, StudyResult], root: Path, tmp_path: Path
) -> None:
    settings, _ = finished
    folder = settings.folder / "ensembles" / "kl-seed0"
    net, card = load_run(folder)
    members = [load_run(settings.folder / "cells" / f"kl-seed0-fold{k}of{FOLDS}")[0] for k in range(FOLDS)]
    image = torch.rand(2, 3, SIZE + 5, SIZE)
    expected = torch.stack([member(image).sigmoid() for member in members]).mean(0)
    torch.testing.assert_close(net(image).sigmoid(), expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(net(image), Ensemble(members)(image), atol=1e-5, rtol=1e-5)
    assert card.model["members"] == FOLDS
    assert "fold" not in card.dataset
    assert card.teacher is not None
    assert len(card.teacher.teachers) == FOLDS
    scored = evaluate(folder, root=root, out=tmp_path / "scores", progress=False)
    assert scored.about["split"] == "test"
    assert (
        cli.main(
            [
                "export",
                str(folder),
                "--root",
                str(root),
                "--precisions",
                "fp32",
                "--out",
                str(tmp_path / "onnx"),
            ]
        )
        == 0
    )
    photo = next((root / "phantom").rglob("*.jpg"))
    onnx = tmp_path / "onnx" / "student.onnx"
    assert cli.main(["predict", str(photo), "--model", str(onnx), "--out", str(tmp_path / "masks")]) == 0


def test_what_is_done_is_skipped_and_a_lost_cell_is_missed(
    finished: tuple[StudySettings, StudyResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, result = finished
    shutil.copytree(settings.folder, tmp_path / "tiny")
    moved = settings.model_copy(update={"runs_root": tmp_path})
    weights = tmp_path / "tiny" / "ensembles" / "kl-seed0" / "best_student_model.pth"
    before = weights.stat().st_mtime_ns
    with monkeypatch.context() as patch:
        patch.setattr("dermdistill.training.run.fit", None)  # would be called to train
        patch.setattr("dermdistill.evaluation.evaluate.evaluate", None)
        again = study.run_study(moved, progress=False)
    assert again.arms == result.arms
    assert weights.stat().st_mtime_ns == before
    shutil.rmtree(tmp_path / "tiny" / "cells" / f"kl-seed0-fold1of{FOLDS}")
    partial = study.collect(moved)
    assert partial.missing == (f"kl-seed0-fold1of{FOLDS}",)
    assert [arm.name for arm in partial.arms] == ["teacher", "alone"]
    assert study.run_study(moved, progress=False).complete  # that cell alone is trained again
    card = tmp_path / "tiny" / "cells" / f"kl-seed0-fold1of{FOLDS}" / "card.json"
    told = read_json(card)
    told["teacher"]["weights_sha256"] = "0" * 64
    write_json(card, told)
    with pytest.raises(MismatchError, match="another teacher"):
        study.collect(moved)


def test_what_would_know_the_fold_is_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="images of every fold"):
        tiny(root, tmp_path, folds=3, teacher={"run": "runs/teacher"})
    with pytest.raises(ConfigError, match="no meaning"):
        tiny(root, tmp_path, folds=3, split="val")
    own = {
        "alone": {"verb": "train"},
        "own": {"teacher": "own", "overrides": {"teacher.recipe": "teacher-phantom"}},
    }
    with pytest.raises(ConfigError, match="a teacher of its own"):
        study.run_study(tiny(root, tmp_path, folds=3, arms=own), progress=False)
    with pytest.raises(DataError, match="Choose fewer --folds"):
        study.run_study(tiny(root, tmp_path, folds=20), progress=False)
    assert not list((tmp_path / "tiny").glob("cells/*"))


def test_a_run_without_a_fold_has_no_out_of_fold_images(
    finished: tuple[StudySettings, StudyResult], root: Path
) -> None:
    folder = finished[0].folder / "ensembles" / "alone-seed0"
    with pytest.raises(MismatchError, match="all parts of it"):
        evaluate(folder, root=root, split="out-of-fold", progress=False)


def test_networks_of_two_kinds_are_no_ensemble() -> None:
    from dermdistill.models.build import build_model

    with pytest.raises(MismatchError, match="built alike"):
        as_one_network([build_model("unet-w4"), build_model("unet-w8")])


def test_the_report_shows_the_folds(
    finished: tuple[StudySettings, StudyResult], capsys: pytest.CaptureFixture[str]
) -> None:
    settings, result = finished
    assert cli.main(["report", str(settings.folder)]) == 0
    page = (settings.folder / "report" / "report.html").read_text(encoding="utf-8")
    assert "out-of-fold" in page
    assert cli.main(["study", str(settings.folder / "study.yaml"), "--collect"]) == 0
    assert f"out-of-fold, {result.data.images} images" in capsys.readouterr().out
