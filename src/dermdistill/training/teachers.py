"""Which network teaches: a finished run, one fine-tuned first, or one as its pretrained weights are.

With several (``teacher.folds``): which of them teach which image.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dermdistill.artifacts.card import ModelCard, TeacherRecord
from dermdistill.artifacts.run_folder import RunFolder
from dermdistill.config import Recipe, load_recipe, to_tree
from dermdistill.config.settings import split_fold
from dermdistill.core.errors import ConfigError, MismatchError
from dermdistill.core.user_file import is_user_file
from dermdistill.data.dataset import PreparedData
from dermdistill.data.prepare.split import part_of
from dermdistill.models.build import build_model
from dermdistill.models.ensemble import Ensemble
from dermdistill.models.lesion_net import LesionNet
from dermdistill.models.torch_backend import load_last, load_run
from dermdistill.models.user_net import check_output
from dermdistill.models.weights import hash_state
from dermdistill.training.acceleration.teacher_cache import TeacherLogitsCache
from dermdistill.training.feed.loader import ImageRows
from dermdistill.training.feed.training_data import train_rows
from dermdistill.training.frozen_teachers import open_onnx, open_transformers
from dermdistill.training.teacher_maps import read_teacher_maps

logger = logging.getLogger(__name__)


def find_teacher(
    recipe: Recipe,
    data: PreparedData,
    unlabelled: ImageRows | None = None,
    *,
    fine_tune: Callable[[Recipe], Path],
    progress: bool = True,
) -> tuple[LesionNet | Ensemble | TeacherLogitsCache, TeacherRecord]:
    """The teacher of a distillation (or the mean of several), and what the student's card says of it.

    Args:
        recipe: The student's.
        data: What the student will be trained on.
        unlabelled: Images beside it.
        fine_tune: Trains a teacher by its recipe (or finds it finished) and returns its run folder.
        progress: Show a bar while maps are read.

    Returns:
        The network that teaches, or the logits of maps that are there already; and the record.

    Raises:
        MismatchError: It was trained on other data than the student will be.
        ConfigError: The recipe names no teacher, or one of several twice.
    """
    settings = recipe.teacher
    if settings.maps:
        rows = train_rows(recipe, data)
        return read_teacher_maps(settings.maps, data, rows, unlabelled, progress=progress)
    if settings.onnx is not None:
        net, record, card = open_onnx(settings, data.size)
        if card is not None:
            _check_same_data(settings.onnx, card, recipe, data)
        return net, record
    if settings.transformers is not None:
        return open_transformers(settings)
    if settings.runs:
        return _mean_of([_load_teacher(folder, recipe, data) for folder in settings.runs], settings.folds)
    if settings.run is None and settings.recipe is not None:
        folds = range(settings.folds) if settings.folds is not None else [None]
        recipes = [teacher_recipe(recipe, fold) for fold in folds]
        loaded = [_load_teacher(fine_tune(one), recipe, data, one.trained_arch) for one in recipes]
        return _mean_of(loaded, settings.folds)
    if settings.run is not None:
        return _load_teacher(settings.run, recipe, data)
    if settings.arch is None:
        raise ConfigError(
            f"The recipe {recipe.name} names no teacher.",
            "a finished teacher run, or teacher.recipe",
            "Add --teacher RUN, or --teacher.recipe teacher-cpu.",
        )
    if is_user_file(settings.arch):
        return _as_it_comes(settings.arch, recipe)
    if settings.arch != "deeplabv3-torchvision":
        raise ConfigError(
            f"A {settings.arch} that was not fine-tuned has a random head: it teaches noise.",
            "teacher.run or teacher.recipe; only deeplabv3-torchvision has pretrained classes",
            "Name one of these, or choose that architecture.",
        )
    logger.warning("the teacher is not fine-tuned: its 21 VOC classes hold no lesion (an ablation)")
    net = build_model(settings.arch, settings.encoder, settings.encoder_weights or "coco", head="voc")
    return net, TeacherRecord(run=None, model=net.spec.to_dict(), fine_tuned=False)


def make_teacher_mask(data: PreparedData, record: TeacherRecord, folds: int) -> Tensor:
    """Which teacher teaches which image in cross-fitting (Dao et al. 2021, arXiv 2104.09732, section 4).

    On the images that it was trained on a teacher says what their masks say, and little else.

    Args:
        data: What the student will be trained on.
        record: Of the teachers, from `find_teacher`.
        folds: Number of parts.

    Returns:
        bool [images, teachers]: for a training image, the teachers that were trained without its part; for
        the others, on which none was trained, all.

    Raises:
        MismatchError: A teacher was not trained without one of that many parts, or a part has no teacher.
    """
    advice = (
        f"Train them: dermdistill train RECIPE --data.fold 0/{folds} --name NAME, up to {folds - 1}/{folds}."
    )
    parts = []
    for one in record.teachers:
        part, whole = split_fold(one.fold) if one.fold else (None, None)
        if part is None or whole != folds:
            raise MismatchError(
                f"The teacher {one.run} was trained "
                + (f"without part {one.fold}." if one.fold else "on all parts."),
                f"teachers that were each trained without one of {folds} parts of the images",
                advice,
            )
        parts.append(part)
    if missing := sorted(set(range(folds)) - set(parts)):
        raise MismatchError(
            f"No teacher was trained without part {missing[0]}/{folds}: its images have none.",
            f"a teacher for each of the {folds} parts, found those for {', '.join(map(str, sorted(parts)))}",
            advice,
        )
    own = [part_of(row, folds) if row.split == "train" else None for row in data.manifest]
    return torch.tensor([[mine is None or mine == part for part in parts] for mine in own])


def teacher_recipe(recipe: Recipe, fold: int | None = None) -> Recipe:
    """The recipe of the teacher, on the student's data, seed, device and folders.

    Args:
        recipe: The student's.
        fold: Which part of ``teacher.folds`` it is trained without, under a name that tells so; None: none.
    """
    assert recipe.teacher.recipe is not None
    data = to_tree(recipe.data)
    overrides: dict[str, Any] = {
        **{f"data.{name}": data[name] for name in ("name", "root", "size", "train_limit")},
        # What the student leaves out; where it leaves nothing out, the teacher's own recipe decides.
        **{f"data.{name}": data[name] for name in ("exclude", "fold") if data[name] is not None},
        **{
            f"trainer.{name}": to_tree(recipe.trainer)[name]
            for name in ("accelerator", "devices", "num_nodes")
        },
        "seed": recipe.seed,
        "runs_root": str(recipe.runs_root),
    }
    for name in ("arch", "encoder", "encoder_weights", "options", "channel"):
        if (value := getattr(recipe.teacher, name)) not in (None, {}):
            overrides[f"teacher.{name}"] = value
    if fold is not None:
        folds = recipe.teacher.folds
        name = load_recipe(recipe.teacher.recipe).name
        overrides |= {"data.fold": f"{fold}/{folds}", "name": f"{name}-fold{fold}of{folds}"}
    return load_recipe(recipe.teacher.recipe, overrides)


def check_same_teacher(before: TeacherRecord | None, now: TeacherRecord) -> None:
    """Refuse to go on with another teacher than a run was begun with.

    Args:
        before: Of the run's card.
        now: From `find_teacher`, of the one that is there now.

    Raises:
        MismatchError: Their weights differ.
    """
    hashes_before, hashes_now = _hashes(before), _hashes(now)
    if hashes_before != hashes_now:
        raise MismatchError(
            f"The run was begun with the teacher {_named(hashes_before)}, now it is {_named(hashes_now)}.",
            "the same weights, so that the result is that of an unbroken run",
            "Name the teacher of before, or use --overwrite or another --name.",
        )


def _hashes(record: TeacherRecord | None) -> list[str | None]:
    return [one.weights_sha256 for one in record.teachers] if record else [None]


def _named(hashes: list[str | None]) -> str:
    return ", ".join(f"{found[:12]}…" if found else "without a run" for found in hashes)


def _mean_of(
    loaded: list[tuple[LesionNet, TeacherRecord]], folds: int | None
) -> tuple[LesionNet | Ensemble, TeacherRecord]:
    if len(loaded) == 1:
        return loaded[0]
    records = tuple(record for _, record in loaded)
    for one, other in itertools.combinations(records, 2):
        if one.weights_sha256 == other.weights_sha256:
            raise ConfigError(
                f"The teachers {one.run} and {other.run} have the same weights.",
                "different ones: a mean over copies is the same teacher, and costs more",
                "Leave one of them out.",
            )
    record = TeacherRecord(run=None, fine_tuned=True, mean_of=records)
    if folds is not None:
        record = record.model_copy(update={"folds": folds})
    return Ensemble([net for net, _ in loaded]), record


def _as_it_comes(arch: str, recipe: Recipe) -> tuple[LesionNet, TeacherRecord]:
    """A network of the user's own with the weights that its file gives it."""
    settings = recipe.teacher
    net = build_model(arch, options=settings.options, channel=settings.channel).eval()
    check_output(net, arch, recipe.data.size, "--teacher.channel")
    digest = hash_state(net.net)
    logger.warning(
        "the teacher is %s with the weights that the file gives it (SHA-256 %s…). Which images it was "
        "trained on is not known: they may be images of this test split",
        arch, digest[:12],
    )  # fmt: skip
    return net, TeacherRecord(run=None, source=net.spec.arch, model=net.spec.to_dict(), weights_sha256=digest)


