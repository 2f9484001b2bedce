"""An arm's cells → its result, over its seeds: scores, calibration, agreement, subgroups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dermdistill.evaluation.per_image import MEASURES, bounds_of
from dermdistill.evaluation.subgroups import by_subgroup
from dermdistill.metrics.calibration import DEFINITION
from dermdistill.metrics.intervals import Interval, Values, mean_interval
from dermdistill.study.schema import ArmResult
from dermdistill.study.scored_cells import PRIMARY, CellResult, stack
from dermdistill.study.scores import (
    Calibration,
    CalibrationBin,
    LevelScore,
    Score,
    SubgroupScores,
    TeacherAgreement,
)


def arm_result(
    name: str, title: str, verb: str, overrides: dict[str, Any], cells: Sequence[CellResult]
) -> ArmResult:
    """An arm over its seeds.

    Args:
        name: Of the arm.
        title: For tables; empty: its name.
        verb: train, distill, or given (a finished run that was only scored).
        overrides: Its settings on top of the study's recipe.
        cells: Its seeds, one or more, scored on the same images.
    """
    first = cells[0]
    seconds = [cell.seconds for cell in cells if cell.seconds is not None]
    model = first.summary["model"]
    return ArmResult(
        name=name,
        title=title or name,
        role=model["role"],
        verb=verb,
        overrides=overrides,
        seeds=tuple(cell.seed for cell in cells),
        model_arch=model["arch"],
        parameters=model["parameters"],
        macs=model["macs"],
        size_bytes=model["bytes"],
        input_size=model["input_size"],
        epochs=first.epochs,
        steps=first.steps,
        seconds=float(np.mean(seconds)) if seconds and verb != "given" else None,
        scores={measure: _score(stack(cells, measure), measure) for measure in MEASURES},
        dice_pooled=float(np.mean([cell.summary["dice_pooled"] for cell in cells])),
        failures=float(np.mean([cell.summary["failures"]["count"] for cell in cells])),
        calibration=_calibration(cells),
        agreement=_agreement(cells),
        subgroups=_by_subgroup(cells),
        cells=tuple(cell.score() for cell in cells),
    )


def _score(values: Values, measure: str) -> Score:
    interval = mean_interval(values.mean(axis=0), bounds=bounds_of(measure))
    by_seed = tuple(float(v) for v in values.mean(axis=1))
    return Score(interval.mean, interval.low, interval.high, interval.n, by_seed)


def _by_subgroup(cells: Sequence[CellResult]) -> dict[str, SubgroupScores]:
    found = by_subgroup(cells[0].images, {PRIMARY: stack(cells, PRIMARY).mean(axis=0)})
    return {
        name: SubgroupScores(
            label=one["label"],
            note=one["note"],
            levels=tuple(LevelScore.model_validate(level) for level in one["levels"]),
        )
        for name, one in found.items()
    }


def _calibration(cells: Sequence[CellResult]) -> Calibration:
    """ECE averaged over seeds; the bins of all seeds together, for one reliability figure."""
    each = [Calibration.model_validate(cell.summary["calibration"]) for cell in cells]
    bins = tuple(_merged(same) for same in zip(*(one.bins for one in each), strict=True))
    errors = tuple(one.ece for one in each)
    return Calibration(ece=float(np.mean(errors)), by_seed=errors, definition=DEFINITION, bins=bins)


def _merged(bins: Sequence[CalibrationBin]) -> CalibrationBin:
    """The same bin of several seeds as one."""
    share, pixels = sum(one.share for one in bins), sum(one.pixels for one in bins)
    held = [one for one in bins if one.pixels]
    return CalibrationBin(
        low=bins[0].low,
        high=bins[0].high,
        share=share / len(bins),
        pixels=pixels,
        confidence=sum((one.confidence or 0.0) * one.share for one in held) / share if pixels else None,
        accuracy=sum((one.accuracy or 0.0) * one.share for one in held) / share if pixels else None,
    )


def _agreement(cells: Sequence[CellResult]) -> TeacherAgreement | None:
    each = [cell.summary["agreement"] for cell in cells]
    if not all(each):
        return None

    def mean(column: str) -> Interval:
        return mean_interval(np.mean([cell.images[column] for cell in cells], axis=0))

    return TeacherAgreement(
        teacher=each[0]["teacher"],
        taught=all(one["taught"] for one in each),
        dice=mean("agreement_dice"),
        difference=mean("agreement_difference"),
    )
