"""What is kept around the steps: the best weights, and a state to resume from.

``last.ckpt`` is written at one place only, before a step: there, Lightning's counters, the optimiser, the
schedule and the sampler all agree, so that going on is exact.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.callbacks import Callback

from dermdistill.core.errors import Interrupted, WeightsError
from dermdistill.core.files import atomic_path, disk_error, is_refused_write
from dermdistill.training.feed.loader import EpochBatches
from dermdistill.training.segmentation_task import SegmentationTask

logger = logging.getLogger(__name__)

_KEYS = ("global_step", "state_dict", "optimizer_states", "lr_schedulers", "loops", "callbacks", "schedule")


class BestWeights(Callback):
    """Keep the weights of the epoch with the highest validation Dice, as a plain state_dict.

    Args:
        path: Where they go (``best_student_model.pth``).
        on_better: Called with (task, epoch, scores) after each improvement: writes the card.
        patience: Epochs without improvement after which training ends; None: never.
    """

    def __init__(
        self,
        path: Path,
        on_better: Callable[[SegmentationTask, int, dict[str, float]], None],
        patience: int | None = None,
    ) -> None:
        self.path, self.on_better, self.patience = path, on_better, patience
        self.best, self.best_epoch = -1.0, -1

    def state_dict(self) -> dict[str, Any]:
        """The best so far."""
        return {"best": self.best, "best_epoch": self.best_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the best so far."""
        self.best, self.best_epoch = state_dict["best"], state_dict["best_epoch"]

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save where it is better; ask to stop where patience has run out."""
        assert isinstance(pl_module, SegmentationTask)
        dice, epoch = trainer.callback_metrics["val/dice"].item(), trainer.current_epoch
        if dice > self.best:
            self.best, self.best_epoch = dice, epoch
            if trainer.is_global_zero:
                # Into an open file: torch writes a path's name into the archive, and the temporary one is
                # never the same. So the same training gives the same bytes, and the same SHA-256.
                with atomic_path(self.path) as temporary, temporary.open("wb") as stream:
                    torch.save(pl_module.net.net.state_dict(), stream)
                scores = {
                    n.replace("val/", ""): v.item()
                    for n, v in trainer.callback_metrics.items()
                    if "val/" in n
                }
                self.on_better(pl_module, epoch + 1, scores)
        elif self.patience is not None and epoch - self.best_epoch >= self.patience:
            trainer.should_stop = True
            logger.info("no better validation Dice for %d epochs: stopping early", self.patience)


class Resumable(Callback):
    """Write ``last.ckpt`` after each epoch, every N steps if asked, and when told to stop.

    One that is slow to write, as a ResNet-101's of 550 MB, is not written after epochs that are so short that
    writing would take more than a tenth of the time; such epochs are soon repeated. (Several processes always
    write: their clocks differ.)

    SIGINT and SIGTERM are obeyed before the next step. A second one ends at once.
    """

    slow = 0.25
    """Seconds to write from which that counts."""

    def __init__(self, path: Path, sampler: EpochBatches, every: int | None = None) -> None:
        self.path, self.sampler, self.every = path, sampler, every
        self.signal: int | None = None
        self._wrote, self._took = -float("inf"), 0.0
        self._previous: dict[int, Any] = {}

    def _on_signal(self, number: int, frame: Any) -> None:
        self.signal = number
        signal.signal(number, self._previous[number])
        logger.warning("stopping before the next step; once more ends at once")

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Listen to signals (the main thread alone can)."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.getsignal(number)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """After Lightning has set its own handlers, which would end in the middle of a step."""
        for number in self._previous:
            signal.signal(number, self._on_signal)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Give the signals back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Save where it is time; stop where it was asked for (all processes together)."""
        stop = self._any_process_stops(trainer)
        step = trainer.global_step
        after_epoch = batch_idx == 0 and step > 0 and (trainer.world_size > 1 or self._has_time())
        if stop or after_epoch or (self.every and step and step % self.every == 0):
            begun = time.monotonic()
            save_checkpoint(trainer, self.path)
            self._wrote = time.monotonic()
            self._took = self._wrote - begun
        if stop:
            raise Interrupted(
                f"Stopped before step {step} (epoch {trainer.current_epoch + 1}). Everything is saved.",
                fix="The same command with --resume goes on from here.",
            )

    def _has_time(self) -> bool:
        return self._took < self.slow or time.monotonic() - self._wrote >= 9 * self._took

    def _any_process_stops(self, trainer: L.Trainer) -> bool:
        if trainer.world_size == 1:
            return self.signal is not None
        flag = torch.tensor(float(self.signal is not None), device=trainer.strategy.root_device)
        torch.distributed.all_reduce(flag)
        return bool(flag > 0)


def read_step(path: Path, task: SegmentationTask) -> int:
    """Return the step that a checkpoint was written before, once it is known to be whole and of this task.

    Raises:
        WeightsError: It is broken, is no state of a training, or is of another network.
    """
    expected, fix = "the state that training saved", "Put a copy of it back, or begin anew with --overwrite."
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise WeightsError(f"{path} cannot be read: {type(error).__name__}.", expected, fix) from error
    keys = state.keys() if isinstance(state, dict) else ()
    if missing := [key for key in _KEYS if key not in keys]:
        raise WeightsError(f"{path} is no state of a training: it has no {missing[0]}.", expected, fix)
    saved = state["state_dict"]
    for name, value in task.net.state_dict(prefix="net.").items():  # a teacher is never saved
        if name not in saved or saved[name].shape != value.shape:
            raise WeightsError(f"{path} is of another network: {name} does not fit.", expected, fix)
    return int(state["global_step"])


def save_checkpoint(trainer: L.Trainer, path: Path) -> None:
    """Write a Lightning checkpoint through a temporary name (every process takes part, one writes).

    Raises:
        DataError: The disk is full, or the folder cannot be written; the checkpoint of before stays.
    """
    temporary = path.with_name(f".{path.name}.part")
    try:
        trainer.save_checkpoint(temporary)
        if trainer.is_global_zero:
            temporary.replace(path)
    except (OSError, RuntimeError) as error:
        if not is_refused_write(error):
            raise
        temporary.unlink(missing_ok=True)
        raise disk_error(error, path) from error
