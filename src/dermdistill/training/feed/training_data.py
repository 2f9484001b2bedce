"""What a run is trained on: which rows, labelled and unlabelled, in which order; what its card says of it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from dermdistill.artifacts import run_folder
from dermdistill.config import Recipe
from dermdistill.config.settings import split_fold
from dermdistill.core.errors import DataError, MismatchError
from dermdistill.data.dataset import PreparedData
from dermdistill.data.pack_rows import check_pack
from dermdistill.data.prepare.exclude import Exclusions, read_exclusions
from dermdistill.data.prepare.prepare import drawn_by, ensure_prepared
from dermdistill.data.prepare.split import part_of
from dermdistill.training.feed.batch import TrainingBatch
from dermdistill.training.feed.loader import EpochBatches, ImageRows, PackDataset, make_loader
from dermdistill.training.feed.unlabelled import unlabelled_rows

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingData:
    """The training images of one run."""

    images: PackDataset
    loader: DataLoader[TrainingBatch]
    sampler: EpochBatches
    """Of the loader; its length is the steps of an epoch."""
    facts: dict[str, Any]
    """The data set, for the model card."""


def open_labelled(recipe: Recipe, *, resume: bool, progress: bool) -> PreparedData:
    """A recipe's data set; where a run is gone on with, the one that it was begun on.

    A generated set that is gone is drawn again as it was. The pack's bytes are compared with what was packed.

    Raises:
        DataError: It is not prepared, or has no masks.
        MismatchError: It is not the one that the run was begun on, or its pack was changed.
    """
    begun_on = run_folder.trained_on(recipe) if resume else {}
    where = recipe.data
    data = ensure_prepared(
        where.name, where.root, where.size, generated=begun_on.get("generated"), progress=progress
    )
    data.need_masks()
    if begun_on.get("fingerprint", data.fingerprint) != data.fingerprint:
        raise MismatchError(
            f"{data.folder} is not the {data.name} that the run {recipe.name} was begun on.",
            f"the fingerprint {begun_on['fingerprint'][:16]}…",
            "Put that data set back, or begin anew with --overwrite or another --name.",
        )
    check_pack(data)
    return data


def find_unlabelled(recipe: Recipe, data: PreparedData, *, progress: bool) -> ImageRows | None:
    """The unlabelled images that a recipe names, checked against its data set; their pack is made if need be.

    Raises:
        DataError: They are not prepared, or validation or test images of ``data`` are among them.
    """
    if recipe.data.unlabelled is None:
        return None
    others = ensure_prepared(recipe.data.unlabelled, recipe.data.root, recipe.data.size, progress=progress)
    check_pack(others)
    return ImageRows(others, unlabelled_rows(others, data, recipe.data.exclude))


def make_training_data(
    recipe: Recipe,
    data: PreparedData,
    min_batch: int,
    unlabelled: ImageRows | None = None,
    styles: Sequence[str] = (),
) -> TrainingData:
    """The batches of a recipe.

    Args:
        recipe: Of the run.
        data: Its data set.
        min_batch: Fewest labelled images that the network takes in a training step.
        unlabelled: Images beside the labelled ones, from `find_unlabelled`.
        styles: Names of the styles that the network is told.

    Raises:
        TrainingError: A step cannot have ``min_batch`` images per process.
    """
    rows = train_rows(recipe, data)
    rank, world = rank_and_world_size(recipe)
    images, facts = PackDataset(data, rows, unlabelled, styles), _data_facts(recipe, data)
    sampler = EpochBatches(
        len(rows),
        recipe.data.batch_size,
        shuffle=True,
        seed=recipe.seed,
        rank=rank,
        world=world,
        min_batch=min_batch,
        unlabelled=len(images) - len(rows),
        unlabelled_share=recipe.data.unlabelled_share,
    )
    if unlabelled is not None:
        others = unlabelled.data
        about = {"name": others.name, "fingerprint": others.fingerprint, "images": len(unlabelled.rows)}
        facts["unlabelled"] = about
    return TrainingData(images, make_loader(images, sampler), sampler, facts)


def place_images(loader: DataLoader[TrainingBatch], device: torch.device, on_device: str) -> None:
    """Put a loader's images where the device gets at them soonest; ``on_device`` as ``data.on_device``.

    On a GPU they stay there as a whole, or each batch is copied from pinned memory, which waits for nothing.
    """
    dataset = cast("PackDataset", loader.dataset)
    if on_device == "auto" and device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        on_device = "always" if dataset.nbytes <= free // 4 else "never"
    if on_device == "always":
        dataset.keep_on(device)
        logger.info("%d MB of images and masks stay on %s", dataset.nbytes // 10**6, device)
    else:
        loader.pin_memory = device.type == "cuda"


def rank_and_world_size(recipe: Recipe) -> tuple[int, int]:
    """(rank, number of processes), before Lightning has started them."""
    world = recipe.trainer.devices * recipe.trainer.num_nodes
    return (run_folder.process_rank() if world > 1 else 0), world


def train_rows(recipe: Recipe, data: PreparedData) -> NDArray[np.int64]:
    """Rows of the training split, less those that the settings leave out.

    They are ``data.exclude``, the part that ``data.fold`` names, and all but a seeded choice of
    ``data.train_limit``.
    """
    rows = data.indices("train")
    if (exclusions := _exclusions(recipe, data)) is not None:
        rows = np.array([row for row in rows if data.manifest[row].image_id not in exclusions.crossing], int)
    if recipe.data.fold is not None:
        part, parts = split_fold(recipe.data.fold)
        rows = np.array([row for row in rows if part_of(data.manifest[row], parts) != part], int)
    limit = recipe.data.train_limit
    if limit is None or limit >= len(rows):
        return rows
    return np.sort(np.random.default_rng(recipe.seed).choice(rows, limit, replace=False))


def style_names(recipe: Recipe, data: PreparedData) -> tuple[str, ...]:
    """The styles that a recipe's student is told, by name; none where it is not to be told.

    Raises:
        DataError: It is, and no training image has a style.
    """
    if not recipe.style.enabled:
        return ()
    names = sorted({data.manifest[row].style for row in train_rows(recipe, data)} - {""})
    if not names:
        raise DataError(
            f"No training image of {data.name} has a style.",
            "a column style in the manifest that it was prepared with",
            "Prepare it again with one (docs/how-to/own-data.md), or set --style.no-enabled.",
        )
    return tuple(names)


def _exclusions(recipe: Recipe, data: PreparedData) -> Exclusions | None:
    return read_exclusions(recipe.data.exclude, [data.name]) if recipe.data.exclude is not None else None


def _data_facts(recipe: Recipe, data: PreparedData) -> dict[str, Any]:
    """The data set for the card; with ``data.exclude`` also how many images it took out, and its hash;
    with ``data.fold`` the part that was left out."""
    facts: dict[str, Any] = {"name": data.name, "fingerprint": data.fingerprint}
    if (generated := drawn_by(data)) is not None:
        facts["generated"] = generated
    if (exclusions := _exclusions(recipe, data)) is not None:
        ids = [data.manifest[row].image_id for row in data.indices("train")]
        count = len(exclusions.crossing.intersection(ids))
        logger.info("%s: %d training images are left out", exclusions.path, count)
        facts |= {"excluded": count, "exclude_sha256": exclusions.sha256}
    if recipe.data.fold is not None:
        facts["fold"] = recipe.data.fold
    return facts
