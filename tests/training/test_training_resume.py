"""Trainings that are broken off go on to the same end; trainings in processes of their own."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from dermdistill.artifacts.run_folder import read_config
from dermdistill.config import Recipe
from dermdistill.core.errors import Interrupted, MismatchError, UsageError
from dermdistill.core.files import read_csv
from dermdistill.training import checkpoints
from dermdistill.training import run as training
from dermdistill.training.checkpoints import Resumable
from tinyruns import SIZE, tiny


def weights(folder: Path) -> dict[str, torch.Tensor]:
    state = torch.load(folder / "last.ckpt", map_location="cpu", weights_only=True)["state_dict"]
    return {name: value for name, value in state.items() if value.is_floating_point()}


@pytest.fixture(scope="module")
def unbroken(root: Path, teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three epochs that nobody has stopped."""
    more = {"teacher.run": str(teacher), "trainer.epochs": 3, "kd.boundary": 0.1}
    return training.distill(tiny("phantom", root, tmp_path_factory.mktemp("a"), **more), progress=False)


@pytest.mark.parametrize("stop_at", [2, 5])
def test_a_resumed_run_ends_with_the_same_weights(
    stop_at: int, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = read_config(unbroken).model_copy(update={"runs_root": tmp_path})
    original = Resumable.on_train_batch_start

    def stop(self: Resumable, trainer: Any, *rest: Any) -> None:
        if trainer.global_step == stop_at:
            self.signal = signal.SIGTERM
        original(self, trainer, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Resumable, "on_train_batch_start", stop)
        with pytest.raises(Interrupted, match="--resume"):
            training.distill(recipe, progress=False)
    broken = training.distill(recipe, resume=True, progress=False)
    expected, found = weights(unbroken), weights(broken)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-6, rtol=0, msg=name)
    columns = ("epoch", "step", "train_loss", "val_loss", "val_dice", "lr")
    tables = [[[row[c] for c in columns] for row in read_csv(f / "metrics.csv")] for f in (unbroken, broken)]
    assert max(float(row["seconds"]) for row in read_csv(broken / "metrics.csv")) < 600, (
        "the clock was started"
    )
    assert tables[0] == tables[1]


def test_a_checkpoint_with_averaged_weights_is_refused(unbroken: Path, tmp_path: Path) -> None:
    """Of an earlier version: its optimiser holds what is trained no more."""
    recipe = read_config(unbroken).model_copy(update={"runs_root": tmp_path})
    folder = tmp_path / recipe.name
    shutil.copytree(unbroken, folder)
    (folder / "finished").unlink()
    checkpoint = torch.load(folder / "last.ckpt", weights_only=True)
    checkpoint["state_dict"]["averaged.n_averaged"] = torch.tensor(3)
    torch.save(checkpoint, folder / "last.ckpt")
    with pytest.raises(MismatchError, match=r"(?s)averaged weights.*--overwrite"):
        training.distill(recipe, resume=True, progress=False)


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


def test_a_checkpoint_that_is_slow_to_write_is_written_less_often(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock on which an epoch takes 6 seconds and ``last.ckpt`` takes 2: a tenth of the time is 20."""
    now, written = 0.0, []
    original = Resumable.on_train_batch_start

    def slow(trainer: Any, path: Path) -> None:
        nonlocal now
        written.append(trainer.current_epoch)
        now += 2

    def an_epoch_later(self: Resumable, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        nonlocal now
        now += 6 * (batch_idx == 0)
        original(self, trainer, module, batch, batch_idx)

    monkeypatch.setattr(checkpoints, "save_checkpoint", slow)
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now)
    monkeypatch.setattr(Resumable, "on_train_batch_start", an_epoch_later)
    training.train(tiny("student-phantom", root, tmp_path, **{"trainer.epochs": 8}), progress=False)
    assert written == [1, 4, 7]


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


def _command(recipe: str, root: Path, runs_root: Path, *more: str) -> list[str]:
    return [
        *(sys.executable, "-m", "dermdistill", "train", recipe, "--runs-root", str(runs_root)),
        *("--data.root", str(root), "--data.size", str(SIZE), "--data.batch-size", "4"),
        *("--trainer.accelerator", "cpu", *more),
    ]


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
