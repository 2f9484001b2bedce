"""Training, distillation and evaluation on a real GPU, at tiny size: ``pytest -m gpu`` where there is one."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch

from dermdistill.evaluation import evaluate as evaluation
from dermdistill.training import run as training
from dermdistill.training.acceleration import cuda_graphs
from tinyruns import tiny

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore:GPU available but not used"),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="NO CUDA DEVICE: nothing was trained on one"),
]


def losses(run: Path) -> list[float]:
    with (run / "metrics.csv").open(encoding="utf-8", newline="") as stream:
        return [float(row["train_loss"]) for row in csv.DictReader(stream)]


@pytest.mark.parametrize("precision", ["auto", "32-true"])
@pytest.mark.parametrize("on_device", ["always", "never"])
def test_a_student_is_distilled_and_scored(
    root: Path, teacher: Path, tmp_path: Path, precision: str, on_device: str
) -> None:
    chosen = {"trainer.precision": precision, "data.on_device": on_device, "trainer.accelerator": "gpu"}
    recipe = tiny("phantom", root, tmp_path, **chosen, **{"augment.blur": 1.0, "teacher.run": str(teacher)})
    run = training.distill(recipe, progress=False)
    assert all(0 < loss < 10 for loss in losses(run))
    found = evaluation.evaluate(run, root=root, split="val", progress=False)
    assert 0 <= found.scores["dice_per_image_mean"].mean <= 1


def test_in_full_precision_it_is_the_training_of_a_cpu(root: Path, teacher: Path, tmp_path: Path) -> None:
    found = {}
    for where in ("cpu", "gpu"):
        chosen = {"trainer.accelerator": where, "trainer.precision": "32-true", "teacher.run": str(teacher)}
        recipe = tiny("phantom", root, tmp_path / where, **chosen)
        found[where] = losses(training.distill(recipe, progress=False))
    assert found["gpu"] == pytest.approx(found["cpu"], rel=0.05)


@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
@pytest.mark.usefixtures("no_shape_checks")
def test_compiled_steps_learn_the_same(root: Path, teacher: Path, tmp_path: Path, mode: str) -> None:
    found = {}
    for compiled in ("off", mode):
        chosen = {"trainer.accelerator": "gpu", "trainer.compile": compiled, "teacher.run": str(teacher)}
        recipe = tiny("phantom", root, tmp_path / compiled, **chosen)
        found[compiled] = losses(training.distill(recipe, progress=False))
    assert found[mode] == pytest.approx(found["off"], rel=0.05)


@pytest.mark.parametrize("precision", ["bf16-mixed", "32-true"])
@pytest.mark.parametrize("role", ["teacher", "student"])
def test_recorded_steps_learn_the_same(
    root: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str, role: str
) -> None:
    monkeypatch.setattr(cuda_graphs, "MIN_STEPS", 0)
    made: list[cuda_graphs.Recording | None] = []
    record = cuda_graphs.CudaGraphStep._record

    def kept(self: cuda_graphs.CudaGraphStep, batch: Any) -> None:
        record(self, batch)
        made.append(self.recording)

    monkeypatch.setattr(cuda_graphs.CudaGraphStep, "_record", kept)
    found = {}
    for graphs in ("off", "auto"):
        chosen = {"trainer.accelerator": "gpu", "trainer.cuda_graphs": graphs}
        chosen |= {"trainer.precision": precision, "trainer.epochs": 4, "augment.blur": 0.5}
        if role == "student":
            recipe = tiny("phantom", root, tmp_path / graphs, **chosen, **{"teacher.run": str(teacher)})
            found[graphs] = losses(training.distill(recipe, progress=False))
        else:
            recipe = tiny("teacher-phantom", root, tmp_path / graphs, **chosen)
            found[graphs] = losses(training.train(recipe, progress=False))
    assert [recording is not None for recording in made] == [True]
    assert found["auto"] == pytest.approx(found["off"], rel=0.02 if precision == "bf16-mixed" else 1e-3)


def test_cross_fitted_steps_are_those_of_a_cpu(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU asks every teacher for every image, a CPU each for its own; recorded steps choose by the rows."""
    monkeypatch.setattr(cuda_graphs, "MIN_STEPS", 0)
    runs = []
    for part in (0, 1):
        more = {"teacher.arch": "unet-w4", "data.fold": f"{part}/2", "name": f"fold{part}"}
        runs.append(str(training.train(tiny("teacher-phantom", root, tmp_path, **more), progress=False)))
    found = {}
    for where in ("cpu", "gpu"):
        chosen = {"trainer.accelerator": where, "trainer.precision": "32-true", "kd.kl": 5.0}
        taught = {"teacher.recipe": None, "teacher.runs": runs, "teacher.folds": 2}
        recipe = tiny("phantom", root, tmp_path / where, **chosen, **taught)
        found[where] = losses(training.distill(recipe, progress=False))
    assert found["gpu"] == pytest.approx(found["cpu"], rel=0.05)


def test_cached_logits_teach_what_they_teach_on_a_cpu(
    root: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_graphs, "MIN_STEPS", 0)
    found = {}
    for where in ("cpu", "gpu"):
        chosen = {"trainer.accelerator": where, "trainer.precision": "32-true", "kd.kl": 5.0}
        taught = {"teacher.run": str(teacher), "teacher.logits": "cached"}
        recipe = tiny("phantom", root, tmp_path / where, **chosen, **taught)
        found[where] = losses(training.distill(recipe, progress=False))
    assert found["gpu"] == pytest.approx(found["cpu"], rel=0.05)
