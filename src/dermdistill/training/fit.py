"""One fit, of a teacher or a student: what its task is made of, what speeds its steps up, what it leaves."""

from __future__ import annotations

import contextlib
import functools
import logging
import warnings
from pathlib import Path
from typing import Any

import torch

from dermdistill.artifacts import run_folder
from dermdistill.artifacts.card import TeacherRecord, make_card
from dermdistill.config import Recipe
from dermdistill.config.settings import OptimSettings
from dermdistill.core.errors import TrainingError
from dermdistill.core.files import write_json
from dermdistill.data.dataset import PreparedData
from dermdistill.models.complexity import count_parameters
from dermdistill.models.lesion_net import LesionNet
from dermdistill.training import trackers
from dermdistill.training.acceleration import cuda_graphs, onnx_teacher
from dermdistill.training.acceleration.compile import compiler_errors
from dermdistill.training.acceleration.host_memory import freed_memory_kept
from dermdistill.training.checkpoints import read_step, save_checkpoint
from dermdistill.training.distillation_task import DistillationTask
from dermdistill.training.feed.augmentation import Augment
from dermdistill.training.feed.loader import EpochBatches, PackDataset, make_loader
from dermdistill.training.feed.training_data import (
    TrainingData,
    place_images,
    rank_and_world_size,
)
from dermdistill.training.frozen_teachers import OnnxNet
from dermdistill.training.lr_schedules import make_schedule
from dermdistill.training.objective import supervised_losses
from dermdistill.training.segmentation_task import SegmentationTask
from dermdistill.training.trainer import can_be_recorded, disk_errors, make_trainer, quiet_lightning

logger = logging.getLogger(__name__)


def make_optimizer(
    groups: list[dict[str, Any]], *, optim: OptimSettings, fuse: bool = False
) -> torch.optim.Optimizer:
    """Adam, AdamW or SGD, as the settings say; with ``fuse`` in one kernel (on a CPU or with CUDA).

    Args:
        groups: Parameters under ``params``, with what a group has of its own (``lr``, ``weight_decay``).
        optim: The settings.
        fuse: Whether one kernel may do it.
    """
    common: dict[str, Any] = {"lr": optim.lr, "weight_decay": optim.weight_decay}
    devices = {parameter.device.type for group in groups for parameter in group["params"]}
    if fuse and devices <= {"cpu", "cuda"}:
        common["fused"] = True
    match optim.name:
        case "adam":
            return torch.optim.Adam(groups, **common)
        case "adamw":
            return torch.optim.AdamW(groups, **common)
        case "sgd":
            return torch.optim.SGD(groups, momentum=optim.momentum, **common)


def task_arguments(recipe: Recipe, data: PreparedData, steps_per_epoch: int) -> dict[str, Any]:
    """What a recipe says of a task's views, losses, optimiser and schedule, as the task's own arguments.

    Raises:
        TrainingError: There is nothing to validate on.
    """
    views = recipe.augment.model_dump()
    enabled = views.pop("enabled")
    val_count = len(data.indices("val"))
    if val_count == 0:
        raise TrainingError(
            f"{data.name} has no validation images.",
            "at least one, to choose the best weights by",
            "Prepare the data set again with a larger --val-fraction.",
        )
    return {
        "augment": Augment(**views) if enabled else None,
        "supervised": functools.partial(supervised_losses, loss=recipe.loss),
        # Lightning's scaler of 16-mixed cannot unscale for a fused optimiser before gradients are clipped.
        "make_optimizer": functools.partial(
            make_optimizer, optim=recipe.optim, fuse=recipe.trainer.precision != "16-mixed"
        ),
        "make_schedule": functools.partial(
            make_schedule, optim=recipe.optim, steps_per_epoch=steps_per_epoch, epochs=recipe.trainer.epochs
        ),
        "seed": recipe.seed,
        "val_count": val_count,
        "style": recipe.style,
    }


