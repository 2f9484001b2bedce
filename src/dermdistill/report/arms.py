"""The seeds of one arm, read from their run folders, become one `Arm`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dermdistill.core.errors import MismatchError
from dermdistill.evaluation.per_image import PerImage, bounds_of
from dermdistill.metrics.intervals import Interval, mean_interval
from dermdistill.metrics.overlap import THRESHOLD_JACCARD
from dermdistill.report.model import Arm, Cell
from dermdistill.report.run_files import RunFiles, read_calibration, read_interval

Key = tuple[str, str]
"""(data set, split) of an evaluation."""


def make_arm(name: str, runs: Sequence[RunFiles], key: Key | None) -> Arm:
    """One arm over its seeds.

    Args:
        name: Of the arm.
        runs: Its seeds, one or more.
        key: The evaluation to use; None: none.

    Raises:
        MismatchError: Two seeds were scored on different images.
    """
    first = runs[0]
    evaluation = first.evaluation(key) if key else None
    summary = evaluation.summary if evaluation else {}
    card, model = first.card, summary.get("model") or {}
    per_image = seed_mean(name, runs, key)
    weights = first.weights
    return Arm(
        name=name,
        role="teacher" if is_teacher(first) else "student",
        about=describe(first),
        distilled=bool(card and card.teacher),
        cells=tuple(_cell(run, key) for run in runs),
        steps=int(steps[-1])
        if (steps := [v for v in first.curve.get("step", []) if v is not None])
        else None,
        seconds=_mean_seconds(runs),
        parameters=card.parameters if card else model.get("parameters"),
        macs=model.get("macs"),
        size_bytes=weights.stat().st_size if weights else model.get("bytes"),
        input_size=card.input_size if card else model.get("input_size"),
        scores=_scores(runs, summary, per_image),
        agreement=_agreement(runs, summary, per_image),
        calibration=read_calibration(summary),
        per_image=per_image,
        failures=_failures(per_image),
        settings=first.settings,
    )


def describe(run: RunFiles) -> str:
    """``unet-small, alone`` or ``unet-small, distilled: kl 1, attention 0.5``."""
    if run.card is None:
        models = [evaluation.summary.get("model") or {} for evaluation in run.evaluations]
        return f"{models[0].get('arch')}, made elsewhere" if models else "not trained yet"
    model = run.card.model
    network = model.get("arch") or "unknown network"
    if model.get("encoder"):
        network += f" / {model['encoder']}"
    if run.card.role == "teacher":
        return f"{network}, fine-tuned"
    if not run.card.teacher:
        return f"{network}, alone"
    terms = ("kl", "channel_wise", "attention", "boundary")
    weights = [(term, run.settings.get(f"kd.{term}")) for term in terms]
    used = [f"{term.replace('_', '-')} {w:g}" for term, w in weights if isinstance(w, int | float) and w]
    several = run.card.teacher.mean_of
    kind = "cross-fitted teachers" if run.card.teacher.folds else "teachers"
    taught = f"distilled from {len(several)} {kind}" if several else "distilled"
    taught += ", asked once" if run.card.teacher.cached_logits else ""
    return f"{network}, {taught}" + (f": {', '.join(used)}" if used else "")


def is_teacher(run: RunFiles) -> bool:
    """By its card, its settings, or what was evaluated."""
    if run.card:
        return run.card.role == "teacher"
    models = [evaluation.summary.get("model") or {} for evaluation in run.evaluations]
    return run.settings.get("role") == "teacher" or any(model.get("role") == "teacher" for model in models)


def seed_mean(name: str, runs: Sequence[RunFiles], key: Key | None) -> PerImage | None:
    """Each image's scores, averaged over the seeds that were scored.

    Raises:
        MismatchError: Two seeds were scored on different images.
    """
    found = [e.per_image for run in runs if key and (e := run.evaluation(key))]
    if not found:
        return None
    first = found[0]
    for other in found[1:]:
        if other.image_id != first.image_id:
            apart = sorted(set(other.image_id) ^ set(first.image_id))[:3] or ["in another order"]
            raise MismatchError(
                f"The seeds of {name} were scored on different images ({', '.join(apart)}).",
                "the same images in the same order for each seed",
                "Run dermdistill evaluate again on the runs of this arm.",
            )
    shared = [column for column in first.columns if all(column in other.columns for other in found)]
    means = {column: np.mean([other.columns[column] for other in found], axis=0) for column in shared}
    return PerImage(first.image_id, means, first.labels)


def _cell(run: RunFiles, key: Key | None) -> Cell:
    evaluation = run.evaluation(key) if key else None
    return Cell(
        name=run.folder.name,
        seed=run.seed,
        folder=run.folder,
        finished=run.finished,
        curve=run.curve,
        best_epoch=run.card.epoch if run.card else None,
        weights_sha256=run.card.weights_sha256 if run.card else "",
        seconds=_mean_seconds([run]),
        scores=_of_summary(evaluation.summary) if evaluation else {},
    )


def _of_summary(summary: dict[str, Any]) -> dict[str, Interval]:
    return {name.removesuffix("_per_image_mean"): read_interval(v) for name, v in summary["scores"].items()}


def _scores(
    runs: Sequence[RunFiles], summary: dict[str, Any], per_image: PerImage | None
) -> dict[str, Interval]:
    """One seed: what ``evaluate`` wrote. Several: the same interval over each image's mean."""
    if not summary or per_image is None:
        return {}
    written = _of_summary(summary)
    if len(runs) == 1:
        return written
    return {
        name: mean_interval(per_image.columns[name], bounds=bounds_of(name))
        for name in written
        if name in per_image.columns
    }


def _agreement(
    runs: Sequence[RunFiles], summary: dict[str, Any], per_image: PerImage | None
) -> Interval | None:
    found = summary.get("agreement")
    if len(runs) == 1 and isinstance(found, dict):
        return read_interval(found["dice"])
    values = per_image.columns.get("agreement_dice") if per_image else None
    return mean_interval(values) if values is not None and bool(np.isfinite(values).all()) else None


def _failures(per_image: PerImage | None) -> tuple[str, ...]:
    """Images below the official threshold, worst first."""
    if per_image is None or "jaccard" not in per_image.columns:
        return ()
    jaccard = per_image.columns["jaccard"]
    order = np.argsort(jaccard, kind="stable").tolist()
    return tuple(per_image.image_id[i] for i in order if jaccard[i] < THRESHOLD_JACCARD)


def _mean_seconds(runs: Sequence[RunFiles]) -> float | None:
    times = [[v for v in run.curve.get("seconds", []) if v is not None] for run in runs]
    return sum(sum(t) for t in times) / len(times) if all(times) else None
