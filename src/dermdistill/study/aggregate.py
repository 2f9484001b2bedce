"""A study's cells → study.json: arms, paired comparisons, strata. Reads files alone: it needs no torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dermdistill.artifacts.card import ModelCard
from dermdistill.core.errors import DataError, MismatchError
from dermdistill.core.files import read_csv, read_json
from dermdistill.evaluation.per_image import MEASURES, PerImage, bounds_of, read_per_image
from dermdistill.evaluation.subgroups import by_subgroup
from dermdistill.metrics import paired_tests
from dermdistill.metrics.calibration import DEFINITION
from dermdistill.metrics.intervals import Interval, Values, difference_interval, mean_interval

PRIMARY = "dice"
COMPARED = ("dice", "jaccard", "boundary_f", "hd95")
LOWER_IS_BETTER = ("hd95",)


@dataclass(frozen=True, eq=False)
class CellResult:
    """One scored cell."""

    seed: int
    run: str
    evaluation: str
    card: ModelCard
    summary: dict[str, Any]
    images: PerImage
    measures: dict[str, Values]
    steps: int | None
    epochs: int | None
    seconds: float | None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "seed": self.seed,
            "run": self.run,
            "evaluation": self.evaluation,
            "epoch": self.card.epoch,
            "steps": self.steps,
            "seconds": self.seconds,
            "weights_sha256": self.card.weights_sha256,
            "dice": float(self.measures[PRIMARY].mean()),
        }


def read_cell(study: Path, seed: int, run: Path, evaluation: Path) -> CellResult | None:
    """A cell's results, or None where it is not scored yet.

    Raises:
        MismatchError: The scores are those of other weights.
    """
    if not (evaluation / "summary.json").is_file() or not (run / "card.json").is_file():
        return None
    summary, card = read_json(evaluation / "summary.json"), ModelCard.read(run / "card.json")
    if summary["weights_sha256"] != card.weights_sha256:
        raise MismatchError(
            f"{evaluation} holds the scores of other weights than {run} has.",
            "scores of the weights that are there",
            "Run the study again without --collect: it scores them.",
        )
    images = read_per_image(evaluation / "per_image.csv", required=MEASURES)
    metrics = read_csv(run / "metrics.csv") if (run / "metrics.csv").is_file() else []
    last = metrics[-1] if metrics else None
    return CellResult(
        seed, _relative(run, study), _relative(evaluation, study), card, summary, images, images.measures(),
        steps=int(last["step"]) if last else None,
        epochs=int(last["epoch"]) if last else None,
        seconds=sum(float(row["seconds"]) for row in metrics) if metrics else None,
    )  # fmt: skip


def check_together(cells: Sequence[CellResult]) -> None:
    """Refuse cells that were not scored on the same images of the same data.

    Raises:
        MismatchError: With the two cells that differ.
    """
    first = cells[0]
    for cell in cells[1:]:
        same_data = cell.summary["data"]["fingerprint"] == first.summary["data"]["fingerprint"]
        if not same_data or cell.images.image_id != first.images.image_id:
            raise MismatchError(
                f"{cell.run} was scored on other images than {first.run}.",
                f"the {len(first.images)} images of {first.summary['data']['name']} "
                f"({first.summary['data']['fingerprint'][:12]})",
                "Slices of one study must use the same prepared data: delete that cell and run it again.",
            )


def arm_entry(
    arm: str, title: str, verb: str, overrides: dict[str, Any], cells: Sequence[CellResult]
) -> dict[str, Any]:
    """An arm's entry in study.json; see docs of the format."""
    first = cells[0]
    scores = {}
    for name in MEASURES:
        values = stack(cells, name)
        by_seed = [float(v) for v in values.mean(axis=1)]
        scores[name] = {
            **_plain(mean_interval(values.mean(axis=0), bounds=bounds_of(name))),
            "by_seed": by_seed,
        }
    seconds = [cell.seconds for cell in cells if cell.seconds is not None]
    model = first.summary["model"]
    return {
        "arm": arm,
        "title": title or arm,
        "role": model["role"],
        "verb": verb,
        "set": overrides,
        "seeds": [cell.seed for cell in cells],
        "model_arch": model["arch"],
        **{key: model[key] for key in ("parameters", "macs", "bytes", "input_size")},
        "epochs": first.epochs,
        "steps": first.steps,
        "seconds": float(np.mean(seconds)) if seconds and verb != "given" else None,
        "scores": scores,
        "dice_pooled": float(np.mean([cell.summary["dice_pooled"] for cell in cells])),
        "kept": None,
        "failures": float(np.mean([cell.summary["failures"]["count"] for cell in cells])),
        "calibration": _calibration(cells),
        "agreement": _agreement(cells),
        "by_stratum": _by_subgroup(cells),
        "cells": [cell.to_json() for cell in cells],
    }


