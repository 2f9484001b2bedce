"""Score a run by the official ISIC protocol, and draw what it got right and wrong.

Per image, at the native size of its mask, mean over images. Nothing is chosen here: the weights were chosen
on validation, the threshold is the card's.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dermdistill import imaging
from dermdistill.artifacts import run_folder
from dermdistill.artifacts.card import ModelCard, versions
from dermdistill.config.settings import split_fold
from dermdistill.core.errors import DataError, DermDistillError, MismatchError
from dermdistill.core.files import atomic_path, write_json
from dermdistill.data.dataset import OUT_OF_FOLD, PreparedData, labels_of
from dermdistill.data.prepare.split import part_of
from dermdistill.evaluation import gallery, run_predictions
from dermdistill.evaluation.image_difficulty import Appearance, measure
from dermdistill.evaluation.inter_rater import find_agreement
from dermdistill.evaluation.per_image import AGREEMENT, OUTLINES, PerImage
from dermdistill.evaluation.run_predictions import Loaded
from dermdistill.evaluation.summary import Summary, summarise
from dermdistill.imaging import Float32Array, UInt8Array
from dermdistill.metrics import calibration
from dermdistill.metrics.boundary import outline_scores
from dermdistill.metrics.overlap import SCORES, THRESHOLD_JACCARD, Counts, count, scores
from dermdistill.models.complexity import count_macs
from dermdistill.visualization import panels

logger = logging.getLogger(__name__)


def evaluate(
    run: Path,
    *,
    data: str | None = None,
    split: str = "test",
    root: Path | None = None,
    out: Path | None = None,
    teacher: Path | None = None,
    human: str | None = None,
    arch: str | None = None,
    teacher_arch: str | None = None,
    batch_size: int = 16,
    progress: bool = True,
) -> Summary:
    """Score a run on a split; write per_image.csv, masks.npz, summary.json and the figures.

    Args:
        run: Run folder, or a weights file with its card beside it.
        data: Prepared data set; None: the one it was trained on.
        split: train, val, test; or out-of-fold: the training images that it was trained without.
        root: Folder of the prepared data sets; None: the run's.
        out: Where to write; None: ``RUN/evaluation/DATA-SPLIT``.
        teacher: Run to measure agreement with; None: the one that taught it, where it is found beside it.
        human: As for `find_agreement`.
        arch: ``FILE.py:FACTORY`` of a run of a network of the user's own, which is run; see `load_run`.
        teacher_arch: Likewise of the teacher's run.
        batch_size: Images at once.
        progress: Show a bar.

    Raises:
        DataError: The split is empty, or files are gone.
        MismatchError: The weights are not those of the card; or out-of-fold, on other data or without a fold.
        UsageError: The run is of a network of the user's own, and its file is not named.

    Examples:
        >>> from pathlib import Path
        >>> from dermdistill import evaluate, load_recipe, prepare_phantom, train
        >>> data = prepare_phantom(Path("data"), count=10, size=32, progress=False)
        >>> recipe = load_recipe("student-phantom", {"data.size": 32, "trainer.epochs": 1})
        >>> run = train(recipe, progress=False)
        >>> summary = evaluate(run, progress=False)
        >>> (run / "evaluation" / "phantom-test" / "per_image.csv").exists()
        True
    """
    started = time.perf_counter()
    loaded = run_predictions.load(run, arch)
    prepared = run_predictions.data_of(loaded, data, root, progress=progress)
    prepared.need_masks()
    rows = _left_out(loaded.card, prepared) if split == OUT_OF_FOLD else prepared.indices(split)
    if not len(rows):
        raise DataError(
            f"{prepared.name} has no {split} images.", "a split with images", "Choose another --split."
        )
    people = find_agreement(human, prepared.info)
    teaching = _teaching(loaded, teacher, teacher_arch)
    images, masks, reliability = _score(loaded, prepared, rows, teaching, batch_size, progress)
    folder = out or loaded.folder / "evaluation" / f"{prepared.name}-{split}"
    summary = summarise(
        images,
        calibration=reliability.to_json(),
        teacher=None if teaching is None else _agreeing(loaded.card, teaching),
        inter_rater_agreement=people,
        about=_about(loaded, prepared, split, len(rows), started),
        folder=folder,
    )
    _write(summary, images, masks, prepared, rows)
    if run.is_dir():
        means = {f"{name}_per_image_mean" for name in SCORES}  # the card holds fractions alone, not hd95
        written = {name: dataclasses.asdict(value) for name, value in summary.scores.items() if name in means}
        entry = {f"{split}:{prepared.name}": written}
        card = loaded.card.model_copy(update={"scores": {**loaded.card.scores, **entry}})
        card.write(loaded.folder / "card.json")
    return summary


def _left_out(card: ModelCard, data: PreparedData) -> NDArray[np.int64]:
    """Rows of the part of the training images that a run was trained without, int64."""
    if "fold" not in card.dataset or card.dataset["fingerprint"] != data.fingerprint:
        raise MismatchError(
            f"The run was trained on {card.dataset['name']}"
            + (
                ", without the part " + card.dataset["fold"]
                if "fold" in card.dataset
                else ", all parts of it"
            )
            + f"; {data.name} is to be scored out of fold.",
            "a run with data.fold, on its own data",
            "Score it on another --split.",
        )
    part, parts = split_fold(card.dataset["fold"])
    rows = [row for row in data.indices("train").tolist() if part_of(data.manifest[row], parts) == part]
    return np.array(rows, dtype=np.int64)


def _score(
    loaded: Loaded,
    data: PreparedData,
    rows: NDArray[np.int64],
    teaching: Loaded | None,
    batch_size: int,
    progress: bool,
) -> tuple[PerImage, UInt8Array, calibration.Reliability]:
    """Each image's counts and measures; the masks at the pack's size; the reliability of all pixels."""
    counts = np.zeros((len(rows), 4), dtype=np.int64)
    measured: list[dict[str, float]] = []
    masks, parts = np.zeros((len(rows), data.size, data.size), dtype=np.uint8), []
    probabilities = run_predictions.probabilities(
        loaded.backend, data, rows, batch_size=batch_size, progress=progress
    )
    teacher_probabilities = _teacher_probabilities(teaching, data, rows, batch_size)
    for i, ((row, small), teacher_prob) in enumerate(zip(probabilities, teacher_probabilities, strict=True)):
        true_mask = data.native_mask(row)
        prob = imaging.restore_prob(small, *true_mask.shape)
        mask = imaging.to_mask(prob, loaded.card.threshold)
        counts[i] = count(mask, true_mask)
        masks[i] = imaging.to_mask(small, loaded.card.threshold)
        parts.append(calibration.reliability(prob, true_mask))
        looks = dataclasses.asdict(_appearance(data, row))
        looks["lesion_fraction"] = data.manifest[row].mask_fraction  # at native size
        outlines = dict(zip(OUTLINES, outline_scores(mask, true_mask), strict=True))
        measured.append({**outlines, **_agreement(prob, mask, teacher_prob, teaching), **looks})
    manifest = [data.manifest[row] for row in rows.tolist()]
    images = PerImage.from_counts(
        [row.image_id for row in manifest],
        Counts(*counts.T),
        measured={name: np.array([values[name] for values in measured]) for name in measured[0]},
        labels=labels_of(manifest),
    )
    return images, masks, calibration.add_up(parts)


def _appearance(data: PreparedData, row: int) -> Appearance:
    return measure(data.images[row], data.masks[row])


def _teacher_probabilities(
    teaching: Loaded | None, data: PreparedData, rows: NDArray[np.int64], batch_size: int
) -> Iterator[Float32Array | None]:
    """Yield the teacher's probabilities of each row, at its own input size."""
    if teaching is None:
        yield from [None] * len(rows)
        return
    at_its_size = run_predictions.data_of(teaching, data.name, data.folder.parent)
    for _, prob in run_predictions.probabilities(teaching.backend, at_its_size, rows, batch_size=batch_size):
        yield prob


