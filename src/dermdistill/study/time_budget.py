"""A wall-clock budget: every student arm trains as long as the slowest one, with its schedule over that time.

Each arm's epoch is measured once, before any student is trained, one arm after the other on one machine; the
epochs that fit into the budget then become the arm's ``trainer.epochs``, so that a cosine ends where training
ends. The measured times are kept (``timing.json``): a study that is resumed keeps its epochs.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

from dermdistill.core.errors import UsageError, WeightsError
from dermdistill.core.files import read_csv, read_json, write_json
from dermdistill.study.settings import Cell, StudySettings, cell_recipe, folds_of, with_values

logger = logging.getLogger(__name__)

EPOCHS = 2
"""Measured per arm; the last one counts, since the first one also warms up."""


def scaled_epochs(settings: StudySettings, *, sliced: bool) -> dict[str, int]:
    """Epochs by arm that fill the same training time; measured first, where that was not done yet.

    The budget is the slowest arm's own epochs at its measured speed; every other arm gets more epochs.

    Args:
        settings: The study.
        sliced: Whether this machine runs only a share: then the times must be there, for all alike.

    Raises:
        UsageError: Sliced, and nothing was measured yet.
    """
    path = settings.folder / "timing.json"
    times: dict[str, float] = read_json(path)["seconds_per_epoch"] if path.exists() else {}
    absent = [arm for arm in settings.arms if arm not in times]
    if absent and sliced:
        raise UsageError(
            f"No epoch of {', '.join(absent)} was measured yet.",
            f"{path}, the same for all slices: speeds of several machines cannot be compared",
            "Run it with --only and the baseline on one machine first, and give its folder to every machine.",
        )
    for arm in absent:
        try:
            times[arm] = _measure(settings, arm)
        except WeightsError as error:  # its cells will say so
            logger.warning("%s cannot be measured: %s", arm, error)
            continue
        logger.info("%s: %.2f s per epoch", arm, times[arm])
        write_json(path, {"seconds_per_epoch": times})
    epochs = {
        arm: cell_recipe(settings, _first(settings, arm)).trainer.epochs
        for arm in settings.arms
        if arm in times
    }
    return share_out(times, epochs)


def share_out(seconds_per_epoch: dict[str, float], epochs: dict[str, int]) -> dict[str, int]:
    """Epochs by arm that come closest to the longest arm's time, at least 1 each."""
    budget = max(seconds_per_epoch[arm] * count for arm, count in epochs.items())
    return {arm: max(1, round(budget / seconds_per_epoch[arm])) for arm in epochs}


def _measure(settings: StudySettings, arm: str) -> float:
    """Seconds of one epoch with its validation."""
    from dermdistill.training import run as training

    place = settings.folder / "timing"
    values: dict[str, Any] = {"trainer.epochs": EPOCHS, "name": arm, "runs_root": str(place)}
    recipe = with_values(cell_recipe(settings, _first(settings, arm)), values, f"timing of {arm}")
    do = training.distill if settings.arms[arm].verb == "distill" else training.train
    run = do(recipe, overwrite=True, progress=False)
    seconds = float(read_csv(run / "metrics.csv")[-1]["seconds"])
    shutil.rmtree(Path(run))
    return seconds


def _first(settings: StudySettings, arm: str) -> Cell:
    return Cell(arm, settings.seeds[0], folds_of(settings)[0])
