"""Cross-validation: the folds of an arm put together, into out-of-fold scores and into one network.

Each image is scored by the one network that was trained without it and the other images of its lesion or
patient. The networks of all folds together (`dermdistill.models.ensemble`) are what one would use; no image
of the folds can score that ensemble, since most of its members have seen it: the test images can.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dermdistill.artifacts.card import ModelCard, TeacherRecord, make_card
from dermdistill.core.files import atomic_path, hash_file, write_json
from dermdistill.data.dataset import OUT_OF_FOLD
from dermdistill.evaluation.inter_rater import InterRaterAgreement
from dermdistill.evaluation.per_image import PerImage
from dermdistill.evaluation.summary import summarise
from dermdistill.metrics.calibration import Reliability, add_up
from dermdistill.study.cells import is_done, make_job
from dermdistill.study.scored_cells import CellResult, check_together
from dermdistill.study.settings import Cell, StudySettings, cell_folder, cell_recipe, folds_of

logger = logging.getLogger(__name__)

PROTOCOL = "each image is scored by the network that was trained without its part (out of fold)"


def merge_folds(
    settings: StudySettings, folds: Sequence[Mapping[str, Sequence[CellResult]]]
) -> dict[str, list[CellResult]]:
    """The cells of each arm and seed of which all folds are scored, as one cell each.

    Args:
        settings: The study.
        folds: Of each fold, the scored cells by arm.

    Returns:
        By arm, in the study's order; what is written for a cell lies in ``STUDY/out-of-fold/ARM-seedS``.
    """
    merged: dict[str, list[CellResult]] = {}
    for arm in dict.fromkeys(arm for cells in folds for arm in cells):
        by_seed = [{cell.seed: cell for cell in cells.get(arm, ())} for cells in folds]
        for seed in by_seed[0]:
            parts = [cells[seed] for cells in by_seed if seed in cells]
            if len(parts) == len(folds):
                merged.setdefault(arm, []).append(_merge(settings, Cell(arm, seed), parts))
    check_together([cell for cells in merged.values() for cell in cells])
    return merged


def _merge(settings: StudySettings, cell: Cell, parts: list[CellResult]) -> CellResult:
    first = parts[0]
    images, order = _concatenate([part.images for part in parts])
    folder = settings.folder / OUT_OF_FOLD / cell.name
    sizes = [len(part.images) for part in parts]
    reliability = add_up(
        [Reliability.from_json(p.summary["calibration"], n) for p, n in zip(parts, sizes, strict=True)]
    )
    agreements = [part.summary["agreement"] for part in parts]
    taught = all(agreements) and all(one["taught"] for one in agreements)
    names = ("data", "threshold", "model", "device", "versions")
    people = first.summary["human"]
    summary = summarise(
        images,
        calibration=reliability.to_json(),
        teacher={"teacher": f"teacher, {len(parts)} folds", "taught": taught} if all(agreements) else None,
        inter_rater_agreement=InterRaterAgreement(**people) if people else None,
        about={
            **{name: first.summary[name] for name in names},
            "split": OUT_OF_FOLD,
            "images": len(images),
            "run": cell.name,
            "folds": [part.summary["weights_sha256"] for part in parts],
            "seconds": sum(part.summary["seconds"] for part in parts),
        },
        folder=folder,
    ).to_json()
    images.write(folder / "per_image.csv")
    _merge_masks([settings.folder / part.evaluation for part in parts], order, folder / "masks.npz")
    write_json(folder / "summary.json", summary)
    seconds = [part.seconds for part in parts if part.seconds is not None]
    return dataclasses.replace(
        first,
        evaluation=f"{OUT_OF_FOLD}/{cell.name}",
        summary=summary,
        images=images,
        measures=images.measures(),
        seconds=sum(seconds) if seconds else None,
        folds=tuple(part.score() for part in parts),
    )


def _concatenate(parts: Sequence[PerImage]) -> tuple[PerImage, list[int]]:
    """All rows, by image, with the fold that each was left out of; and their order."""
    ids = [name for part in parts for name in part.image_id]
    order = sorted(range(len(ids)), key=lambda place: ids[place])
    columns = {
        name: np.concatenate([part[name] for part in parts])[order]
        for name in parts[0].columns
        if all(name in part for part in parts)
    }
    columns["fold"] = np.repeat(np.arange(len(parts), dtype=float), [len(part) for part in parts])[order]
    labels = {
        name: [texts[place] for place in order]
        for name in parts[0].labels
        if (texts := [text for part in parts for text in part.labels[name]])
    }
    return PerImage([ids[place] for place in order], columns, labels), order


def _merge_masks(folders: Sequence[Path], order: list[int], path: Path) -> None:
    """One file of the predicted masks, for the report's pictures."""
    packed = []
    for folder in folders:
        with np.load(folder / "masks.npz", allow_pickle=False) as archive:
            packed.append({name: archive[name] for name in ("image_id", "mask", "size")})
    names, masks = (np.concatenate([one[key] for one in packed])[order] for key in ("image_id", "mask"))
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, image_id=names, mask=masks, size=packed[0]["size"])


def write_ensembles(settings: StudySettings) -> list[Path]:
    """Write the folds' networks of each student arm and seed as one run folder, where all are trained.

    Returns:
        The folders, ``STUDY/ensembles/ARM-seedS``: weights and card, as `load_run` reads them.
    """
    written = []
    for arm in settings.arms:
        for seed in settings.seeds:
            cells = [Cell(arm, seed, fold) for fold in folds_of(settings)]
            if all(is_done(make_job(settings, cell, recipe=False)) for cell in cells):
                folder = settings.folder / "ensembles" / Cell(arm, seed).name
                arch = cell_recipe(settings, cells[0]).trained_arch
                write_ensemble([cell_folder(settings, cell) for cell in cells], folder, arch)
                written.append(folder)
    if written:
        logger.info("the folds as one network: %s", ", ".join(map(str, written)))
    return written


def write_ensemble(runs: Sequence[Path], folder: Path, arch: str | None = None) -> ModelCard:
    """Write several runs of one kind of network as one run folder: the mean of their probabilities.

    Args:
        runs: Run folders, at least two.
        folder: Where weights and card go.
        arch: As for `load_run`, of a network of the user's own.

    Raises:
        MismatchError: The networks are of several kinds.
    """
    import torch

    from dermdistill.models.ensemble import as_one_network
    from dermdistill.models.torch_backend import load_run

    nets, cards = zip(*(load_run(run, arch) for run in runs), strict=True)
    hashes = [card.weights_sha256 for card in cards]
    if (folder / "card.json").is_file():
        known = ModelCard.read(folder / "card.json")
        if known.dataset.get("members") == hashes:
            return known
    net, first = as_one_network(list(nets)), cards[0]
    weights = folder / first.weights
    with atomic_path(weights) as temporary, temporary.open("wb") as stream:
        torch.save(net.net.state_dict(), stream)
    facts: dict[str, Any] = {key: value for key, value in first.dataset.items() if key != "fold"}
    teachers = tuple(teacher for card in cards if card.teacher for teacher in card.teacher.teachers)
    card = make_card(
        role=first.role, model=net.spec.to_dict(), input_size=first.input_size, mean=first.mean,
        std=first.std, threshold=first.threshold, weights=weights.name, weights_sha256=hash_file(weights),
        dataset={**facts, "members": hashes}, recipe=folder.name, seed=first.seed,
        parameters=sum(card.parameters for card in cards),
        teacher=TeacherRecord(fine_tuned=True, mean_of=teachers) if teachers else None,
    )  # fmt: skip
    card.write(folder / "card.json")
    return card