def _agreement(
    prob: Float32Array, mask: UInt8Array, teacher_prob: Float32Array | None, teaching: Loaded | None
) -> dict[str, float]:
    """Dice of the two masks, and mean absolute difference of the probabilities, at native size."""
    if teacher_prob is None or teaching is None:
        return dict.fromkeys(AGREEMENT, float("nan"))
    teacher_prob = imaging.restore_prob(teacher_prob, *prob.shape)
    counts = Counts(*np.array([count(mask, imaging.to_mask(teacher_prob, teaching.card.threshold))]).T)
    difference = float(np.abs(prob - teacher_prob).mean())
    return dict(zip(AGREEMENT, (float(scores(counts)["dice"][0]), difference), strict=True))


def _teaching(loaded: Loaded, given: Path | None, arch: str | None) -> Loaded | None:
    """The teacher to compare with: the one given, or the one that taught, where it still lies there."""
    if given is not None:
        return run_predictions.load(given, arch)
    record = loaded.card.teacher
    if record and (several := record.mean_of):
        logger.info(
            "%s was taught by the mean of %d teachers: agreement is measured with the one of --teacher RUN",
            loaded.folder.name, len(several),
        )  # fmt: skip
    if not record or not record.run:
        return None
    places = [loaded.folder.parent / record.run]
    if (loaded.folder / "config.yaml").is_file():
        named = run_folder.read_config(loaded.folder).teacher.run
        places += [named] if named else []
    for place in places:
        try:
            found = run_predictions.load(place, arch)
        except DermDistillError:
            continue
        if found.card.weights_sha256 == record.weights_sha256:
            return found
    logger.info(
        "%s was taught by %s, which is not found: agreement with it is not measured (--teacher RUN names it)",
        loaded.folder.name, record.run,
    )  # fmt: skip
    return None


