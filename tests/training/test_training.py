"""Train and distil on a few phantoms: what is written, which settings and data work, what is refused."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dermdistill.artifacts import run_folder
from dermdistill.config import load_recipe
from dermdistill.core.errors import Interrupted, TrainingError
from dermdistill.core.files import read_csv
from dermdistill.data.dataset import PreparedData
from dermdistill.data.prepare.folders import prepare_folder
from dermdistill.data.prepare.prepare import prepare_phantom
from dermdistill.models.build import build_model
from dermdistill.models.torch_backend import load_run
from dermdistill.training import callbacks, fit, objective
from dermdistill.training import run as training
from dermdistill.training.checkpoints import Resumable
from dermdistill.training.distillation_task import DistillationTask, FrozenTeacher
from dermdistill.training.trainer import board_settings, has_idle_parameters
from tinyruns import SIZE, tiny


def test_a_distilled_run_holds_what_is_promised(root: Path, teacher: Path, tmp_path: Path) -> None:
    folder = training.distill(
        tiny("phantom", root, tmp_path, **{"teacher.run": str(teacher)}), progress=False
    )
    state = torch.load(folder / "best_student_model.pth", weights_only=True)
    build_model("unet-w4").net.load_state_dict(state)
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    assert card["scores"]["val"]["dice"] > 0
    assert card["teacher"]["fine_tuned"] is True
    rows = read_csv(folder / "metrics.csv")
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert all(float(row[c]) > 0 for row in rows for c in ("val_loss", "val_agreement", "images_per_second"))
    promised = {"val_loss", "val_dice", "val_jaccard", "val_teacher_dice", "val_agreement", "lr"}
    assert promised <= rows[0].keys()
    checkpoint = torch.load(folder / "last.ckpt", map_location="cpu", weights_only=True)
    assert not any(name.startswith("teacher") for name in checkpoint["state_dict"])
    best = max(rows, key=lambda row: float(row["val_dice"]))
    assert int(best["epoch"]) == card["epoch"]
    assert card["scores"]["val"]["dice"] == pytest.approx(float(best["val_dice"]), abs=1e-6)


def test_tensorboard_shows_curves_pictures_and_hyperparameters(
    root: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def stop(self: Resumable, trainer: Any, *rest: Any) -> None:
        if trainer.current_epoch == 1:
            self.signal = signal.SIGTERM
        original(self, trainer, *rest)

    original = Resumable.on_train_batch_start
    recipe = tiny("phantom", root, tmp_path, **{"teacher.run": str(teacher)})
    with monkeypatch.context() as patch:
        patch.setattr(Resumable, "on_train_batch_start", stop)
        with pytest.raises(Interrupted):
            training.distill(recipe, progress=False)
    folder = training.distill(recipe, resume=True, progress=False)
    steps: dict[str, set[int]] = {}
    settings = []
    for path in sorted((folder / "tensorboard").glob("events*")):  # one file before the stop, one after it
        board = EventAccumulator(str(path))
        board.Reload()
        for name in board.Tags()["scalars"]:
            steps.setdefault(name, set()).update(event.step for event in board.Scalars(name))
        for name in board.Tags()["images"]:
            steps.setdefault(name, set()).update(event.step for event in board.Images(name))
        settings += [name for name in board.summary_metadata if name.startswith("_hparams_/session_start")]
    row = read_csv(folder / "metrics.csv")[0]
    for name in ("val/loss", "val/dice", "val/jaccard", "val/agreement", "val/teacher_dice", "lr"):
        assert len(steps[name]) == 2, f"{name}: a point per epoch and no other"
    assert steps["validation"] == steps["val/dice"] == steps["images_per_second"] == steps["train/loss"]
    assert max(steps["val/dice"]) == int(row["step"]) * 2
    assert len(settings) == 1


def test_pictures_that_cannot_be_drawn_are_no_secret(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are drawn in a thread, whose errors nobody sees by themselves."""

    def broken(*args: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(callbacks.panels, "panel", broken)
    with pytest.raises(OSError, match="no space left"):
        training.train(tiny("student-phantom", root, tmp_path, **{"trainer.epochs": 1}), progress=False)


@pytest.mark.parametrize("gpu", [False, True])
def test_a_teacher_is_folded_but_on_a_gpu(
    gpu: bool, root: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    norms: list[int] = []

    def look(task: DistillationTask, *_: Any) -> None:
        norms.append(sum(isinstance(module, torch.nn.BatchNorm2d) for module in task.teacher.modules()))
        raise Interrupted("seen", fix="nothing")

    monkeypatch.setattr(training, "on_gpu", lambda recipe: gpu)
    monkeypatch.setattr(fit, "speed_up", look)
    with pytest.raises(Interrupted):
        training.distill(tiny("phantom", root, tmp_path, **{"teacher.run": str(teacher)}), progress=False)
    assert (norms[0] > 0) == gpu


@pytest.mark.parametrize("fold", [True, False])
def test_the_teacher_does_not_move(fold: bool, root: Path, teacher: Path, tmp_path: Path) -> None:
    net = load_run(teacher)[0]
    before = {k: v.clone() for k, v in net.state_dict().items()}
    frozen = FrozenTeacher(net, fold)
    own_before = {k: v.clone() for k, v in frozen.state_dict().items()}
    torch.nn.Sequential(frozen).train()
    assert not any(module.training for module in frozen.modules())
    image = torch.rand(2, 3, SIZE, SIZE)
    with torch.no_grad():
        torch.testing.assert_close(frozen(image), net(image), rtol=0, atol=1e-4)
    for state, kept in ((net.state_dict(), before), (frozen.state_dict(), own_before)):
        assert state.keys() == kept.keys()
        assert all(torch.equal(value, kept[name]) for name, value in state.items())
    assert not any(p.requires_grad for p in frozen.parameters())


def test_a_nan_loss_names_the_step_the_images_and_the_terms(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = objective.losses.soft_dice_loss
    monkeypatch.setattr(objective.losses, "soft_dice_loss", lambda *a, **k: original(*a, **k) * float("nan"))
    with pytest.raises(TrainingError, match=r"(?s)step 0.*dice_loss nan.*PHANTOM_"):
        training.train(tiny("student-phantom", root, tmp_path), progress=False)


def test_early_stopping_and_gradient_steps(root: Path, tmp_path: Path) -> None:
    more = {"optim.lr": 1e-12, "optim.schedule": "plateau", "trainer.epochs": 30, "trainer.early_stop": 2}
    folder = training.train(
        tiny("student-phantom", root, tmp_path, **more, **{"student.norm": "group"}), progress=False
    )
    assert run_folder.RunFolder(folder, "student").epochs_done() < 30


@pytest.mark.parametrize(
    "more",
    [
        {"optim.name": "sgd", "trainer.precision": "bf16-mixed"},
        {"optim.name": "adamw", "augment.blur": 0.5, "loss.focal": 1.0},
        {"kd.kl": 0.0, "kd.channel_wise": 1.0, "kd.boundary": 1.0, "data.size": 64},
        {"data.batch_size": 13, "augment.enabled": False},
    ],
    ids=["sgd-bf16", "blur-focal", "channel-wise-boundary", "odd-batch"],
)
def test_every_setting_takes_a_step(more: dict[str, Any], root: Path, teacher: Path, tmp_path: Path) -> None:
    recipe = tiny("phantom", root, tmp_path, **({"teacher.run": str(teacher), "trainer.epochs": 1} | more))
    folder = training.distill(recipe, progress=False)
    row = read_csv(folder / "metrics.csv")[0]
    assert 0 < float(row["val_loss"]) < 20


def test_tiny_images_at_an_odd_size_with_a_last_batch_of_one(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for index in range(6):  # one of them becomes validation: a batch of 4, and one of 1
        mask = np.zeros((19, 23), np.uint8)
        mask[5:12, 4 + index : 15] = 255
        image = generator.integers(0, 255, (19, 23, 3), dtype=np.uint8)
        for folder, array in (("images", image), ("masks", mask)):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(array).save(tmp_path / folder / f"{index}.png")
    data = prepare_folder("tiny", tmp_path, tmp_path / "images", tmp_path / "masks", size=45, progress=False)
    assert len(data.indices("train")) == 5
    more = {"data.name": "tiny", "data.size": 45, "trainer.epochs": 1}
    folder = training.train(tiny("student-phantom", tmp_path, tmp_path / "runs", **more), progress=False)
    assert 0 < float(read_csv(folder / "metrics.csv")[0]["val_loss"]) < 20


def test_the_table_of_settings_has_what_runs_differ_in(tmp_path: Path) -> None:
    recipe = load_recipe("phantom", {"augment.blur": 0.5, "runs_root": str(tmp_path)})
    told = board_settings(recipe)
    assert (told["augment.blur"], told["kd.temperature"], told["optim.lr"]) == (0.5, 2.0, 2e-3)
    assert not {"name", "runs_root", "data.root", "augment.flip"} & told.keys()


def test_a_data_set_of_three_images_works(tmp_path: Path) -> None:
    data: PreparedData = prepare_phantom(tmp_path, count=3, size=SIZE, seed=0, name="three", progress=False)
    assert len(data.indices("train")) >= 1
    assert len(data.indices("val")) >= 1
    recipe = tiny(
        "student-phantom", tmp_path, tmp_path / "runs", **{"data.name": "three", "trainer.epochs": 1}
    )
    assert (training.train(recipe, progress=False) / "best_student_model.pth").exists()


def test_parameters_that_take_no_part_are_found(root: Path) -> None:
    """DDP would wait for their gradients for ever."""
    for arch, encoder, idle in (("unet-w4", None, False), ("PSPNet", "resnet18", True)):
        net = build_model(arch, encoder).train()
        before = {name: value.clone() for name, value in net.state_dict().items()}
        assert has_idle_parameters(net) is idle
        assert net.training
        assert all(p.grad is None for p in net.parameters())
        assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
