"""Read a study folder: ``study.json`` with its statistics, or, before that is written, the cells alone."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from pathlib import Path

from dermdistill.core.errors import DataError
from dermdistill.metrics.intervals import Interval
from dermdistill.report.arms import is_teacher, make_arm
from dermdistill.report.model import Arm, Level
from dermdistill.report.run_files import RunFiles, is_run, read_evaluation, read_run
from dermdistill.study.schema import FILE, ArmResult, CellScore, StudyResult
from dermdistill.study.scores import ArmComparison


def is_study(folder: Path) -> bool:
    """Whether the folder was made by ``study``."""
    return (folder / FILE).is_file() or (folder / "cells").is_dir()


def read_study(folder: Path) -> StudyResult | None:
    """The study's result, or None where the study has not written it yet.

    Raises:
        DataError: study.json is not of this format; the first wrong field is named.
    """
    return StudyResult.read(folder) if (folder / FILE).is_file() else None


def arms_of_study(folder: Path, study: StudyResult) -> list[tuple[Arm, list[RunFiles]]]:
    """Each arm with its scores by study.json, and the run folders behind it.

    Raises:
        DataError: A run or evaluation that study.json names is gone or broken.
    """
    key = study.data.name, study.data.split
    found = []
    for result in study.arms:
        runs = [_cell_files(folder, cell) for cell in result.cells]
        arm = make_arm(result.name, runs, key) if runs else _empty(result)
        found.append((_with_statistics(arm, result, study.comparison(result.name)), runs))
    return found


def arms_of_cells(folder: Path) -> list[list[RunFiles]]:
    """The run folders under cells/, grouped by arm: the teacher first, then by name; seeds ascending."""
    groups: dict[str, list[RunFiles]] = defaultdict(list)
    for path in sorted(p for p in (folder / "cells").iterdir() if is_run(p)):
        run = read_run(path)
        groups[run.arm].append(run)
    ordered = sorted(groups.values(), key=lambda runs: (not is_teacher(runs[0]), runs[0].arm))
    return [sorted(runs, key=lambda run: (run.seed is None, run.seed)) for runs in ordered]


def subgroups_of_study(study: StudyResult) -> list[Level]:
    """Every level of every subgroup for each arm: its Dice, and its difference to the baseline."""
    found = []
    for arm in study.arms:
        by_subgroup = study.subgroup_differences.get(arm.name, {})
        for name, subgroup in arm.subgroups.items():
            differences = {one.level: one for one in by_subgroup.get(name, ())}
            found += [
                Level(
                    subgroup.label, level.level, arm.name, level.n, level.small, level.dice,
                    differences.get(level.level),
                )
                for level in subgroup.levels
            ]  # fmt: skip
    return found


def _cell_files(folder: Path, cell: CellScore) -> RunFiles:
    """The cell's run folder with just the evaluation that the study used."""
    run_folder, evaluation_folder = (
        folder / cell.run,
        folder / cell.evaluation,
    )  # an absolute path stays itself
    if not is_run(run_folder):
        raise DataError(
            f"{run_folder}, which study.json names, is gone.",
            "the run folders of the study, where they were",
            "Put it back, or run dermdistill study again on the same recipe.",
        )
    return dataclasses.replace(read_run(run_folder), evaluations=[read_evaluation(evaluation_folder)])


def _with_statistics(arm: Arm, result: ArmResult, comparison: ArmComparison | None) -> Arm:
    """The arm with the study's statistics, and with the study's facts where it knows them."""
    names = ("steps", "seconds", "parameters", "macs", "size_bytes", "input_size", "calibration")
    known = {name: value for name in names if (value := getattr(result, name)) is not None}
    return dataclasses.replace(
        arm,
        role=result.role,
        about=result.title if result.title and result.title != result.name else arm.about,
        kept=result.kept,
        scores={name: Interval(s.mean, s.low, s.high, s.n) for name, s in result.scores.items()},
        agreement=result.agreement.dice if result.agreement else None,
        differences=comparison.metrics if comparison else {},
        verdict=comparison.verdict if comparison else None,
        verdict_text=comparison.text if comparison else "",
        **known,
    )


def _empty(result: ArmResult) -> Arm:
    return Arm(result.name, result.role, result.title or "not run", distilled=False, cells=())