def _agreeing(card: ModelCard, teaching: Loaded) -> dict[str, Any]:
    taught = card.teacher is not None and card.teacher.weights_sha256 == teaching.card.weights_sha256
    return {"teacher": teaching.folder.name, "taught": taught}


def _about(loaded: Loaded, data: PreparedData, split: str, images: int, started: float) -> dict[str, Any]:
    card = loaded.card
    return {
        "data": {"name": data.name, "fingerprint": data.fingerprint, "title": data.info.get("title")},
        "split": split,
        "images": images,
        "run": loaded.folder.name,
        "weights_sha256": card.weights_sha256,
        "trained_on": card.dataset,
        "threshold": card.threshold,
        "model": {
            "arch": card.model["arch"],
            "role": card.role,
            "parameters": card.parameters,
            "macs": count_macs(loaded.backend.net, card.input_size),
            "bytes": (loaded.folder / card.weights).stat().st_size,
            "input_size": card.input_size,
        },
        "device": str(loaded.backend.device),
        "versions": versions(),
        "seconds": round(time.perf_counter() - started, 2),
    }


def _write(
    summary: Summary, images: PerImage, masks: UInt8Array, data: PreparedData, rows: NDArray[np.int64]
) -> None:
    out, measures = summary.folder, images.measures()
    images.write(out / "per_image.csv")
    with atomic_path(out / "masks.npz") as temporary:
        np.savez_compressed(
            temporary, image_id=np.array(images.image_id), mask=np.packbits(masks, axis=-1), size=data.size
        )
    dice = summary.scores["dice_per_image_mean"]
    gallery.draw_cases(out / "cases.png", data, rows, masks, measures["dice"])
    gallery.draw_failures(out / "failures.png", data, rows, masks, measures["jaccard"], THRESHOLD_JACCARD)
    panels.dice_distribution(
        out / "dice_distribution.png", measures["dice"], (dice.mean, dice.low, dice.high)
    )
    panels.reliability(out / "reliability.png", summary.calibration)
    write_json(out / "summary.json", summary.to_json())  # last: where it is, the rest is
