"""Pictures of a run's work: best, median and worst cases, failures, chosen images side by side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dermdistill import imaging
from dermdistill.core.errors import DataError, UsageError
from dermdistill.data.dataset import PreparedData
from dermdistill.evaluation import run_predictions
from dermdistill.imaging import UInt8Array
from dermdistill.visualization import panels

MOST_FAILURES = 24
"""In the picture, the worst first; summary.json lists all."""

Floats = NDArray[np.float64]


def draw_cases(
    path: Path, data: PreparedData, rows: NDArray[np.int64], masks: UInt8Array, dice: Floats, each: int = 4
) -> None:
    """Best, median and worst cases by Dice, ``each`` of them.

    Args:
        path: PNG to write.
        data: The data set.
        rows: Of the images scored, [n].
        masks: Predicted, at the pack's size, {0, 1} uint8 [n, s, s].
        dice: Per image, [n].
        each: Cases per row.
    """
    order = np.argsort(dice, kind="stable")
    some = min(each, len(order))
    middle = max(0, len(order) // 2 - some // 2)
    chosen = {"best": order[::-1][:some], "median": order[middle : middle + some], "worst": order[:some]}
    cases = {title: _cases(places, data, rows, masks, dice) for title, places in chosen.items()}
    panels.case_grid(path, cases)


def draw_failures(
    path: Path, data: PreparedData, rows: NDArray[np.int64], masks: UInt8Array, jaccard: Floats, below: float
) -> None:
    """The images with a Jaccard under ``below``, worst first; an older picture goes when there are none."""
    order = np.argsort(jaccard, kind="stable")
    failed = order[jaccard[order] < below]
    if not len(failed):
        path.unlink(missing_ok=True)
        return
    cases = _cases(failed[:MOST_FAILURES], data, rows, masks, jaccard)
    shown = f", the worst {len(cases)} of them" if len(cases) < len(failed) else ""
    title = f"{len(failed)} of {len(rows)} images below Jaccard {below}{shown}"
    panels.failure_grid(path, cases, title)


def figure_of_run(
    run: Path,
    *,
    ids: list[str] | None = None,
    count: int = 6,
    split: str = "val",
    data: str | None = None,
    root: Path | None = None,
    teacher: Path | None = None,
    arch: str | None = None,
    teacher_arch: str | None = None,
    seed: int = 0,
    out: Path | None = None,
    progress: bool = True,
) -> Path:
    """Image, truth and prediction side by side, for chosen ids or a seeded choice; the PNG's path.

    ``arch`` and ``teacher_arch`` are ``FILE.py:FACTORY`` of networks of the user's own, as for `load_run`.

    Raises:
        DataError: The split is empty.
        UsageError: An id is not in the split.

    Examples:
        >>> from pathlib import Path
        >>> from dermdistill import figure_of_run, load_recipe, prepare_phantom, train
        >>> data = prepare_phantom(Path("data"), count=10, size=32, progress=False)
        >>> recipe = load_recipe("student-phantom", {"data.size": 32, "trainer.epochs": 1})
        >>> run = train(recipe, progress=False)
        >>> figure_of_run(run, count=1, progress=False).name
        'val.png'
    """
    student = run_predictions.load(run, arch)
    prepared = run_predictions.data_of(student, data, root, progress=progress)
    rows = prepared.indices(split)
    if not len(rows):
        raise DataError(
            f"{prepared.name} has no {split} images.", "a split with images", "Choose another --split."
        )
    if ids:
        known = {prepared.manifest[row].image_id: row for row in rows.tolist()}
        if absent := [name for name in ids if name not in known]:
            raise UsageError(
                f"{', '.join(absent)} is not in the {split} split of {prepared.name}.",
                f"ids such as {', '.join(list(known)[:3])}",
                "Choose ids of this split, or another --split.",
            )
        rows = np.array([known[name] for name in ids])
    else:
        rows = np.sort(np.random.default_rng(seed).permutation(rows)[:count])
    teachers = None
    if teacher is not None:
        other = run_predictions.load(teacher, teacher_arch)
        at_its_size = run_predictions.data_of(other, prepared.name, prepared.folder.parent)
        drawn = run_predictions.masks(other, at_its_size, rows)
        teachers = np.stack([imaging.resize_mask(mask, prepared.size) for mask in drawn])
    path = out or student.folder / "figures" / f"{split}.png"
    panels.side_by_side(
        path,
        [prepared.manifest[row].image_id for row in rows.tolist()],
        prepared.images[rows],
        prepared.masks[rows],
        run_predictions.masks(student, prepared, rows),
        teachers,
    )
    return path


def _cases(
    places: NDArray[np.int64], data: PreparedData, rows: NDArray[np.int64], masks: UInt8Array, score: Floats
) -> list[panels.Case]:
    found = []
    for place in places.tolist():
        row = int(rows[place])
        name = data.manifest[row].image_id
        found.append(panels.Case(name, float(score[place]), data.images[row], data.masks[row], masks[place]))
    return found
