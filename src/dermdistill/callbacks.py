"""What happens around the steps: one line per epoch, the best weights, a state to resume from, pictures.

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
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, TQDMProgressBar
from numpy.typing import NDArray
from tqdm import tqdm

from dermdistill import figures
from dermdistill.data.loader import EpochBatches, PackDataset
from dermdistill.errors import Interrupted
from dermdistill.files import atomic_path, write_csv
from dermdistill.tasks import DistillationTask, SegmentationTask

logger = logging.getLogger(__name__)

COLUMNS = [
    *("epoch", "step", "train_loss", "val_loss", "val_dice", "val_jaccard", "val_agreement"),
    *("val_teacher_dice", "lr", "images_per_second", "seconds"),
]


class QuietBar(TQDMProgressBar):
    """A bar for the running epoch only; it leaves no trace beside the epoch's line."""

    def init_train_tqdm(self) -> Any:
        """As Lightning's, but gone when done."""
        bar = super().init_train_tqdm()
        bar.leave = False
        return bar

    def init_validation_tqdm(self) -> Any:
        """None: validation is short."""
        return tqdm(disable=True)

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        """No numbers on the bar: the epoch's line has them."""
        return {}


class EpochLog(Callback):
    """One tidy line per epoch to the log, and a row in ``metrics.csv``; checkpoints hold the rows.

    Args:
        path: Of ``metrics.csv``.
        epochs: How many there will be.
        settings: The recipe as plain values, for TensorBoard's table of hyper-parameters.
    """

    def __init__(self, path: Path, epochs: int, settings: dict[str, Any]) -> None:
        self.path, self.epochs, self.settings = path, epochs, settings
        self.rows: list[dict[str, Any]] = []
        self._images, self._started = 0, 0.0

    def state_dict(self) -> dict[str, Any]:
        """The rows so far."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on after these rows."""
        self.rows = list(state_dict["rows"])

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self._images, self._started = 0, time.perf_counter()

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count images over all processes."""
        self._images += len(batch["row"]) * trainer.world_size

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop the clock of training: validation is not counted as speed."""
        self._seconds = time.perf_counter() - self._started

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the line and the row."""
        found = {name: value.item() for name, value in trainer.callback_metrics.items()}
        row: dict[str, Any] = {
            "epoch": trainer.current_epoch + 1,
            "step": trainer.global_step,
            "train_loss": found.get("train/loss"),
            **{c: found.get(c.replace("_", "/", 1)) for c in COLUMNS if c.startswith("val_")},
            "lr": found["lr"],
            "images_per_second": self._images / max(self._seconds, 1e-9),
            "seconds": time.perf_counter() - self._started,
        }
        self.rows.append(row)
        if trainer.is_global_zero:
            write_csv(self.path, self.rows, COLUMNS)
            logger.info(self._line(row))
            self._tell_board(trainer, row)

    def _tell_board(self, trainer: L.Trainer, row: dict[str, Any]) -> None:
        board: Any = trainer.logger
        step = trainer.global_step
        board.log_metrics({"images_per_second": row["images_per_second"]}, step)
        if len(self.rows) == 1:
            # The table of hyper-parameters shows the latest values of these curves. It is opened with their
            # first true values: Lightning's usual zeros would be points that nobody measured.
            scores = {f"val/{name}": row[f"val_{name}"] for name in ("dice", "jaccard", "loss")}
            board.log_hyperparams(self.settings, scores, step)

    def _line(self, row: dict[str, Any]) -> str:
        parts = [
            f"epoch {row['epoch']:>{len(str(self.epochs))}}/{self.epochs}",
            f"loss {row['train_loss']:.4f}",
            f"val loss {row['val_loss']:.4f}",
            f"val Dice {row['val_dice']:.4f}",
            f"Jaccard {row['val_jaccard']:.4f}",
        ]
        if row["val_agreement"] is not None:
            parts.append(f"agreement {row['val_agreement']:.4f}")
            if row["epoch"] == 1:
                parts.append(f"teacher {row['val_teacher_dice']:.4f}")
        parts += [f"lr {row['lr']:.1e}", f"{row['images_per_second']:.0f} images/s"]
        return " · ".join(parts)


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
                with atomic_path(self.path) as temporary:
                    torch.save(pl_module.deployed.net.state_dict(), temporary)
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

    SIGINT and SIGTERM are obeyed before the next step. A second one ends at once.
    """

    def __init__(self, path: Path, sampler: EpochBatches, every: int | None = None) -> None:
        self.path, self.sampler, self.every = path, sampler, every
        self.signal: int | None = None
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
        if stop or (batch_idx == 0 and step) or (self.every and step and step % self.every == 0):
            save_checkpoint(trainer, self.path)
        if stop:
            raise Interrupted(
                f"Stopped before step {step} (epoch {trainer.current_epoch + 1}). Everything is saved.",
                mend="The same command with --resume goes on from here.",
            )

    def _any_process_stops(self, trainer: L.Trainer) -> bool:
        if trainer.world_size == 1:
            return self.signal is not None
        flag = torch.tensor(float(self.signal is not None), device=trainer.strategy.root_device)
        torch.distributed.all_reduce(flag)
        return bool(flag > 0)


def save_checkpoint(trainer: L.Trainer, path: Path) -> None:
    """Write a Lightning checkpoint through a temporary name (every process takes part, one writes)."""
    temporary = path.with_name(f".{path.name}.part")
    trainer.save_checkpoint(temporary)
    if trainer.is_global_zero:
        temporary.replace(path)


class ValidationPanel(Callback):
    """The same few validation pictures after every epoch, with outlines, in TensorBoard."""

    def __init__(self, dataset: PackDataset, count: int = 8) -> None:
        positions = np.linspace(0, len(dataset) - 1, min(count, len(dataset))).round().astype(int)
        self.batch = dataset.__getitems__(positions.tolist())

    @torch.no_grad()
    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw and log."""
        assert isinstance(pl_module, SegmentationTask)
        if not trainer.is_global_zero:
            return
        image = self.batch["image"].to(pl_module.device)
        student = _masks(pl_module.deployed(image.float() / 255))
        teacher = None
        if isinstance(pl_module, DistillationTask):
            teacher = _masks(pl_module.teacher(image.float() / 255, False)[0])
        picture = figures.panel(
            self.batch["image"].permute(0, 2, 3, 1).numpy(),
            self.batch["mask"][:, 0].numpy(),
            teacher,
            student,
        )
        board: Any = trainer.logger.experiment  # type: ignore[attr-defined]
        board.add_image("validation", picture, trainer.global_step, dataformats="HWC")


def _masks(logits: torch.Tensor) -> NDArray[np.uint8]:
    return (logits[:, 0] > 0).to(torch.uint8).cpu().numpy()