def _load_teacher(
    folder: Path, recipe: Recipe, data: PreparedData, arch: str | None = None
) -> tuple[LesionNet, TeacherRecord]:
    net, card = load_run(folder, arch or recipe.teacher.arch)
    run = RunFolder(folder, "teacher")
    if run.checkpoint.exists() and not run.finished.exists():
        logger.warning(
            "the teacher %s is not finished: its best weights after %d epochs teach (--resume finishes it)",
            folder,
            run.epochs_done(),
        )
    _check_same_data(folder, card, recipe, data)
    record = TeacherRecord(run=folder.name, model=card.model, fine_tuned=True)
    if "fold" in card.dataset:
        record = record.model_copy(update={"fold": card.dataset["fold"]})
    if recipe.teacher.weights == "best":
        best = {"weights_sha256": card.weights_sha256, "val": card.scores.get("val")}
        return net, record.model_copy(update=best)
    last = {"weights": "last", "weights_sha256": load_last(net, folder), "best_sha256": card.weights_sha256}
    return net, record.model_copy(update=last)


def _check_same_data(teacher: Path, card: ModelCard, recipe: Recipe, data: PreparedData) -> None:
    trained_on = card.dataset["fingerprint"]
    if trained_on != data.fingerprint and not recipe.teacher.any_data:
        raise MismatchError(
            f"The teacher {teacher} was trained on {card.dataset['name']} ({trained_on[:12]}), "
            f"the student would be on {data.name} ({data.fingerprint[:12]}).",
            "the same data and split: another split may hold this test set's images",
            "Fine-tune a teacher on this data (leave --teacher out), or accept it with --teacher.any-data.",
        )
