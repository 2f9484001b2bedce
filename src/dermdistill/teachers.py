"""Which network teaches: a finished run, one fine-tuned first, or one as its pretrained weights are."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dermdistill.config import Recipe, load_recipe, to_tree
from dermdistill.data.dataset import PreparedData
from dermdistill.errors import ConfigError, MismatchError
from dermdistill.models.build import LesionNet, build_model
from dermdistill.models.torch_backend import load_run

logger = logging.getLogger(__name__)


def find_teacher(
    recipe: Recipe, data: PreparedData, *, fine_tune: Callable[[Recipe], Path]
) -> tuple[LesionNet, dict[str, Any]]:
    """The teacher of a distillation, and what the student's card says of it.

    Args:
        recipe: The student's.
        data: What the student will be trained on.
        fine_tune: Trains a teacher by its recipe (or finds it finished) and answers its run folder.

    Raises:
        MismatchError: It was trained on other data than the student will be.
        ConfigError: The recipe names no teacher.
    """
    wanted = recipe.teacher
    if wanted.run is None and wanted.recipe is not None:
        return _load_teacher(fine_tune(teacher_recipe(recipe)), recipe, data)
    if wanted.run is not None:
        return _load_teacher(wanted.run, recipe, data)
    if wanted.arch is None:
        raise ConfigError(
            f"The recipe {recipe.name} names no teacher.",
            "a finished teacher run, or teacher.recipe",
            "Add --teacher RUN, or --teacher.recipe teacher-cpu.",
        )
    if wanted.arch != "deeplabv3-torchvision":
        raise ConfigError(
            f"A {wanted.arch} that was not fine-tuned has a random head: it teaches noise.",
            "teacher.run or teacher.recipe; only deeplabv3-torchvision has pretrained classes",
        )
    logger.warning("the teacher is not fine-tuned: its 21 VOC classes hold no lesion (an ablation)")
    net = build_model(wanted.arch, wanted.encoder, wanted.encoder_weights or "coco", head="voc")
    return net, {"run": None, "model": net.spec.to_dict(), "fine_tuned": False}


def teacher_recipe(recipe: Recipe) -> Recipe:
    """The recipe of the teacher, on the student's data, seed, device and folders."""
    assert recipe.teacher.recipe is not None
    overrides: dict[str, Any] = {
        **{f"data.{name}": to_tree(recipe.data)[name] for name in ("name", "root", "size", "train_limit")},
        **{
            f"trainer.{name}": to_tree(recipe.trainer)[name]
            for name in ("accelerator", "devices", "num_nodes")
        },
        "seed": recipe.seed,
        "runs_root": str(recipe.runs_root),
    }
    for name in ("arch", "encoder", "encoder_weights"):
        if (value := getattr(recipe.teacher, name)) is not None:
            overrides[f"teacher.{name}"] = value
    return load_recipe(recipe.teacher.recipe, overrides)


def _load_teacher(folder: Path, recipe: Recipe, data: PreparedData) -> tuple[LesionNet, dict[str, Any]]:
    net, card = load_run(folder)
    trained_on = card.dataset["fingerprint"]
    if trained_on != data.fingerprint and not recipe.teacher.any_data:
        raise MismatchError(
            f"The teacher {folder} was trained on {card.dataset['name']} ({trained_on[:12]}), "
            f"the student would be on {data.name} ({data.fingerprint[:12]}).",
            "the same data and split: another split may hold this test set's images",
            "Fine-tune a teacher on this data (leave --teacher out), or accept it with --teacher.any-data.",
        )
    described = {"run": folder.name, "model": card.model, "weights_sha256": card.weights_sha256}
    return net, {**described, "fine_tuned": True, "val": card.scores.get("val")}
