"""Where curves, pictures and results are logged: Lightning's own loggers, by name.

TensorBoard and CSV write into the run folder; MLflow to ``MLFLOW_TRACKING_URI``, or to one database for all
runs, ``RUNS_ROOT/mlflow.db``; W&B to where its login and variables say (``WANDB_MODE=offline``: the disk).
"""

from __future__ import annotations

import importlib.util
import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dermdistill.artifacts.run_folder import RunFolder, is_first_process
from dermdistill.core.errors import MissingExtraError, TrainingError
from dermdistill.core.files import read_json, write_json

if TYPE_CHECKING:
    import numpy as np
    from lightning.pytorch.loggers import Logger
    from numpy.typing import NDArray

PROJECT = "dermdistill"
"""MLflow's experiment and W&B's project."""
_PACKAGES = {"mlflow": ("mlflow", "sqlalchemy"), "wandb": ("wandb",)}


def need_installed(loggers: str) -> None:
    """Check that the packages of these loggers are there, before any work.

    Args:
        loggers: Names with commas, as ``trainer.loggers``.

    Raises:
        MissingExtraError: One is not installed.
    """
    for name in loggers.split(","):
        missing = [one for one in _PACKAGES.get(name, ()) if importlib.util.find_spec(one) is None]
        if missing:
            raise MissingExtraError(
                f"--trainer.loggers {name} needs {missing[0]}, which is not installed.",
                f"the extra {name} of dermdistill",
                f"pip install 'dermdistill[{name}]'",
            )


def make_loggers(loggers: str, run: RunFolder) -> list[Logger]:
    """Lightning's loggers of one run; one that is resumed goes on in the same MLflow and W&B run.

    Args:
        loggers: Names with commas, as ``trainer.loggers``.
        run: The folder; its name is the run's name in every tracker.

    Raises:
        TrainingError: A tracker refuses: no login, no server.
    """
    from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

    made: list[Logger] = []
    for name in loggers.split(","):
        match name:
            case "tensorboard":
                made.append(TensorBoardLogger(run.path, name="", version="tensorboard"))
            case "csv":
                made.append(CSVLogger(run.path, name="csv"))  # a resumed run gets a file of its own
            case _:
                made.append(_begin(name, run))
    return made


def _begin(name: str, run: RunFolder) -> Logger:
    """MLflow's or W&B's logger, its run begun now: what is wrong with an account is said before training."""
    path = run.path / "trackers.json"
    ids: dict[str, str] = read_json(path) if path.exists() else {}
    try:
        logger = _mlflow(run, ids.get(name)) if name == "mlflow" else _wandb(run, ids.get(name))
        if is_first_process():
            _ = logger.experiment  # type: ignore[attr-defined]
            write_json(path, {**ids, name: logger.version})
    except Exception as error:  # each package has its own tree of errors, and the network's beside it
        raise TrainingError(
            f"{name} cannot be started: {str(error).strip().splitlines()[0]}",
            "a server or an account that takes the run",
            "Set MLFLOW_TRACKING_URI, or leave it out for a local database."
            if name == "mlflow"
            else "Log in with wandb login, or set WANDB_MODE=offline to write the run to disk alone.",
        ) from error
    return logger


def _mlflow(run: RunFolder, run_id: str | None) -> Logger:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when mlflow is imported
    from lightning.pytorch.loggers import MLFlowLogger

    root = run.path.parent.resolve()
    given = os.environ.get("MLFLOW_TRACKING_URI")
    return MLFlowLogger(
        PROJECT,
        run_name=run.path.name,
        # MLflow 3 keeps its file store as it is and asks for a database.
        tracking_uri=given or f"sqlite:///{root / 'mlflow.db'}",
        artifact_location=None if given else (root / "mlartifacts").as_uri(),
        run_id=run_id,
    )


def _wandb(run: RunFolder, run_id: str | None) -> Logger:
    from lightning.pytorch.loggers import WandbLogger

    return WandbLogger(
        project=PROJECT, name=run.path.name, save_dir=run.path, id=run_id or uuid.uuid4().hex[:12],
        resume="allow",
    )  # fmt: skip


def log_picture(logger: Any, picture: NDArray[np.uint8], step: int) -> None:
    """Show the validation pictures where a logger takes pictures.

    Args:
        logger: One of Lightning's.
        picture: RGB, uint8 [h, w, 3].
        step: Optimiser steps so far.
    """
    from lightning.pytorch.loggers import MLFlowLogger, TensorBoardLogger, WandbLogger

    match logger:
        case TensorBoardLogger():
            logger.experiment.add_image("validation", picture, step, dataformats="HWC")
        case MLFlowLogger():
            logger.experiment.log_image(str(logger.run_id), picture, key="validation", step=step)
        case WandbLogger():
            logger.log_image("validation", [picture], step=step)


def log_files(logger: Any, name: str, files: Sequence[Path]) -> None:
    """Hand a run's files to MLflow or W&B as its artefacts; the others have them in the run folder.

    Args:
        logger: One of Lightning's.
        name: Of the run.
        files: Weights, card, settings.
    """
    from lightning.pytorch.loggers import MLFlowLogger, WandbLogger

    match logger:
        case MLFlowLogger():
            for path in files:
                logger.experiment.log_artifact(str(logger.run_id), str(path))
        case WandbLogger():
            import wandb

            artifact = wandb.Artifact(name, type="model")
            for path in files:
                artifact.add_file(str(path))
            logger.experiment.log_artifact(artifact)


def finish(loggers: Sequence[Any]) -> None:
    """End W&B's run, which else would take the curves of the next one in this process."""
    from lightning.pytorch.loggers import WandbLogger

    for logger in loggers:
        if isinstance(logger, WandbLogger) and is_first_process():
            logger.experiment.finish()