def speed_up(
    task: SegmentationTask, recipe: Recipe, size: int, sampler: EpochBatches, device: torch.device
) -> None:
    """Have steps computed by what is quicker than PyTorch's operations one by one."""
    t = recipe.trainer
    steps = t.epochs * len(sampler)
    if t.compile != "off":
        task.compile_steps(t.compile, sampler.full_batch)
    if device.type == "cuda" and steps >= cuda_graphs.MIN_STEPS and can_be_recorded(recipe):
        task.step.batch_size = sampler.full_batch
    if t.compile != "off" or device.type != "cpu" or steps < onnx_teacher.MIN_STEPS:
        return
    if isinstance(task, DistillationTask) and task.teacher is not None:
        teacher = task.teacher.net
        if not (isinstance(teacher, LesionNet) and isinstance(teacher.net, OnnxNet)):  # it is run so already
            task.teacher_forward = onnx_teacher.forward_on_cpu(teacher, size)


def fit(
    task: SegmentationTask,
    recipe: Recipe,
    data: PreparedData,
    training_data: TrainingData,
    run: run_folder.RunFolder,
    *,
    teacher: TeacherRecord | None,
    resume: bool,
    progress: bool,
) -> Path:
    """Fit a task from where its run stands to its recipe's last epoch; return the run's folder.

    Args:
        task: The network, with its teacher if it has one.
        recipe: How long, on what, how fast.
        data: Where the validation images lie.
        training_data: What it is trained on, in which order.
        run: The folder that gets weights, card, metrics and checkpoint.
        teacher: For the card; None where there is no teacher.
        resume: Go on from the run's checkpoint, where it has one.
        progress: Show a bar for the running epoch.
    """
    rank, world = rank_and_world_size(recipe)
    val_sampler = EpochBatches(
        len(data.indices("val")), recipe.data.batch_size, shuffle=False, rank=rank, world=world
    )
    val_images = PackDataset(data, data.indices("val"), styles=task.net.styles)
    val_loader = make_loader(val_images, val_sampler)
    sampler = training_data.sampler
    if rank == 0:
        write_json(run.data, training_data.facts)
    card = make_card(
        role=recipe.role,
        model=task.net.spec.to_dict(),
        input_size=data.size,
        mean=task.net.mean.flatten().tolist(),
        std=task.net.std.flatten().tolist(),
        weights=run.weights.name,
        dataset=training_data.facts,
        recipe=recipe.name,
        seed=recipe.seed,
        parameters=count_parameters(task.net),
        teacher=teacher,
        styles={name: {} for name in task.net.styles},
    )
    trainer = make_trainer(recipe, run, card, task.net, sampler, val_images, progress)
    device = trainer.strategy.root_device
    if device.type in ("cpu", "cuda"):
        # The layout that convolutions are fastest in: a third less time on a CPU, and what tensor cores want.
        task.to(memory_format=torch.channels_last)
    for loader in (training_data.loader, val_loader):
        place_images(loader, device, recipe.data.on_device)
    speed_up(task, recipe, data.size, sampler, device)
    if isinstance(task, DistillationTask) and (recipe.teacher.logits == "cached" or task.maps is not None):
        task.cache_logits(training_data.images, device, progress=progress)
    checkpoint = run.checkpoint if resume and run.checkpoint.exists() else None
    if checkpoint is not None:
        step = read_step(checkpoint, task)
        sampler.seek(step)
        logger.info("resuming %s at step %d", run.path, step)
    beside = f" and {sampler.unlabelled} unlabelled ones" if sampler.unlabelled else ""
    logger.info(
        "%s: %s, %s parameters, %d training images%s, %d validation images, %s",
        recipe.name, task.net.spec.arch, f"{card.parameters:,}", sampler.count, beside,
        len(val_images), device,
    )  # fmt: skip
    memory = freed_memory_kept() if device.type == "cpu" else contextlib.nullcontext()
    errors = compiler_errors(recipe.trainer.compile)
    with warnings.catch_warnings(), disk_errors(run.path), errors, memory:
        quiet_lightning()
        try:
            trainer.fit(task, training_data.loader, val_loader, ckpt_path=checkpoint, weights_only=True)
        finally:
            trackers.finish(trainer.loggers)
    save_checkpoint(trainer, run.checkpoint)
    if trainer.is_global_zero:
        run.finished.touch()
    return run.path
