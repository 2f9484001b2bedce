"""Score anything on one's own pictures: the shipped student, a model file, or masks that any tool wrote.

Without PyTorch and scipy; one picture is held at a time, so memory does not grow with their number.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from dermdistill import imaging
from dermdistill.core.errors import DataError, UsageError
from dermdistill.core.files import write_json, write_text
from dermdistill.data.dataset import labels_of, read_info, read_manifest
from dermdistill.data.prediction_files import predictions_by_name, read_prediction
from dermdistill.data.prepare.pairing import listed
from dermdistill.evaluation.folder_evaluation import Draw, FolderEvaluation
from dermdistill.evaluation.folder_summary import (
    agreement_of,
    describe,
    means,
    subgroup_scores,
    warnings_of,
)
from dermdistill.evaluation.mask_files import read_true_masks
from dermdistill.evaluation.matching import ONE, Matched, Sample
from dermdistill.evaluation.page import to_html
from dermdistill.evaluation.per_image import PerImage
from dermdistill.evaluation.score_pair import Scored, Unscored, score_arrays, score_files
from dermdistill.imaging import UInt8Array
from dermdistill.imaging.find import name_key
from dermdistill.imaging.memory import keep_freed_memory
from dermdistill.inference.predictor import Predictor
from dermdistill.metrics import calibration
from dermdistill.metrics.intervals import mean_interval
from dermdistill.metrics.overlap import Counts

logger = logging.getLogger(__name__)

ALONE = 200
"""Fewer predictions are scored in this process: starting others takes longer."""


def score_folders(
    model: Predictor | None,
    matched: Matched,
    *,
    name: str,
    data: str,
    out: Path,
    split: str = "all",
    source: dict[str, Any] | None = None,
    mm_per_pixel: float | None = None,
    threshold: float = 0.5,
    strict: bool = False,
    batch_size: int = 8,
    workers: int | None = None,
    progress: bool = True,
) -> FolderEvaluation:
    """Score a model, or predictions that lie in files; write per_image.csv, summary.json and index.html.

    Args:
        model: What makes the predictions; None: the samples' prediction files.
        matched: The samples.
        name: Of what is scored.
        data: Of the pictures.
        out: Folder for the results.
        split: Of the pictures, for the record.
        source: Where model and files lie, for the record: `compare` draws from it.
        mm_per_pixel: Side of a pixel in millimetres; None: unknown, or in the manifest's column.
        threshold: For prediction files that are maps; a model has its own.
        strict: Refuse predictions that are missing, or of another size than the truth.
        batch_size: Images that a network gets at once.
        workers: Processes that score files; None: one per core.
        progress: Show a bar.

    Raises:
        DataError: There is nothing to score; or, where it is strict, something is missing or resampled.
    """
    started = time.perf_counter()
    results = (
        _score_files(matched.samples, threshold, mm_per_pixel, workers)
        if model is None
        else _score_model(model, matched.samples, mm_per_pixel, batch_size)
    )
    scored: list[Scored] = []
    unscored: dict[str, str] = {}
    parts = []
    with tqdm(results, total=len(matched.samples), desc=data, unit="image", disable=not progress) as bar:
        for result in bar:
            if isinstance(result, Unscored):
                unscored[result.image_id] = result.reason
                logger.warning("%s: %s", result.image_id, result.reason)
                continue
            if result.reliability is not None:
                parts.append(result.reliability)
            scored.append(dataclasses.replace(result, reliability=None))
    if not scored:
        reasons = "; ".join(list(unscored.values())[:3]) or "there are none"
        raise DataError(
            f"No picture could be scored: {reasons}.", "at least one", "Check the files named here."
        )
    missing = {one.image_id: one.note for one in scored if one.missing}
    resampled = [one.image_id for one in scored if one.resampled]
    if strict and (missing or resampled or unscored):
        what = listed([*missing, *unscored, *resampled], 3)
        raise DataError(
            f"{len(missing) + len(unscored)} predictions are missing and {len(resampled)} have "
            "another size than "
            f"the truth: {what}.",
            "a prediction for each picture, of its truth's size",
            "Make them so, or leave --strict out.",
        )
    images = _table(scored, {sample.image_id: sample for sample in matched.samples})
    evaluation = FolderEvaluation(
        images=images,
        scores=means(images),
        by_subgroup=subgroup_scores(images, pictures=matched.samples[0].image is not None),
        calibration=calibration.add_up(parts).to_json() if parts else None,
        raters={
            column.removeprefix("dice_vs_"): mean_interval(values[np.isfinite(values)])
            for column, values in images.columns.items()
            if column.startswith("dice_vs_")
        },
        inter_rater_agreement=agreement_of(images),
        missing=missing,
        unscored=unscored,
        resampled=resampled,
        partnerless=matched.partnerless(),
        about={
            **describe(model, images, name, data, split, threshold, time.perf_counter() - started),
            "source": source,
        },
        warnings=warnings_of(images),
        folder=out,
        draw=drawer(model, matched, threshold),
    )
    write(evaluation)
    return evaluation


def write(evaluation: FolderEvaluation) -> None:
    """Write per_image.csv, index.html and, last, summary.json."""
    out = evaluation.folder
    evaluation.images.write(out / "per_image.csv")
    write_text(out / "index.html", to_html(evaluation))
    write_json(out / "summary.json", evaluation.to_json())


def match_prepared(name: str, root: Path, split: str, predictions: Path | None) -> Matched:
    """The samples of one split of a prepared data set, from the files that it was prepared from.

    Raises:
        DataError: There is no such data set, or its split is empty or has no masks.
    """
    folder = root / name
    read_info(folder)
    rows = [row for row in read_manifest(folder / "manifest.csv") if row.split == split and row.mask]
    if not rows:
        raise DataError(
            f"{name} has no {split} images with masks.", "a split with images", "Choose another --split."
        )
    labels = labels_of(rows)
    samples = [
        Sample(
            row.image_id, {ONE: folder / row.mask}, folder / row.image, None,
            {name: values[i] for name, values in labels.items()},
        )
        for i, row in enumerate(rows)
    ]  # fmt: skip
    if predictions is None:
        return Matched(samples, [], [], [])
    files = predictions_by_name(predictions)
    samples = [dataclasses.replace(s, prediction=files.get(name_key(s.image_id))) for s in samples]
    return Matched(samples, [], [], sorted(files.keys() - {name_key(s.image_id) for s in samples}))


def drawer(model: Predictor | None, matched: Matched, threshold: float) -> Draw:
    """Return a function that makes picture, true mask and prediction of an image id anew, to be drawn."""
    return functools.partial(_draw, model, {s.image_id: s for s in matched.samples}, threshold)


def _score_files(
    samples: Sequence[Sample], threshold: float, mm_per_pixel: float | None, workers: int | None
) -> Iterator[Scored | Unscored]:
    work = functools.partial(score_files, threshold=threshold, mm_per_pixel=mm_per_pixel)
    workers = workers or os.cpu_count() or 1
    keep_freed_memory()
    if workers == 1 or len(samples) < ALONE:
        yield from map(work, samples)
        return
    # Not forked: this process has threads already (the bar's, perhaps a network's).
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=keep_freed_memory) as pool:
        yield from pool.map(work, samples, chunksize=min(50, 1 + len(samples) // (4 * workers)))


def _score_model(
    model: Predictor, samples: Sequence[Sample], mm_per_pixel: float | None, batch_size: int
) -> Iterator[Scored | Unscored]:
    if any(sample.image is None for sample in samples):
        raise UsageError(
            "A model needs pictures.",
            "--images DIR",
            "Name the folder of the pictures, or --predictions DIR for masks that exist.",
        )
    paths = [sample.image for sample in samples if sample.image is not None]
    predictions = model.predict_many(paths, batch_size)
    for sample, (path, prediction) in zip(samples, predictions, strict=True):
        if isinstance(prediction, DataError):
            yield Unscored(sample.image_id, prediction.found)
            continue
        try:
            masks = read_true_masks(sample)
            image = imaging.read_image(path, near=256)
        except DataError as error:
            yield Unscored(sample.image_id, error.found)
            continue
        yield score_arrays(sample, masks, prediction.prob, model.card.threshold, image, mm_per_pixel)


def _draw(
    model: Predictor | None, samples: dict[str, Sample], threshold: float, image_id: str
) -> tuple[UInt8Array | None, UInt8Array, UInt8Array]:
    """The picture, the true mask of the majority and the prediction, at the truth's size."""
    from dermdistill.evaluation.score_pair import majority

    sample = samples[image_id]
    true_mask = majority(list(read_true_masks(sample).values()))
    image = None if sample.image is None else imaging.read_image(sample.image)
    if model is not None and sample.image is not None:
        prob = imaging.restore_prob(model(sample.image).prob, *true_mask.shape)
        return image, true_mask, imaging.to_mask(prob, model.card.threshold)
    try:
        if sample.prediction is None:
            raise DataError("No prediction.", "a file", "Make one.")
        made = read_prediction(sample.prediction).astype(np.float32)
    except DataError:
        return image, true_mask, np.zeros_like(true_mask)
    return image, true_mask, imaging.to_mask(imaging.restore_prob(made, *true_mask.shape), threshold)


def _table(scored: Sequence[Scored], samples: dict[str, Sample]) -> PerImage:
    measured = {key: np.array([one.measured[key] for one in scored]) for key in scored[0].measured}
    raters = sorted({rater for one in scored for rater in one.rater_dice})
    for rater in raters:
        measured[f"dice_vs_{rater}"] = np.array([one.rater_dice.get(rater, np.nan) for one in scored])
    if raters:
        measured["human_dice"] = np.array([one.human_dice for one in scored])
    measured = {
        key: values
        for key, values in measured.items()
        if np.isfinite(values).any() or key in ("contrast", "ita", "hair")
    }
    measured["missing"] = np.array([float(one.missing) for one in scored])
    measured["resampled"] = np.array([float(one.resampled) for one in scored])
    columns = list(samples[scored[0].image_id].labels)
    labels = {
        column: [samples[one.image_id].labels.get(column, "") for one in scored]
        for column in columns
        if column not in measured
    }
    labels["truth"] = [one.truth for one in scored]
    counts = Counts(*np.array([one.counts for one in scored], dtype=np.int64).T)
    return PerImage.from_counts([one.image_id for one in scored], counts, measured=measured, labels=labels)
