"""What is refused before anything is trained: arms that are not trained alike, test images that leak."""

from __future__ import annotations

import math

from dermdistill.config import Recipe, to_tree
from dermdistill.core.errors import ConfigError, DataError
from dermdistill.data.dataset import PreparedData, is_prepared
from dermdistill.data.prepare.prepare import ensure_prepared
from dermdistill.data.prepare.split import part_of
from dermdistill.study.settings import Cell, StudySettings, cell_recipe, folds_of


def check_equal_training(settings: StudySettings, data: PreparedData) -> None:
    """Refuse student arms that differ in optimiser steps, schedule or optimiser, unless the study says so.

    Raises:
        ConfigError: With what differs.
    """
    images = len(data.indices("train"))
    plans = {}
    for arm in settings.arms:
        recipe = cell_recipe(settings, Cell(arm, settings.seeds[0]))
        used = min(images, recipe.data.train_limit or images)
        steps = recipe.trainer.epochs * math.ceil(used / recipe.data.batch_size)
        plans[arm] = {
            "optimiser steps": "any" if settings.budget == "wall-clock" else steps,
            "early stopping": recipe.trainer.early_stop,
            **{f"optim.{key}": value for key, value in to_tree(recipe.optim).items()},
        }
    if settings.allow_unequal_steps:
        return
    first = plans[settings.baseline]
    unequal = [
        f"  {arm}: {key} {value}, {settings.baseline}: {first[key]}"
        for arm, plan in plans.items()
        for key, value in plan.items()
        if value != first[key]
    ]
    stops = [arm for arm, plan in plans.items() if plan["early stopping"] is not None]
    if stops and not unequal:
        unequal = [f"  {', '.join(stops)}: early stopping lets an arm's own scores end it"]
    if unequal:
        raise ConfigError(
            "The student arms would not be trained alike:\n" + "\n".join(unequal),
            "the same schedule and number of optimiser steps for each student arm",
            "Make them equal, or accept it with --allow-unequal-steps (the table shows the steps).",
        )


def check_no_leak(settings: StudySettings, base: Recipe, data: PreparedData) -> None:
    """Refuse to score on images that were trained on or chosen by (by id, when the data sets differ).

    Raises:
        DataError: With how many and which.
    """
    if settings.test_data is None or settings.test_data == data.name:
        return  # unlabelled images that are test images of the data itself are refused where they are read
    other = ensure_prepared(settings.test_data, base.data.root, base.data.size)
    sets = [data, *_unlabelled(settings, base)]
    seen = {row.image_id for one in sets for row in one.manifest if row.split != "test"}
    scored = {other.manifest[row].image_id for row in other.indices(settings.split).tolist()}
    if both := sorted(seen & scored):
        raise DataError(
            f"{len(both)} of the {len(scored)} {settings.split} images of {other.name} are in the training "
            f"or validation images of {' or '.join(one.name for one in sets)}: {', '.join(both[:3])} …",
            "test images that no arm was trained on or chosen by",
            "Choose other test data; dermdistill audit lists the pairs.",
        )


def check_folds(settings: StudySettings, data: PreparedData) -> None:
    """Refuse a cross-validation where something has seen the part that it is scored on, or a part is empty.

    Raises:
        ConfigError: An arm has a teacher or images that know all parts.
        DataError: There are too few lesions for so many parts.
    """
    if settings.folds is None:
        return
    for arm in settings.arms:
        recipe = cell_recipe(settings, Cell(arm, settings.seeds[0], folds_of(settings)[0]))
        teacher = recipe.teacher
        own = settings.arms[arm].teacher == "own" and (teacher.run or teacher.runs or teacher.recipe)
        if (settings.arms[arm].verb == "distill" and own) or recipe.data.unlabelled is not None:
            raise ConfigError(
                f"{arm} learns from {'a teacher of its own' if own else 'unlabelled images'}, which may know "
                "the part that is scored.",
                "with folds: the study's teacher, fine-tuned anew without each part, or none",
                f"Leave {arm} out (--arms), or run the study without --folds.",
            )
    rows = data.indices("train").tolist()
    filled = {part_of(data.manifest[row], settings.folds) for row in rows}
    if len(filled) < settings.folds:
        empty = settings.folds - len(filled)
        raise DataError(
            f"{empty} of {settings.folds} parts of the {len(rows)} training images are empty.",
            "images in each part; those of one lesion or patient are in the same",
            "Choose fewer --folds.",
        )


def _unlabelled(settings: StudySettings, base: Recipe) -> list[PreparedData]:
    """The sets of unlabelled images that arms use, as far as they are prepared."""
    recipes = [cell_recipe(settings, Cell(arm, settings.seeds[0])) for arm in settings.arms]
    names = {recipe.data.unlabelled for recipe in recipes if recipe.data.unlabelled is not None}
    root, size = base.data.root, base.data.size
    return [ensure_prepared(name, root, size) for name in sorted(names) if is_prepared(root / name)]
