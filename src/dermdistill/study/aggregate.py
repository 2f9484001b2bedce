"""A study's cells → its result: arms, paired comparisons, subgroups. Reads files alone: it needs no torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
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
from dermdistill.study.schema import (
    ArmComparison,
    ArmResult,
    Calibration,
    CalibrationBin,
    CellScore,
    Difference,
    LevelDifference,
    LevelScore,
    Score,
    SubgroupScores,
    TeacherAgreement,
)
from dermdistill.study.verdict import judge

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

    def score(self) -> CellScore:
        """What the study's result keeps of it."""
        return CellScore(
            seed=self.seed,
            run=self.run,
            evaluation=self.evaluation,
            epoch=self.card.epoch,
            steps=self.steps,
            seconds=self.seconds,
            weights_sha256=self.card.weights_sha256,
            dice=float(self.measures[PRIMARY].mean()),
        )


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


def compare(
    arms: dict[str, list[CellResult]], baseline: str, teacher: str, titles: Mapping[str, str]
) -> tuple[ArmComparison, ...]:
    """Compare each arm with the baseline.

    Student arms are paired by seed (the seeds that both have) and image. The teacher has no student's seed:
    means over seeds are paired, by image alone. Holm's correction is over the student arms.

    Args:
        arms: The scored cells of each arm.
        baseline: Name of the arm that the others are compared with; where it is not there, nothing is.
        teacher: Name of the arm that taught.
        titles: By arm, for the sentences.
    """
    if baseline not in arms:
        return ()
    matched = {
        arm: pair
        for arm, cells in arms.items()
        if arm != baseline and (pair := _matched(cells, arms[baseline], by_seed=arm != teacher))[0]
    }
    differences = {
        arm: {
            name: _difference(stack(mine, name), stack(theirs, name), name, over_seeds=arm != teacher)
            for name in COMPARED
        }
        for arm, (mine, theirs) in matched.items()
    }
    family = [arm for arm in matched if arm != teacher]
    for name in COMPARED:
        corrected = paired_tests.holm([differences[arm][name].p_wilcoxon or 0.0 for arm in family])
        for arm, p in zip(family, corrected, strict=True):
            differences[arm][name] = differences[arm][name].model_copy(update={"p_holm": p})
    found = []
    for arm, (mine, _) in matched.items():
        verdict, text = judge(differences[arm][PRIMARY], titles[arm], titles[baseline])
        found.append(
            ArmComparison(
                arm=arm, baseline=baseline, seeds=tuple(cell.seed for cell in mine), n=len(mine[0].images),
                metrics=differences[arm], verdict=verdict, text=text,
            )
        )  # fmt: skip
    return tuple(found)


def differences_by_subgroup(
    arms: dict[str, list[CellResult]], baseline: str, teacher: str
) -> dict[str, dict[str, tuple[LevelDifference, ...]]]:
    """The paired Dice differences to the baseline in each level of each subgroup, by arm and subgroup.

    Args: as for `compare`, which pairs in the same way.
    """
    if baseline not in arms:
        return {}
    found = {}
    for arm, cells in arms.items():
        mine, theirs = _matched(cells, arms[baseline], by_seed=arm != teacher)
        if arm == baseline or not mine:
            continue
        difference = stack(mine, PRIMARY).mean(axis=0) - stack(theirs, PRIMARY).mean(axis=0)
        found[arm] = {
            name: tuple(
                LevelDifference(level=one["level"], small=one["small"], **one[PRIMARY])
                for one in subgroup["levels"]
            )
            for name, subgroup in by_subgroup(
                theirs[0].images, {PRIMARY: difference}, interval=difference_interval
            ).items()
        }
    return found


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


def _score(values: Values, measure: str) -> Score:
    interval = mean_interval(values.mean(axis=0), bounds=bounds_of(measure))
    by_seed = tuple(float(v) for v in values.mean(axis=1))
    return Score(interval.mean, interval.low, interval.high, interval.n, by_seed)


def _difference(arm: Values, baseline: Values, name: str, *, over_seeds: bool) -> Difference:
    """The paired difference in one measure; without ``over_seeds`` of the means over each arm's seeds."""
    if not over_seeds:
        arm, baseline = arm.mean(axis=0, keepdims=True), baseline.mean(axis=0, keepdims=True)
    pair = paired_tests.paired(
        arm, baseline, higher_is_better=name not in LOWER_IS_BETTER, scale=bounds_of(name)[1]
    )
    return Difference.model_validate(dataclasses.asdict(pair))


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
