"""The run folder: opened, resumed, refused; the one place that knows its file names.

::

    config.yaml  data.json  metrics.csv  tensorboard/  last.ckpt  best_student_model.pth  card.json  code/
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dermdistill.config import Recipe, differences, flatten, parse_recipe, read_yaml, to_tree
from dermdistill.config.old_keys import removed_settings
from dermdistill.config.settings import is_folder_name
from dermdistill.core.errors import ConfigError, MismatchError, UsageError
from dermdistill.core.files import atomic_path, hash_file, read_csv, read_json, write_yaml
from dermdistill.core.lock import held
from dermdistill.core.user_file import is_user_file

logger = logging.getLogger(__name__)

# What may change between a stop and --resume: where things lie and what they run on, not what is computed.
# The teachers' files may have moved; that their weights are the same is checked by teachers.py.
MAY_CHANGE = (
    *("runs_root", "data.root", "trainer.accelerator", "trainer.checkpoint_steps"),
    *("teacher.run", "teacher.runs", "teacher.onnx", "teacher.transformers", "teacher.maps"),
    *("data.on_device", "trainer.compile", "trainer.cuda_graphs", "trainer.loggers"),
)


@dataclass(frozen=True)
class RunFolder:
    """Paths of one run."""

    path: Path
    role: str

    @property
    def config(self) -> Path:
        """Exactly what was run."""
        return self.path / "config.yaml"

    @property
    def data(self) -> Path:
        """What it is trained on: the card's section ``dataset``, from before the first step."""
        return self.path / "data.json"

    @property
    def checkpoint(self) -> Path:
        """State to resume from."""
        return self.path / "last.ckpt"

    @property
    def metrics(self) -> Path:
        """One row per epoch."""
        return self.path / "metrics.csv"

    @property
    def weights(self) -> Path:
        """The best weights by validation Dice."""
        return self.path / f"best_{self.role}_model.pth"

    @property
    def card(self) -> Path:
        """How to use the weights, and what they scored."""
        return self.path / "card.json"

    @property
    def code(self) -> Path:
        """Copies of the user's own files that were run, by setting (``student.arch.py``): a record, which is
        never run itself."""
        return self.path / "code"

    @property
    def finished(self) -> Path:
        """Present when the last epoch, or early stopping, was reached."""
        return self.path / "finished"

    def epochs_done(self) -> int:
        """Rows in metrics.csv."""
        return len(read_csv(self.metrics)) if self.metrics.exists() else 0


def is_first_process() -> bool:
    """Whether this process may touch the run folder (DDP starts the same command once per device)."""
    return process_rank() == 0


def process_rank() -> int:
    """Rank among all processes, as torchrun, SLURM or Lightning's own launcher say; 0 where none does."""
    for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK"):
        if name in os.environ:
            return int(os.environ[name])
    return 0


@contextlib.contextmanager
def open_run(recipe: Recipe, *, resume: bool, overwrite: bool) -> Iterator[RunFolder]:
    """Hold the folder of a recipe's run, new or to be resumed, with its ``config.yaml`` written.

    A run that failed before anything was saved is begun anew. No other process can open the same run
    meanwhile; the system frees it when this one ends, however it ends.

    Raises:
        UsageError: It exists, and neither --resume nor --overwrite was given; another process trains in it;
            or its name is no folder's.
        MismatchError: --resume with settings that would give another result.
    """
    run = RunFolder(recipe.runs_root / recipe.name, recipe.role)
    if not is_first_process():
        yield run
        return
    if not is_folder_name(recipe.name):  # a recipe is checked, but not its copies
        raise UsageError(
            f"{recipe.name!r} is not a name for a run.",
            "one folder's name of at most 200 bytes, without line breaks: it is made below --runs-root",
            "Choose another --name, and say with --runs-root where it lies.",
        )
    with held(recipe.runs_root / f".{recipe.name}.lock", f"trains in {run.path}"):
        _make_ready(recipe, run, resume=resume, overwrite=overwrite)
        yield run


