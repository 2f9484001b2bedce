"""Which networks teach: one run or the mean of several, the best weights or the last; which are refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from dermdistill.artifacts.card import ModelCard
from dermdistill.config import Recipe, parse_recipe
from dermdistill.core.errors import ConfigError, Interrupted, MismatchError, WeightsError
from dermdistill.core.files import hash_file, read_csv
from dermdistill.data.dataset import open_dataset
from dermdistill.data.prepare.prepare import prepare_phantom
from dermdistill.evaluation import evaluate as evaluation
from dermdistill.models.ensemble import Ensemble
from dermdistill.models.torch_backend import load_run
from dermdistill.report import arms, load, run_files
from dermdistill.training import run as training
from dermdistill.training import teachers
from dermdistill.workflows import model_card
from tinyruns import SIZE, tiny


@pytest.fixture(scope="module")
def runs(root: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two finished teachers."""
    place, folders = tmp_path_factory.mktemp("runs"), []
    for seed in (0, 1):
        more = {"teacher.arch": "unet-w4", "seed": seed, "name": f"t{seed}"}
        recipe = tiny("teacher-phantom", root, place, **more, **{"trainer.epochs": 3, "optim.lr": 0.01})
        folders.append(training.train(recipe, progress=False))
    return folders


def several(runs: list[Path], **more: Any) -> dict[str, Any]:
    return {"teacher.runs": [str(path) for path in runs], **more}


def _no_training(recipe: Recipe) -> Path:
    raise AssertionError("a finished run was named")


def find(recipe: Recipe, root: Path) -> tuple[torch.nn.Module, dict[str, Any]]:
    return teachers.find_teacher(recipe, open_dataset("phantom", root, SIZE), fine_tune=_no_training)


def test_the_mean_of_two_runs_teaches(root: Path, runs: list[Path], tmp_path: Path) -> None:
    net, told = find(tiny("phantom", root, tmp_path, **several(runs)), root)
    assert isinstance(net, Ensemble)
    image = torch.rand(2, 3, SIZE, SIZE)
    with torch.no_grad():
        prob = torch.stack([load_run(path)[0](image).double().sigmoid() for path in runs]).mean(0)
        torch.testing.assert_close(net(image).double().sigmoid(), prob, atol=1e-6, rtol=0)
    assert [one.run for one in told.mean_of] == ["t0", "t1"]
    hashes = [hash_file(path / "best_teacher_model.pth") for path in runs]
    assert [one.weights_sha256 for one in told.mean_of] == hashes


