"""Train a network on masks; distil a teacher into a student. Read from top to bottom like a method section.

Source of the method: Hinton, Vinyals & Dean 2015 (arXiv 1503.02531), with the Bernoulli form of the KL that
one logit per pixel needs.
"""

from __future__ import annotations

import functools
import logging
from pathlib import Path

import lightning.pytorch as L
import torch

from dermdistill.artifacts import run_folder
from dermdistill.artifacts.card import ModelCard
from dermdistill.config import Recipe
from dermdistill.core.errors import ConfigError
from dermdistill.core.user_file import is_user_file
from dermdistill.data.dataset import PreparedData
from dermdistill.models.build import build_model
from dermdistill.models.lesion_net import LesionNet
from dermdistill.models.user_net import check_output
from dermdistill.training.distillation_task import DistillationTask
from dermdistill.training.feed.training_data import (
    find_unlabelled,
    make_training_data,
    open_labelled,
    style_names,
)
from dermdistill.training.fit import fit, task_arguments
from dermdistill.training.objective import distilled_losses
from dermdistill.training.segmentation_task import SegmentationTask
from dermdistill.training.teachers import check_same_teacher, find_teacher, make_teacher_mask
from dermdistill.training.trackers import need_installed
from dermdistill.training.trainer import on_gpu
from dermdistill.training.user_loss import UserLoss

logger = logging.getLogger(__name__)


def train(recipe: Recipe, *, resume: bool = False, overwrite: bool = False, progress: bool = True) -> Path:
    """Fine-tune a teacher (``role: teacher``) or train a student alone (``role: student``).

    Args:
        recipe: What to train, on what, how long.
        resume: Go on with an unfinished run.
        overwrite: Throw an existing run of this name away first.
        progress: Show a bar for the running epoch.

    Returns:
        The run's folder: best weights, card, metrics, checkpoint, TensorBoard events.

    Raises:
        ConfigError: Settings that do not go together.
        DataError: The data set is not prepared, or has no masks.
        MismatchError: ``resume``, with settings that would give another result.
        UsageError: The run exists, and neither ``resume`` nor ``overwrite`` is given.
        TrainingError: There is nothing to validate on, the loss is not finite, or a tracker refuses.
        MissingExtraError: The package of one of ``trainer.loggers`` is not installed.

    Examples:
        One epoch on a few generated lesions:

        >>> from pathlib import Path
        >>> from dermdistill import load_recipe, prepare_phantom, train
        >>> data = prepare_phantom(Path("data"), count=6, size=32, progress=False)
        >>> recipe = load_recipe("student-phantom", {"data.size": 32, "trainer.epochs": 1})
        >>> run = train(recipe, progress=False)
        >>> (run / "best_student_model.pth").exists(), (run / "card.json").exists()
        (True, True)
    """
    if recipe.data.unlabelled is not None:
        raise ConfigError(
            f"data.unlabelled is {recipe.data.unlabelled}: without a teacher, nothing is learnt from images "
            "without masks.",
            "dermdistill distill, or training on masks alone",
            "Use dermdistill distill, or set data.unlabelled: null (--data.unlabelled None).",
        )
    need_installed(recipe.trainer.loggers)
    data = open_labelled(recipe, resume=resume, progress=progress)
    with run_folder.open_run(recipe, resume=resume, overwrite=overwrite) as run:
        if run.finished.exists():
            logger.info("%s is finished: nothing to do", run.path)
            return run.path
        L.seed_everything(recipe.seed, verbose=False)
        net = _build_trained(recipe, data)
        training_data = make_training_data(recipe, data, net.min_batch, styles=net.styles)
        task = SegmentationTask(net, **task_arguments(recipe, data, len(training_data.sampler)))
        return fit(task, recipe, data, training_data, run, teacher=None, resume=resume, progress=progress)