def _make_ready(recipe: Recipe, run: RunFolder, *, resume: bool, overwrite: bool) -> None:
    if run.path.exists() and any(run.path.iterdir()):
        if not _is_run(run.config):
            raise UsageError(
                f"{run.path} exists and is not a run (it has no config.yaml of one).",
                "a new or empty folder",
                "Choose another --name or --runs-root.",
            )
        saved = any(path.exists() for path in (run.checkpoint, run.metrics, run.weights, run.card))
        if overwrite:
            logger.info("overwriting %s", run.path)
            shutil.rmtree(run.path)
        elif not saved:
            # Nobody asked for anything to be thrown away: only the curves go, which are begun anew.
            logger.info("%s was begun, and nothing saved: it is begun anew", run.path)
            shutil.rmtree(run.path / "tensorboard", ignore_errors=True)
        elif resume:
            check_same(recipe, run)
            _check_same_code(recipe, run)
        else:
            raise UsageError(
                f"The run {run.path} exists ({run.epochs_done()} epochs).",
                "a new run, or word on what to do with this one",
                "Add --resume to go on with it, --overwrite to start anew, or --name for another folder.",
            )
    run.path.mkdir(parents=True, exist_ok=True)
    write_yaml(run.config, to_tree(recipe))
    for setting, file in _user_files(recipe).items():
        with atomic_path(run.code / f"{setting}.py") as temporary:
            shutil.copyfile(file, temporary)


def _user_files(recipe: Recipe) -> dict[str, Path]:
    """The user's own files that a recipe names, by setting; those that are there."""
    named = {key: value for key, value in flatten(to_tree(recipe)) if isinstance(value, str)}
    files = {key: value.rpartition(":")[0] for key, value in named.items() if is_user_file(value)}
    return {key: Path(file) for key, file in files.items() if Path(file).is_file()}


def _check_same_code(recipe: Recipe, run: RunFolder) -> None:
    """Refuse to go on with code of the user's that has changed since.

    Raises:
        MismatchError: A file differs from its copy in the run.
    """
    for setting, file in _user_files(recipe).items():
        copy = run.code / f"{setting}.py"
        if copy.is_file() and (before := hash_file(copy)) != (now := hash_file(file)):
            raise MismatchError(
                f"{file} has changed since {run.path} was begun: SHA-256 {before[:12]}…, now {now[:12]}….",
                f"the same code, so that the result is that of an unbroken run ({copy} is a copy of it)",
                "Put the file back as it was, or use --overwrite or another --name.",
            )


def _is_run(config: Path) -> bool:
    """Whether this file is a run's: only then is its folder ever removed."""
    try:
        tree = read_yaml(config)
    except (ConfigError, OSError):
        return False
    return isinstance(tree, dict) and {"name", "role"} <= tree.keys()


def read_config(folder: Path) -> Recipe:
    """The recipe that a run folder was made by."""
    path = folder / "config.yaml"
    if not path.is_file():
        raise UsageError(
            f"{folder} is not a run folder.",
            "a folder with config.yaml in it",
            "Name a folder that train, distill or study made (below runs, as a rule).",
        )
    return parse_recipe(read_yaml(path), str(path))


def trained_on(recipe: Recipe) -> dict[str, Any]:
    """What the run of a recipe was begun on, as `ModelCard.dataset` has it; empty where there is none yet."""
    run = RunFolder(recipe.runs_root / recipe.name, recipe.role)
    if run.data.is_file():
        about = read_json(run.data)
    else:  # of a version before data.json, if there
        about = read_json(run.card)["dataset"] if run.card.is_file() else {}
    return dict(about)


def check_same(recipe: Recipe, run: RunFolder) -> None:
    """Raise MismatchError where a run was begun with settings that give another result."""
    begun_with = read_config(run.path)
    gone = removed_settings(read_yaml(run.config))
    changed = {name: (value, "gone from this version") for name, value in gone.items()} | {
        k: v for k, v in differences(begun_with, recipe).items() if k not in MAY_CHANGE
    }
    if changed:
        listed = "\n".join(f"  {key}: {old} → {new}" for key, (old, new) in changed.items())
        raise MismatchError(
            f"{run.path} was begun with other settings:\n{listed}",
            "the same settings, so that the result is that of an unbroken run",
            "Leave them as they were, or use --overwrite or another --name.",
        )
