"""What is shown around the steps: a bar, one line per epoch, a table, pictures."""

from __future__ import annotations

import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, TQDMProgressBar
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from numpy.typing import NDArray
from tqdm import tqdm

from dermdistill.artifacts.run_folder import RunFolder
from dermdistill.core.files import write_csv
from dermdistill.training.distillation_task import DistillationTask
from dermdistill.training.feed.loader import PackDataset
from dermdistill.training.segmentation_task import SegmentationTask
from dermdistill.training.trackers import log_files, log_picture
from dermdistill.visualization import panels

logger = logging.getLogger(__name__)

COLUMNS = [
    *("epoch", "step", "train_loss", "val_loss", "val_dice", "val_jaccard", "val_agreement"),
    *("val_teacher_dice", "lr", "images_per_second", "seconds"),
]
STYLED = ["val_dice_told", "val_dice_untold"]
"""Columns that a network with styles has after these."""


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

    def on_train_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Begin with a bar that knows its length: an epoch resumed in its middle is not started again."""
        super().on_train_start(trainer, *_)
        self.on_train_epoch_start(trainer)

    def on_train_epoch_start(self, trainer: L.Trainer, *_: Any) -> None:
        """As Lightning's, but epochs are counted from 1, as in the lines."""
        super().on_train_epoch_start(trainer, *_)
        self.train_progress_bar.set_description(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}")

    def on_exception(self, *_: Any) -> None:
        """Clear the line for what is said next."""
        self.train_progress_bar.close()

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        """No numbers on the bar: the epoch's line has them."""
        return {}


class EpochLog(Callback):
    """One tidy line per epoch to the log, and a row in ``metrics.csv``; checkpoints hold the rows.

    Args:
        path: Of ``metrics.csv``.
        epochs: How many there will be.
        settings: The recipe as plain values, for the loggers' tables of hyper-parameters.
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

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock here too: an epoch that is resumed in its middle is not started again."""
        self.on_train_epoch_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self._images, self._started = 0, time.perf_counter()

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count images over all processes."""
        self._images += len(batch) * trainer.world_size

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop the clock of training: validation is not counted as speed."""
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize(pl_module.device)  # what was handed to the GPU is not yet done
        self._seconds = time.perf_counter() - self._started

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the line and the row."""
        metrics = {name: value.item() for name, value in trainer.callback_metrics.items()}
        columns = [*COLUMNS, *STYLED] if "val/dice_told" in metrics else COLUMNS
        row: dict[str, Any] = {
            "epoch": trainer.current_epoch + 1,
            "step": trainer.global_step,
            "train_loss": metrics.get("train/loss"),
            **{c: metrics.get(c.replace("_", "/", 1)) for c in columns if c.startswith("val_")},
            "lr": metrics["lr"],
            "images_per_second": self._images / max(self._seconds, 1e-9),
            "seconds": time.perf_counter() - self._started,
        }
        self.rows.append(row)
        if trainer.is_global_zero:
            write_csv(self.path, self.rows, columns)
            logger.info(self._line(row))
            self._log_to_loggers(trainer, row)

    def _log_to_loggers(self, trainer: L.Trainer, row: dict[str, Any]) -> None:
        step = trainer.global_step
        scores = {f"val/{name}": row[f"val_{name}"] for name in ("dice", "jaccard", "loss")}
        for board in trainer.loggers:
            board.log_metrics({"images_per_second": row["images_per_second"]}, step)
            if len(self.rows) > 1:
                continue
            if isinstance(board, TensorBoardLogger):
                # Its table of hyper-parameters shows the latest values of these curves. It is opened with
                # their first true values: Lightning's usual zeros would be points that nobody measured.
                board.log_hyperparams(self.settings, scores, step)
            else:
                board.log_hyperparams(self.settings)

    def _line(self, row: dict[str, Any]) -> str:
        parts = [
            f"epoch {row['epoch']:>{len(str(self.epochs))}}/{self.epochs}",
            f"loss {row['train_loss']:.4f}",
            f"val loss {row['val_loss']:.4f}",
            f"val Dice {row['val_dice']:.4f}",
            f"Jaccard {row['val_jaccard']:.4f}",
        ]
        if "val_dice_told" in row:
            parts.append(f"told {row['val_dice_told']:.4f}, untold {row['val_dice_untold']:.4f}")
        if row["val_agreement"] is not None:
            parts.append(f"agreement {row['val_agreement']:.4f}")
            if row["epoch"] == 1:
                parts.append(f"teacher {row['val_teacher_dice']:.4f}")
        parts += [f"lr {row['lr']:.1e}", f"{row['images_per_second']:.0f} images/s"]
        return " · ".join(parts)


class ValidationPanel(Callback):
    """The same few validation pictures after every epoch, with outlines, in each logger that shows pictures.

    They are drawn in a thread of their own while training goes on: an epoch on a GPU can be as short as that.
    """

    def __init__(self, dataset: PackDataset, count: int = 8) -> None:
        positions = np.linspace(0, len(dataset) - 1, min(count, len(dataset))).round().astype(int)
        self.batch = dataset.__getitems__(positions.tolist())
        self._drawing: Future[None] | None = None

    @torch.no_grad()
    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw and log."""
        assert isinstance(pl_module, SegmentationTask)
        if not trainer.is_global_zero:
            return
        batch = self.batch.to(pl_module.device).as_float()
        student = _masks(pl_module.net(batch.image))
        teacher = None
        if isinstance(pl_module, DistillationTask):
            teacher = _masks(pl_module.teach(batch))
        self._wait()
        pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="panel")
        self._drawing = pool.submit(self._draw, trainer.loggers, teacher, student, trainer.global_step)
        pool.shutdown(wait=False)

    def _draw(
        self,
        loggers: list[Logger],
        teacher: NDArray[np.uint8] | None,
        student: NDArray[np.uint8],
        step: int,
    ) -> None:
        images, truth = self.batch.image.permute(0, 2, 3, 1).numpy(), self.batch.mask[:, 0].numpy()
        picture = panels.panel(images, truth, teacher, student)
        for board in loggers:
            log_picture(board, picture, step)

    def _wait(self) -> None:
        """Until the last pictures are drawn; what went wrong there is raised here."""
        if self._drawing is not None:
            drawing, self._drawing = self._drawing, None
            drawing.result()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Wait for the last pictures."""
        self._wait()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Wait where training is stopped, too."""
        self._wait()


class FinalFiles(Callback):
    """Hand the weights, the card and the settings to the trackers when training has ended."""

    def __init__(self, run: RunFolder) -> None:
        self.run = run

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Once, after the last epoch."""
        if trainer.is_global_zero:
            for board in trainer.loggers:
                log_files(board, self.run.path.name, [self.run.weights, self.run.card, self.run.config])


def _masks(logits: torch.Tensor) -> NDArray[np.uint8]:
    return (logits[:, 0] > 0).to(torch.uint8).cpu().numpy()
