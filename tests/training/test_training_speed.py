"""Settings that change only the speed of training change nothing else."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dermdistill.core.errors import TrainingError
from dermdistill.core.files import read_csv
from dermdistill.data.dataset import open_dataset
from dermdistill.training import distillation_task, fit, objective
from dermdistill.training import run as training
from dermdistill.training.acceleration.nan_guard import NonFiniteLossGuard
from dermdistill.training.feed.loader import ImageRows, PackDataset
from tinyruns import SIZE, state_of, tiny


@pytest.fixture(scope="module")
def plain(root: Path, teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = tiny("phantom", root, tmp_path_factory.mktemp("plain"), **{"teacher.run": str(teacher)})
    return training.distill(recipe, progress=False)


def test_images_on_the_device_are_the_same_images(root: Path) -> None:
    data = open_dataset("phantom", root, SIZE)
    train, others = data.indices("train"), ImageRows(data, data.indices("val"))
    for unlabelled in (None, others):
        positions = np.random.default_rng(0).permutation(len(train))[:5].tolist()
        positions += [len(train), len(train) + 1] if unlabelled else []
        mapped, resident = PackDataset(data, train, unlabelled), PackDataset(data, train, unlabelled)
        resident.keep_on(torch.device("cpu"))
        expected, found = mapped.__getitems__(positions), resident.__getitems__(positions)
        for one, other in zip(expected.tensors(), found.tensors(), strict=True):
            assert torch.equal(one, other)
        assert found.image.is_contiguous(memory_format=torch.channels_last)
    assert resident.nbytes == sum(t.nbytes for t in resident._resident or ())


def test_a_run_with_images_on_the_device_is_the_same_run(
    root: Path, teacher: Path, plain: Path, tmp_path: Path
) -> None:
    more = {"teacher.run": str(teacher), "data.on_device": "always"}
    found = state_of(training.distill(tiny("phantom", root, tmp_path, **more), progress=False))
    expected = state_of(plain)
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_the_teacher_answers_validation_images_once(
    root: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And every epoch's scores are those of a teacher that answers anew."""
    asked: list[int] = []
    original = distillation_task.FrozenTeacher.forward

    def count(self: distillation_task.FrozenTeacher, image: torch.Tensor, *rest: Any) -> Any:
        asked.append(len(image))
        return original(self, image, *rest)

    monkeypatch.setattr(distillation_task.FrozenTeacher, "forward", count)
    recipe = tiny("phantom", root, tmp_path / "kept", **{"teacher.run": str(teacher)})
    kept = training.distill(recipe, progress=False)
    before = sum(asked)
    monkeypatch.setattr(distillation_task, "VALIDATION_CACHE", 0)
    anew = training.distill(recipe.model_copy(update={"runs_root": tmp_path / "anew"}), progress=False)
    spared = len(open_dataset("phantom", root, SIZE).indices("val"))  # in the second of two epochs
    assert sum(asked) - before == before + spared
    for one, other in zip(read_csv(kept / "metrics.csv"), read_csv(anew / "metrics.csv"), strict=True):
        found = {name: one[name] == other[name] for name in one if name.startswith("val_")}
        assert len(found) >= 5
        assert all(found.values()), found


@pytest.mark.usefixtures("no_shape_checks")
def test_compiled_steps_train_the_same_network(
    root: Path,
    teacher: Path,
    plain: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Through torch.compile's front end (``backend="eager"``: its code generator takes a minute)."""
    batches: list[tuple[int, bool]] = []
    compile_ = torch.compile

    def front_end_only(function: Any, mode: str, dynamic: bool) -> Any:
        assert mode == "reduce-overhead"
        compiled = compile_(function, backend="eager", dynamic=dynamic)

        def call(net: torch.nn.Module, image: torch.Tensor, *rest: Any) -> Any:
            batches.append((len(image), net.training))
            return compiled(net, image, *rest)

        return call

    monkeypatch.setattr(torch, "compile", front_end_only)
    more = {"teacher.run": str(teacher), "trainer.compile": "reduce-overhead"}
    found = state_of(training.distill(tiny("phantom", root, tmp_path, **more), progress=False))
    expected = state_of(plain)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-5)
    assert {size for size, _ in batches} == {4}  # the last batch of an epoch is smaller, and plain
    assert [training_ for _, training_ in batches] == [True, False] * (len(batches) // 2)


@pytest.mark.usefixtures("no_shape_checks")
def test_a_compiler_that_fails_is_reported(
    root: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("no C++ compiler")

    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, mode, dynamic: real(f, backend=broken, dynamic=dynamic))
    more = {"teacher.run": str(teacher), "trainer.compile": "default"}
    with pytest.raises(TrainingError, match=r"no C\+\+ compiler[\s\S]*--trainer.compile off"):
        training.distill(tiny("phantom", root, tmp_path, **more), progress=False)


def test_a_loss_looked_at_late_is_named_and_never_kept(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU: the answer is read steps after the question."""
    calls = 0
    original = objective.losses.soft_dice_loss

    def nan_in_the_second_step(*args: Any, **kwargs: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return original(*args, **kwargs) * (float("nan") if calls == 2 else 1.0)

    monkeypatch.setattr(objective.losses, "soft_dice_loss", nan_in_the_second_step)
    monkeypatch.setattr(
        "dermdistill.training.segmentation_task.NonFiniteLossGuard",
        functools.partial(NonFiniteLossGuard, 100),
    )
    recipe = tiny("student-phantom", root, tmp_path)
    with pytest.raises(TrainingError, match=r"loss is nan at step 1 \(epoch 0\)[\s\S]*images: PHANTOM"):
        training.train(recipe, progress=False)
    folder = tmp_path / recipe.name
    assert calls > 2, "it was looked at in the same step: this test would prove nothing"
    assert not (folder / "last.ckpt").exists()
    assert not (folder / "best_student_model.pth").exists()


def test_a_fused_optimiser_is_clipped_in_bf16(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    norms: list[float] = []
    clip = torch.nn.utils.clip_grad_norm_

    def fused(parameters: list[torch.nn.Parameter], **_: Any) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, lr=1e-3, fused=True)

    def recorded(parameters: Any, limit: float) -> torch.Tensor:
        parameters = list(parameters)
        clip(parameters, limit)
        norms.append(float(torch.stack([p.grad.norm() for p in parameters]).norm()))
        return torch.tensor(0.0)

    monkeypatch.setattr(fit, "make_optimizer", fused)
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", recorded)
    more = {"trainer.precision": "bf16-mixed", "trainer.grad_clip": 1e-3, "trainer.epochs": 1}
    training.train(tiny("student-phantom", root, tmp_path, **more), progress=False)
    assert norms
    assert max(norms) <= 1e-3 * 1.01
