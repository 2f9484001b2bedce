"""Lightning's loggers by name: curves, pictures, settings, files; a resumed run goes on in its own."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dermdistill import cli
from dermdistill.core.errors import ConfigError, Interrupted, MissingExtraError, TrainingError
from dermdistill.core.files import hash_file, read_csv
from dermdistill.training import run as training
from dermdistill.training.checkpoints import Resumable
from tinyruns import tiny

CURVES = {"val/loss", "val/dice", "val/jaccard", "train/loss", "lr", "images_per_second"}


def _stop_in_second_epoch(patch: pytest.MonkeyPatch) -> None:
    original = Resumable.on_train_batch_start

    def stop(self: Resumable, trainer: Any, *rest: Any) -> None:
        if trainer.current_epoch == 1:
            self.signal = signal.SIGTERM
        original(self, trainer, *rest)

    patch.setattr(Resumable, "on_train_batch_start", stop)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_mlflow_and_csv_hold_a_run_that_was_resumed(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    recipe = tiny(
        "student-phantom", root, tmp_path / "runs", **{"trainer.loggers": "tensorboard, mlflow,csv"}
    )
    assert recipe.trainer.loggers == "tensorboard,mlflow,csv"
    with monkeypatch.context() as patch:
        _stop_in_second_epoch(patch)
        with pytest.raises(Interrupted):
            training.train(recipe, progress=False)
    folder = training.train(recipe, resume=True, progress=False)
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{tmp_path}/runs/mlflow.db")
    (experiment,) = client.search_experiments(filter_string="name = 'dermdistill'")
    (run,) = client.search_runs([experiment.experiment_id])  # one, not one before the stop and one after it
    assert run.info.run_name == folder.name
    assert run.info.status == "FINISHED"
    assert run.data.params["optim.lr"] == str(recipe.optim.lr)
    rows = read_csv(folder / "metrics.csv")
    assert run.data.metrics.keys() >= CURVES
    for curve, column in (("val/dice", "val_dice"), ("val/loss", "val_loss")):
        points = client.get_metric_history(run.info.run_id, curve)
        assert [(str(p.step), pytest.approx(p.value, abs=1e-6)) for p in points] == [
            (row["step"], float(row[column])) for row in rows
        ]
    files = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert files == {"best_student_model.pth", "card.json", "config.yaml", "images"}
    copy = tmp_path / "runs" / "mlartifacts" / run.info.run_id / "artifacts" / "card.json"
    assert copy.read_bytes() == (folder / "card.json").read_bytes()
    assert len(client.list_artifacts(run.info.run_id, "images")) >= 2  # of each epoch
    parts = [read_csv(folder / "csv" / f"version_{n}" / "metrics.csv") for n in (0, 1)]
    dice = [row["val/dice"] for part in parts for row in part if row["val/dice"]]
    assert [float(d) for d in dice] == pytest.approx([float(row["val_dice"]) for row in rows], abs=1e-6)
    assert list((folder / "tensorboard").glob("events*"))


@pytest.mark.slow
def test_wandb_offline_keeps_the_run_on_disk(root: Path, tmp_path: Path) -> None:
    """In a process of its own: W&B starts a service, and its home is the user's."""
    pytest.importorskip("wandb", reason="the extra wandb is not installed")
    recipe = tiny("student-phantom", root, tmp_path, **{"trainer.epochs": 1, "trainer.loggers": "wandb"})
    script = (
        "import json, sys\n"
        "from dermdistill.config import parse_recipe\n"
        "from dermdistill.training.run import train\n"
        "print(train(parse_recipe(json.loads(sys.argv[1]), 'test'), progress=False))\n"
    )
    home = {"HOME": str(tmp_path / "home"), "WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(recipe.model_dump(mode="json"))],
        env={**os.environ, **home}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.splitlines()[-1])
    (kept,) = folder.glob("wandb/offline-run-*/*.wandb")
    text = kept.read_bytes()
    assert b"val/dice" in text
    assert b"images_per_second" in text
    assert hash_file(folder / "card.json")
    for name in ("best_student_model.pth", "card.json", "config.yaml"):
        assert name.encode() in text, name
    assert list(folder.glob("wandb/offline-run-*/files/media/images/validation*.png"))
    assert json.loads((folder / "trackers.json").read_text())["wandb"] in kept.name


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_missing_package_is_told_before_any_work(
    name: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda one, *rest: None if one == name else original(one, *rest)
    )
    monkeypatch.setattr(training, "open_labelled", None)  # would be called to work
    recipe = tiny("student-phantom", root, tmp_path, **{"trainer.loggers": f"tensorboard,{name}"})
    with pytest.raises(MissingExtraError, match=rf"pip install 'dermdistill\[{name}\]'"):
        training.train(recipe, progress=False)
    assert not list(tmp_path.iterdir())


def test_an_account_or_server_that_refuses_is_one_message(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nowhere://server")
    recipe = tiny("student-phantom", root, tmp_path, **{"trainer.loggers": "mlflow"})
    with pytest.raises(TrainingError, match="mlflow cannot be started"):
        training.train(recipe, progress=False)


def test_unknown_loggers_are_refused(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in ("tensorbord", "csv,csv", ""):
        with pytest.raises(ConfigError, match="tensorboard, csv, mlflow, wandb"):
            tiny("student-phantom", root, tmp_path, **{"trainer.loggers": wrong})
    with pytest.raises(SystemExit):
        cli.main(["train", "student-phantom", "--trainer.loggers", "comet"])
    assert "tensorboard, csv, mlflow, wandb" in capsys.readouterr().err
