"""Train and distil on a few phantoms: what is written, what resumes, what is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dermdistill import objective, runs, teachers, training
from dermdistill.checkpoints import Resumable
from dermdistill.config import Recipe, load_recipe
from dermdistill.data.dataset import PreparedData
from dermdistill.data.prepare import prepare_folder, prepare_phantom
from dermdistill.distillation import FrozenTeacher
from dermdistill.errors import ConfigError, Interrupted, MismatchError, TrainingError, UsageError
from dermdistill.files import read_csv
from dermdistill.models.build import build_model
from dermdistill.models.torch_backend import load_run
from dermdistill.trainer import board_settings, has_idle_parameters
from tinyruns import SIZE, tiny


def weights(folder: Path) -> dict[str, torch.Tensor]:
    state = torch.load(folder / "last.ckpt", map_location="cpu", weights_only=True)["state_dict"]
    return {name: value for name, value in state.items() if value.is_floating_point()}


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


def test_the_teacher_does_not_move(root: Path, teacher: Path, tmp_path: Path) -> None:
    net = load_run(teacher)[0]
    before = {k: v.clone() for k, v in net.state_dict().items()}
    frozen = FrozenTeacher(net)
    own_before = {k: v.clone() for k, v in frozen.state_dict().items()}
    torch.nn.Sequential(frozen).train()
    assert not any(module.training for module in frozen.modules())
    image = torch.rand(2, 3, SIZE, SIZE)
    with torch.no_grad():
        torch.testing.assert_close(frozen(image, False)[0], net(image), rtol=0, atol=1e-4)
    for state, kept in ((net.state_dict(), before), (frozen.state_dict(), own_before)):
        assert state.keys() == kept.keys()
        assert all(torch.equal(value, kept[name]) for name, value in state.items())
    assert not any(p.requires_grad for p in frozen.parameters())


@pytest.mark.parametrize("stop_at", [2, 5])
def test_a_resumed_run_ends_with_the_same_weights(
    stop_at: int, root: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def recipe(where: str) -> Recipe:
        more = {"teacher.run": str(teacher), "trainer.epochs": 3, "trainer.ema": 0.5, "kd.attention": 0.1}
        return tiny("phantom", root, tmp_path / where, **more)

    unbroken = training.distill(recipe("a"), progress=False)
    original = Resumable.on_train_batch_start

    def stop(self: Resumable, trainer: Any, *rest: Any) -> None:
        if trainer.global_step == stop_at:
            self.signal = signal.SIGTERM
        original(self, trainer, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Resumable, "on_train_batch_start", stop)
        with pytest.raises(Interrupted, match="--resume"):
            training.distill(recipe("b"), progress=False)
    broken = training.distill(recipe("b"), resume=True, progress=False)
    expected, found = weights(unbroken), weights(broken)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-6, rtol=0, msg=name)
    columns = ("epoch", "step", "val_loss", "val_dice", "lr")
    tables = [[[row[c] for c in columns] for row in read_csv(f / "metrics.csv")] for f in (unbroken, broken)]
    assert max(float(row["seconds"]) for row in read_csv(broken / "metrics.csv")) < 600, (
        "the clock was started"
    )
    assert tables[0] == tables[1]


def test_plateau_resumes_with_its_decisions(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def recipe(where: str) -> Recipe:
        more = {
            "optim.schedule": "plateau",
            "optim.plateau_patience": 0,
            "optim.lr": 1e-7,
            "student.norm": "group",
            "trainer.epochs": 4,
        }
        return tiny("student-phantom", root, tmp_path / where, **more)

    unbroken = training.train(recipe("a"), progress=False)
    rates = [row["lr"] for row in read_csv(unbroken / "metrics.csv")]
    assert len(set(rates)) > 1, "the rate was never lowered: this test would prove nothing"
    original = Resumable.on_train_batch_start
    seen: list[int] = []

    def stop(self: Resumable, trainer: Any, *rest: Any) -> None:
        if trainer.current_epoch == 2 and not seen:
            seen.append(1)
            self.signal = signal.SIGTERM
        original(self, trainer, *rest)

    monkeypatch.setattr(Resumable, "on_train_batch_start", stop)
    with pytest.raises(Interrupted):
        training.train(recipe("b"), progress=False)
    broken = training.train(recipe("b"), resume=True, progress=False)
    assert [row["lr"] for row in read_csv(broken / "metrics.csv")] == rates


def test_a_nan_loss_names_the_step_the_images_and_the_terms(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = objective.losses.soft_dice_loss
    monkeypatch.setattr(objective.losses, "soft_dice_loss", lambda *a, **k: original(*a, **k) * float("nan"))
    with pytest.raises(TrainingError, match=r"(?s)step 0.*dice_loss nan.*PHANTOM_"):
        training.train(tiny("student-phantom", root, tmp_path), progress=False)


def test_existing_runs_are_neither_lost_nor_mixed(root: Path, tmp_path: Path) -> None:
    recipe = tiny("student-phantom", root, tmp_path, **{"trainer.epochs": 1})
    folder = training.train(recipe, progress=False)
    with pytest.raises(UsageError, match="--resume"):
        training.train(recipe, progress=False)
    assert training.train(recipe, resume=True, progress=False) == folder  # finished: nothing to do
    with pytest.raises(MismatchError, match=r"optim\.lr"):
        training.train(
            tiny("student-phantom", root, tmp_path, **{"trainer.epochs": 1, "optim.lr": 0.5}), resume=True
        )
    (tmp_path / "other" / recipe.name).mkdir(parents=True)
    (tmp_path / "other" / recipe.name / "thesis.docx").touch()
    with pytest.raises(UsageError, match="not a run"):
        training.train(recipe.model_copy(update={"runs_root": tmp_path / "other"}), overwrite=True)


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


def test_early_stopping_and_gradient_steps(root: Path, tmp_path: Path) -> None:
    more = {"optim.lr": 1e-12, "optim.schedule": "plateau", "trainer.epochs": 30, "trainer.early_stop": 2}
    folder = training.train(
        tiny("student-phantom", root, tmp_path, **more, **{"student.norm": "group"}), progress=False
    )
    assert runs.RunFolder(folder, "student").epochs_done() < 30


@pytest.mark.parametrize(
    "more",
    [
        {"optim.name": "sgd", "trainer.precision": "bf16-mixed"},
        {"optim.name": "adamw", "augment.mixup": 0.4, "augment.cutout": 0.5, "loss.focal": 1.0},
        {"kd.kl": 0.0, "kd.channel_wise": 1.0, "kd.boundary": 1.0, "data.size": 64},
        {"data.batch_size": 13, "augment.enabled": False},
    ],
    ids=["sgd-bf16", "mixup-focal", "channel-wise-boundary", "odd-batch"],
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
    recipe = load_recipe("phantom", {"augment.cutout": 0.5, "runs_root": str(tmp_path)})
    told = board_settings(recipe)
    assert (told["augment.cutout"], told["kd.temperature"], told["optim.lr"]) == (0.5, 2.0, 2e-3)
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


def _command(recipe: str, root: Path, runs_root: Path, *more: str) -> list[str]:
    return [
        *(sys.executable, "-m", "dermdistill", "train", recipe, "--runs-root", str(runs_root)),
        *("--data.root", str(root), "--data.size", str(SIZE), "--data.batch-size", "4"),
        *("--trainer.accelerator", "cpu", *more),
    ]


@pytest.mark.slow
def test_two_processes_give_the_scores_of_one(root: Path, tmp_path: Path) -> None:
    # Group norm and no augmentation: what is left must agree, whoever computed which image.
    more = [
        "--student.norm",
        "group",
        "--augment.no-enabled",
        "--trainer.epochs",
        "2",
        "--data.train-limit",
        "12",
    ]
    environment = {k: v for k, v in os.environ.items() if k not in ("LOCAL_RANK", "RANK", "WORLD_SIZE")}
    tables = []
    for where, devices in (("one", "1"), ("two", "2")):
        command = _command("student-phantom", root, tmp_path / where, *more, "--trainer.devices", devices)
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr
        path = tmp_path / where / "phantom-student-alone" / "metrics.csv"
        tables.append(read_csv(path))
    for one, two in zip(*tables, strict=True):
        for column in ("step", "val_loss", "val_dice", "val_jaccard"):
            assert float(two[column]) == pytest.approx(float(one[column]), abs=2e-4), column


@pytest.mark.slow
def test_sigterm_saves_and_resume_goes_on(root: Path, tmp_path: Path) -> None:
    command = _command("student-phantom", root, tmp_path, "--trainer.epochs", "400")
    folder = tmp_path / "phantom-student-alone"
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        killer = threading.Timer(200, process.kill)
        killer.start()
        while process.poll() is None and not (folder / "last.ckpt").exists():
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        told = process.stderr.read()
        killer.cancel()
    assert process.returncode == 130, told
    assert "--resume" in told
    assert "Traceback" not in told
    step = torch.load(folder / "last.ckpt", map_location="cpu", weights_only=True)["global_step"]
    assert step > 0