def compare(
    arms: dict[str, list[CellResult]], baseline: str, teacher: str
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Each arm against the baseline: (comparisons, paired Dice differences by stratum).

    Student arms are paired by seed (the seeds that both have) and image. The teacher has no student's seed:
    means over seeds are paired, by image alone. Holm's correction is over the student arms.
    """
    if baseline not in arms:
        return [], {}
    found: list[dict[str, Any]] = []
    by_stratum: dict[str, Any] = {}
    for arm, cells in arms.items():
        if arm == baseline:
            continue
        mine, theirs = _matched(cells, arms[baseline], by_seed=arm != teacher)
        if not mine:
            continue
        pairs: dict[str, dict[str, Any]] = {}
        for name in COMPARED:
            a, b = stack(mine, name), stack(theirs, name)
            if arm == teacher:
                a, b = a.mean(axis=0, keepdims=True), b.mean(axis=0, keepdims=True)
            result = paired_tests.paired(
                a, b, higher_is_better=name not in LOWER_IS_BETTER, scale=bounds_of(name)[1]
            )
            pairs[name] = {**dataclasses.asdict(result), "p_holm": None}
        by_stratum[arm] = _differences_by_subgroup(mine, theirs)
        found.append(
            {
                "arm": arm, "baseline": baseline, "seeds": [cell.seed for cell in mine],
                "n": len(mine[0].images), "metrics": pairs,
            }
        )  # fmt: skip
    family = [entry for entry in found if entry["arm"] != teacher]
    for name in COMPARED:
        corrected = paired_tests.holm([entry["metrics"][name]["p_wilcoxon"] for entry in family])
        for entry, p in zip(family, corrected, strict=True):
            entry["metrics"][name]["p_holm"] = p
    return found, by_stratum


def stack(cells: Sequence[CellResult], name: str) -> Values:
    """One measure, float64 [seeds, images]."""
    return np.stack([cell.measures[name] for cell in cells])


def _matched(
    arm: list[CellResult], baseline: list[CellResult], *, by_seed: bool
) -> tuple[list[CellResult], list[CellResult]]:
    if not by_seed:
        return arm, baseline
    both = {cell.seed for cell in arm} & {cell.seed for cell in baseline}
    return [c for c in arm if c.seed in both], [c for c in baseline if c.seed in both]


def _differences_by_subgroup(arm: list[CellResult], baseline: list[CellResult]) -> dict[str, Any]:
    difference = stack(arm, PRIMARY).mean(axis=0) - stack(baseline, PRIMARY).mean(axis=0)
    found = by_subgroup(baseline[0].images, {PRIMARY: difference}, interval=difference_interval)
    return {
        name: [{"level": one["level"], "small": one["small"], **one[PRIMARY]} for one in subgroup["levels"]]
        for name, subgroup in found.items()
    }


def _by_subgroup(cells: Sequence[CellResult]) -> dict[str, Any]:
    return by_subgroup(cells[0].images, {PRIMARY: stack(cells, PRIMARY).mean(axis=0)})


def _calibration(cells: Sequence[CellResult]) -> dict[str, Any]:
    """ECE averaged over seeds; the bins of all seeds together, for one reliability figure."""
    each = [cell.summary["calibration"] for cell in cells]
    bins = []
    for same in zip(*(one["bins"] for one in each), strict=True):
        share = sum(b["share"] for b in same)
        merged = {"low": same[0]["low"], "high": same[0]["high"], "share": share / len(same)}
        merged["pixels"] = sum(b["pixels"] for b in same)
        for key in ("confidence", "accuracy"):
            total = sum(b[key] * b["share"] for b in same if b["pixels"])
            merged[key] = total / share if merged["pixels"] else None
        bins.append(merged)
    errors = [one["ece"] for one in each]
    return {"ece": float(np.mean(errors)), "by_seed": errors, "definition": DEFINITION, "bins": bins}


def _agreement(cells: Sequence[CellResult]) -> dict[str, Any] | None:
    told = [cell.summary["agreement"] for cell in cells]
    if not all(told):
        return None
    means = {}
    for key, column in (("dice", "agreement_dice"), ("difference", "agreement_difference")):
        values = np.stack([cell.images[column] for cell in cells])
        means[key] = _plain(mean_interval(values.mean(axis=0)))
    return {"teacher": told[0]["teacher"], "taught": all(one["taught"] for one in told), **means}


def _plain(interval: Interval) -> dict[str, Any]:
    return dataclasses.asdict(interval)


def _relative(path: Path, study: Path) -> str:
    try:
        return path.resolve().relative_to(study.resolve()).as_posix()
    except ValueError:
        return str(path.resolve())


def need_cells(arms: dict[str, list[CellResult]]) -> None:
    """Raise DataError where there is nothing to put into a table."""
    if not arms:
        raise DataError(
            "No cell of the study is trained and scored yet.",
            "at least one",
            "Run the study without --collect.",
        )