def test_a_teacher_still_in_training_is_told(
    root: Path, runs: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "t0"
    shutil.copytree(runs[0], folder)
    recipe = tiny("phantom", root, tmp_path, **{"teacher.run": str(folder)})
    find(recipe, root)
    assert "is not finished" not in caplog.text
    (folder / "finished").unlink()
    find(recipe, root)
    assert "is not finished: its best weights after 3 epochs teach" in caplog.text
    (folder / "last.ckpt").unlink()  # a teacher that was handed on: weights and card
    caplog.clear()
    find(recipe, root)
    assert "is not finished" not in caplog.text


def test_a_student_of_two_teachers_is_trained_scored_and_described(
    root: Path, runs: list[Path], tmp_path: Path
) -> None:
    folder = training.distill(tiny("phantom", root, tmp_path, **several(runs)), progress=False)
    row = read_csv(folder / "metrics.csv")[0]
    assert float(row["val_teacher_dice"]) > 0
    card = ModelCard.read(folder / "card.json")
    assert card.teacher is not None
    assert len(card.teacher.mean_of) == 2
    evaluation.evaluate(folder, progress=False)
    summary = json.loads(
        (folder / "evaluation" / "phantom-test" / "summary.json").read_text(encoding="utf-8")
    )
    assert summary["agreement"] is None  # the mean is no run: --teacher names the one to compare with
    words = model_card.to_markdown(card, file="x.onnx", size=1, data={}, summary=summary)
    assert "distilled from the mean of 2 teachers" in words
    assert words.count("- `t0`, ") == words.count("- `t1`, ") == 1
    by_one = card.model_copy(update={"teacher": card.teacher.mean_of[0]})
    words = model_card.to_markdown(by_one, file="x.onnx", size=1, data={}, summary=summary)
    assert "distilled from a teacher: `t0`, unet-w4, weights SHA-256 `" in words
    assert arms.describe(run_files.read_run(folder)).endswith("distilled from 2 teachers: kl 1")
    assert any("their mean taught" in line for line in load.collect(folder).report.missing)
    state = torch.load(folder / "last.ckpt", map_location="cpu", weights_only=True)["state_dict"]
    assert not any(name.startswith("teacher") for name in state)


def test_one_of_several_is_that_run(root: Path, runs: list[Path], tmp_path: Path) -> None:
    one, told = find(tiny("phantom", root, tmp_path, **several(runs[:1])), root)
    same, as_run = find(tiny("phantom", root, tmp_path, **{"teacher.run": str(runs[0])}), root)
    assert told == as_run
    image = torch.rand(1, 3, SIZE, SIZE)
    assert torch.equal(one(image), same(image))


@pytest.mark.parametrize("averaged", [False, True], ids=["plain", "of-an-earlier-version"])
def test_the_last_weights_of_a_run_can_teach(
    averaged: bool, root: Path, runs: list[Path], tmp_path: Path
) -> None:
    """A run of an earlier version may hold averaged weights: what it validated and saved."""
    folder = tmp_path / "copy"
    shutil.copytree(runs[0], folder)
    checkpoint = torch.load(folder / "last.ckpt", weights_only=True)
    expected = {
        name.removeprefix("net.net."): value + averaged
        for name, value in checkpoint["state_dict"].items()
        if name.startswith("net.net.")
    }
    if averaged:
        checkpoint["state_dict"] |= {f"averaged.module.net.{k}": value for k, value in expected.items()}
        torch.save(checkpoint, folder / "last.ckpt")
    more = {"teacher.run": str(folder), "teacher.weights": "last"}
    net, told = find(tiny("phantom", root, tmp_path, **more), root)
    assert net.net.state_dict().keys() == expected.keys()
    for name, value in net.net.state_dict().items():
        assert torch.equal(value, expected[name]), name
    assert (told.weights, told.weights_sha256) == ("last", hash_file(folder / "last.ckpt"))
    assert told.val is None  # the card's scores are those of the best epoch
    (folder / "last.ckpt").unlink()
    with pytest.raises(WeightsError, match=r"last\.ckpt"):
        find(tiny("phantom", root, tmp_path, **more), root)


def test_each_of_several_teachers_is_checked(root: Path, runs: list[Path], tmp_path: Path) -> None:
    prepare_phantom(tmp_path, count=12, size=SIZE, seed=1, name="phantom", progress=False)
    foreign = {"teacher.arch": "unet-w4", "name": "foreign"}
    other = training.train(tiny("teacher-phantom", tmp_path, tmp_path / "runs", **foreign), progress=False)
    recipe = tiny("phantom", root, tmp_path, **several([runs[0], other]))
    with pytest.raises(MismatchError, match=r"(?s)foreign.*--teacher.any-data"):
        find(recipe, root)
    with pytest.raises(ConfigError, match="t0 and t0 have the same weights"):
        find(tiny("phantom", root, tmp_path, **several([runs[0], runs[0]])), root)
    with pytest.raises(WeightsError, match="does not exist"):
        find(tiny("phantom", root, tmp_path, **several([runs[0], tmp_path / "none"])), root)


@pytest.mark.parametrize(
    ("tree", "told"),
    [
        ({"teacher": {"run": "a", "runs": ["b", "c"]}}, "both run and runs"),
        ({"role": "teacher", "teacher": {"arch": "Unet", "runs": ["b"]}}, "have no meaning"),
    ],
)
def test_settings_that_do_not_go_together(tree: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        parse_recipe({"name": "x", **tree}, "x.yaml")


def test_a_run_does_not_go_on_with_another_teacher(
    root: Path, runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dermdistill.training.checkpoints import Resumable

    original = Resumable.on_train_batch_start

    def stop(self: Resumable, trainer: Any, *rest: Any) -> None:
        if trainer.current_epoch == 1:
            self.signal = 15
        original(self, trainer, *rest)

    recipe = tiny("phantom", root, tmp_path, **several(runs), **{"trainer.epochs": 2})
    with monkeypatch.context() as patch:
        patch.setattr(Resumable, "on_train_batch_start", stop)
        with pytest.raises(Interrupted):
            training.distill(recipe, progress=False)
    for changed in (several(runs[:1]), several(runs[::-1])):
        other = tiny("phantom", root, tmp_path, **changed, **{"trainer.epochs": 2})
        with pytest.raises(MismatchError, match="begun with the teacher"):
            training.distill(other, resume=True, progress=False)
    moved = [shutil.copytree(path, tmp_path / "moved" / path.name) for path in runs]
    again = tiny("phantom", root, tmp_path, **several(moved), **{"trainer.epochs": 2})
    folder = training.distill(again, resume=True, progress=False)
    assert json.loads((folder / "card.json").read_text(encoding="utf-8"))["teacher"]["mean_of"]
    assert len(read_csv(folder / "metrics.csv")) == 2


def test_a_teacher_of_other_data_is_refused(root: Path, teacher: Path, tmp_path: Path) -> None:
    prepare_phantom(tmp_path, count=12, size=SIZE, seed=1, name="phantom", progress=False)
    more = {"teacher.run": str(teacher), "trainer.epochs": 1}
    with pytest.raises(MismatchError, match=r"--teacher.any-data"):
        training.distill(tiny("phantom", tmp_path, tmp_path / "runs", **more), progress=False)


def test_teachers_that_cannot_teach_are_refused(root: Path, tmp_path: Path) -> None:
    for more, told in [
        ({"teacher.recipe": None}, "names no teacher"),
        ({"teacher.recipe": None, "teacher.arch": "FPN", "teacher.encoder": "resnet18"}, "random head"),
    ]:
        with pytest.raises(ConfigError, match=told):
            training.distill(tiny("phantom", root, tmp_path, **more), progress=False)


def test_distilling_without_a_run_fine_tunes_the_teacher_first_and_once(root: Path, tmp_path: Path) -> None:
    more = {"teacher.arch": "unet-w4", "trainer.epochs": 1, "data.train_limit": 6}
    recipe = tiny("phantom", root, tmp_path, **more)
    teacher = teachers.teacher_recipe(recipe)
    assert (teacher.teacher.arch, teacher.data.train_limit, teacher.seed) == ("unet-w4", 6, recipe.seed)
    short = teacher.model_copy(update={"trainer": teacher.trainer.model_copy(update={"epochs": 1})})
    training.train(short, progress=False)
    with pytest.raises(MismatchError, match=r"trainer\.epochs"):  # never silently another teacher
        training.distill(recipe, progress=False)