def distill(recipe: Recipe, *, resume: bool = False, overwrite: bool = False, progress: bool = True) -> Path:
    """Distil a teacher into a student, online unless said otherwise: both see the same augmented tensor.

    The teacher is ``teacher.run``, or the mean of ``teacher.runs``; or is another maker's network or maps
    (``teacher.onnx``, ``teacher.transformers``, ``teacher.maps``); or is fine-tuned first by
    ``teacher.recipe`` (once; a finished run is used again); or, with ``teacher.arch`` alone, is used as its
    pretrained weights are. With ``teacher.folds`` each training image is taught by those of several teachers
    that were trained without it (cross-fitting; Dao et al. 2021, arXiv 2104.09732). With ``teacher.logits:
    cached`` its logits are computed once for each training image, and not for every view.

    Args:
        recipe: The student's; its ``teacher`` names who teaches.
        resume: Go on with an unfinished run.
        overwrite: Throw an existing run of this name away first.
        progress: Show a bar for the running epoch.

    Returns:
        The run's folder, as of `train`.

    Raises:
        ConfigError: The recipe trains a teacher, or names none.
        MismatchError: The teacher was trained on other data, or is not the one the run was begun with.
        DermDistillError: As of `train`.

    Examples:
        A teacher and its student, one epoch each, on a few generated lesions:

        >>> from pathlib import Path
        >>> from dermdistill import ModelCard, distill, load_recipe, prepare_phantom, train
        >>> data = prepare_phantom(Path("data"), count=6, size=32, progress=False)
        >>> brief = {"data.size": 32, "trainer.epochs": 1}
        >>> teacher = train(load_recipe("teacher-phantom", brief), progress=False)
        >>> run = distill(load_recipe("phantom", {**brief, "teacher.run": str(teacher)}), progress=False)
        >>> ModelCard.read(run / "card.json").teacher.run
        'phantom-teacher'
    """
    if recipe.role != "student":
        raise ConfigError(
            f"The recipe {recipe.name} trains a teacher.", "role: student", "Use dermdistill train."
        )
    need_installed(recipe.trainer.loggers)
    extra = UserLoss(recipe.kd.extra) if recipe.kd.extra is not None else None
    if extra is not None:
        logger.info(
            "%s × %g: %s, SHA-256 %s…", extra.name, recipe.kd.extra_weight, extra.source, extra.digest[:12]
        )
    data = open_labelled(recipe, resume=resume, progress=progress)
    fine_tune = functools.partial(train, resume=True, progress=progress)
    unlabelled = find_unlabelled(recipe, data, progress=progress)
    teacher, record = find_teacher(recipe, data, unlabelled, fine_tune=fine_tune, progress=progress)
    teacher_mask = None
    if recipe.teacher.folds is not None:
        teacher_mask = make_teacher_mask(data, record, recipe.teacher.folds)
        if unlabelled is not None:  # which no teacher was trained on: all of them teach these
            others = teacher_mask.new_ones(len(unlabelled.data), teacher_mask.shape[1])
            teacher_mask = torch.cat([teacher_mask, others])
    if recipe.teacher.logits == "cached" or recipe.teacher.maps:
        record = record.model_copy(update={"answers": "kept"})
    with run_folder.open_run(recipe, resume=resume, overwrite=overwrite) as run:
        if run.finished.exists():
            logger.info("%s is finished: nothing to do", run.path)
            return run.path
        if run.card.exists():
            check_same_teacher(ModelCard.read(run.card).teacher, record)
        L.seed_everything(recipe.seed, verbose=False)
        student = _build_trained(recipe, data)
        training_data = make_training_data(recipe, data, student.min_batch, unlabelled, student.styles)
        task = DistillationTask(
            student,
            teacher,
            distilled=functools.partial(distilled_losses, kd=recipe.kd, extra=extra),
            # On a GPU a convolution's bias costs a pass over the map, and a slower one than batch norm's own.
            fold=not on_gpu(recipe),
            teacher_mask=teacher_mask,
            **task_arguments(recipe, data, len(training_data.sampler)),
        )
        return fit(task, recipe, data, training_data, run, teacher=record, resume=resume, progress=progress)


# -- one fit -------------------------------------------------------------------------------------------


def _build_trained(recipe: Recipe, data: PreparedData) -> LesionNet:
    s, t = recipe.student, recipe.teacher
    if recipe.role == "student":
        net = build_model(
            s.arch, s.encoder, s.encoder_weights, norm=s.norm, options=s.options, channel=s.channel,
            styles=style_names(recipe, data),
        )  # fmt: skip
    else:
        assert t.arch is not None
        net = build_model(t.arch, t.encoder, t.encoder_weights, options=t.options, channel=t.channel)
    if is_user_file(recipe.trained_arch):
        check_output(net, recipe.trained_arch, recipe.data.size, f"--{recipe.role}.channel")
        logger.info("%s, SHA-256 %s…", net.spec.arch, str(net.spec.file_sha256)[:12])
    return net
