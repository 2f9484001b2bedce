"""What runs a fit: Lightning's trainer with our callbacks, for one device or many, at the right precision."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.strategies import DDPStrategy

from dermdistill.artifacts.card import ModelCard
from dermdistill.artifacts.run_folder import RunFolder
from dermdistill.config import Recipe, differences, flatten, to_tree
from dermdistill.config.settings import AugmentSettings
from dermdistill.core.files import disk_error, is_refused_write
from dermdistill.models.lesion_net import LesionNet
from dermdistill.training.callbacks import EpochLog, FinalFiles, QuietBar, ValidationPanel
from dermdistill.training.checkpoints import BestWeights, Resumable
from dermdistill.training.feed.loader import EpochBatches, PackDataset
from dermdistill.training.segmentation_task import SegmentationTask
from dermdistill.training.trackers import make_loggers


def make_trainer(
    recipe: Recipe,
    run: RunFolder,
    card: ModelCard,
    net: LesionNet,
    sampler: EpochBatches,
    val_set: PackDataset,
    progress: bool,
) -> L.Trainer:
    """The trainer of one run.

    Args:
        recipe: How long, how precise, on what.
        run: Where everything is written.
        card: Of the network; written with its scores whenever it got better.
        net: The network that will be trained.
        sampler: Of the training batches; its position is what a checkpoint resumes.
        val_set: Its first, last and some images between are drawn after every epoch.
        progress: Show a bar for the running epoch.
    """
    t = recipe.trainer

    def write_card(task: SegmentationTask, epoch: int, scores: dict[str, float]) -> None:
        card.with_scores(run.weights, epoch, {"val": scores}).write(run.card)

    callbacks: list[L.Callback] = [
        EpochLog(run.metrics, t.epochs, board_settings(recipe)),
        BestWeights(run.weights, write_card, t.early_stop),
        Resumable(run.checkpoint, sampler, t.checkpoint_steps),
        ValidationPanel(val_set),
        FinalFiles(run),
    ]
    if progress:
        callbacks.append(QuietBar(refresh_rate=1))
    several = t.devices * t.num_nodes > 1
    return L.Trainer(
        max_epochs=t.epochs,
        accelerator=t.accelerator,
        devices=t.devices,
        num_nodes=t.num_nodes,
        # Buffers are not broadcast: validation shares are uneven, and batch norm is synchronised anyway.
        strategy=DDPStrategy(broadcast_buffers=False, find_unused_parameters=has_idle_parameters(net))
        if several
        else "auto",
        sync_batchnorm=several and on_gpu(recipe),
        precision=_precision(t.precision, on_gpu(recipe)),
        # cuDNN does not look for its quickest algorithms: with that the first epoch of a ResNet-101 took 42 s
        # on an H100, the later ones 4; and steps of few images wait for the CPU that launches them.
        benchmark=False,
        gradient_clip_val=t.grad_clip or None,
        logger=make_loggers(t.loggers, run),
        callbacks=callbacks,
        enable_progress_bar=progress,
        enable_model_summary=False,
        enable_checkpointing=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        default_root_dir=run.path,
    )


def on_gpu(recipe: Recipe) -> bool:
    """Whether a recipe is trained on an NVIDIA or AMD GPU here."""
    return recipe.trainer.accelerator in ("auto", "gpu") and torch.cuda.is_available()


def can_be_recorded(recipe: Recipe) -> bool:
    """Whether its steps on a GPU can be recorded: those of one process, unless the loss is scaled between the
    passes (16-mixed) or ``torch.compile`` records by itself.
    """
    t = recipe.trainer
    alone = t.devices * t.num_nodes == 1 and t.precision != "16-mixed"
    return alone and t.cuda_graphs == "auto" and t.compile in ("off", "default")


def board_settings(recipe: Recipe) -> dict[str, Any]:
    """Settings by dotted name for the loggers: no paths; of the many on augmentation only the unusual.

    The table opens with its first few columns, by name: those should be ones in which runs differ.
    """
    usual = {f"augment.{name}" for name in to_tree(recipe.augment)}
    usual -= {f"augment.{name}" for name in differences(AugmentSettings(), recipe.augment)}
    left_out = {"name", "runs_root", "data.root", *usual}
    return {name: value for name, value in flatten(to_tree(recipe)) if name not in left_out}


def _precision(precision: str, gpu: bool) -> Any:
    """bf16 where the device computes it in hardware; on a CPU only on request (small nets gain little)."""
    if precision != "auto":
        return precision
    return "bf16-mixed" if gpu and torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"


@contextlib.contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn what the system, torch and TensorBoard say of a disk that refuses into one message.

    TensorBoard writes in a thread of its own, which prints a traceback before its error is raised here.

    Args:
        folder: Where training writes.

    Raises:
        DataError: The disk is full, or the folder cannot be written.
    """
    print_traceback = threading.excepthook

    def print_others(arguments: threading.ExceptHookArgs) -> None:
        if not (isinstance(arguments.exc_value, Exception) and is_refused_write(arguments.exc_value)):
            print_traceback(arguments)

    threading.excepthook = print_others
    try:
        yield
    except (OSError, RuntimeError) as error:
        if not is_refused_write(error):
            raise
        raise disk_error(error, folder) from error
    finally:
        threading.excepthook = print_traceback


def quiet_lightning() -> None:
    """Silence advice that does not hold here."""
    # Batches are cut from a memory map in this process: worker processes would only slow it down.
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    # The sampler is ours and knows its rank.
    warnings.filterwarnings("ignore", message=".*use_distributed_sampler.*")
    # The teacher is in eval mode on purpose.
    warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")
    # Lightning 2.6 calls a deprecated name of torch 2.13 and newer.
    warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
    # torch 2.13 renames it; the old name is the one that torch 2.6 has.
    warnings.filterwarnings("ignore", message=".*broadcast_buffers. is deprecated.*")
    # Validation is summed over the processes already (SegmentationTask), the rest is the same on all.
    warnings.filterwarnings("ignore", message=".*sync_dist=True.*")
    # The position is a function of the step (EpochBatches.seek), not of the loader's state.
    warnings.filterwarnings("ignore", message=".*dataloader is not resumable.*")


def has_idle_parameters(net: LesionNet) -> bool:
    """Whether some trainable parameters take no part in the logits (PSPNet stops before its encoder's end).

    DDP waits for the gradient of every parameter unless it is told to look for such; looking costs time.
    """
    training, side = net.training, 4 * net.stride * net.min_cells
    net.eval()(torch.zeros(1, 3, side, side)).sum().backward()
    idle = any(p.requires_grad and p.grad is None for p in net.parameters())
    net.zero_grad(set_to_none=True)
    net.train(training)
    return idle
