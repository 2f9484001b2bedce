"""Training, distillation and evaluation on a real GPU, at tiny size: ``pytest -m gpu`` where there is one."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

from dermdistill import evaluation, training
from tinyruns import tiny

pytestmark = [
    pytest.mark.gpu,
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
    views = {"augment.blur": 1.0, "augment.cutout": 0.5, "augment.mixup": 0.2, "trainer.ema": 0.9}
    recipe = tiny("phantom", root, tmp_path, **chosen, **views, **{"teacher.run": str(teacher)})
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
