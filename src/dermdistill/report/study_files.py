"""Read a study folder: ``study.json`` with its statistics, or, before that is written, the cells alone."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from pathlib import Path

from pydantic import ValidationError

from dermdistill.core.errors import DataError
from dermdistill.core.files import read_json
from dermdistill.report.arms import is_teacher, make_arm
from dermdistill.report.model import Arm, Difference, Stratum
from dermdistill.report.run_files import RunFiles, is_run, read_calibration, read_evaluation, read_run
from dermdistill.report.study_file import FORMAT, ArmEntry, CellEntry, ComparisonEntry, StudyFile


def is_study(folder: Path) -> bool:
    """Whether the folder was made by ``study``."""
    return (folder / "study.json").is_file() or (folder / "cells").is_dir()


def read_study(folder: Path) -> StudyFile | None:
    """study.json, or None where the study has not written it yet.

    Raises:
        DataError: It is not a study.json of this format; the first wrong field is named.
    """
    path = folder / "study.json"
    if not path.is_file():
        return None
    try:
        return StudyFile.model_validate(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise DataError(
            f"{path} is not a study of format {FORMAT}: {where}: {first['msg']}.",
            "study.json as this version of dermdistill study writes it",
            "Run the same dermdistill study again: finished cells are kept, the table is made anew.",
        ) from None


def arms_of_study(folder: Path, study: StudyFile) -> list[tuple[Arm, list[RunFiles]]]:
    """Each arm with its scores by study.json, and the run folders behind it.

    Raises:
        DataError: A run or evaluation that study.json names is gone or broken.
    """
    key = study.data.name, study.data.split
    compared = {comparison.arm: comparison for comparison in study.comparisons}
    found = []
    for entry in study.arms:
        runs = [_cell_files(folder, cell) for cell in entry.cells]
        arm = make_arm(entry.arm, runs, key) if runs else _empty(entry)
        found.append((_with_statistics(arm, entry, compared.get(entry.arm)), runs))
    return found


def arms_of_cells(folder: Path) -> list[list[RunFiles]]:
    """The run folders under cells/, grouped by arm: the teacher first, then by name; seeds ascending."""
    groups: dict[str, list[RunFiles]] = defaultdict(list)
    for path in sorted(p for p in (folder / "cells").iterdir() if is_run(p)):
        run = read_run(path)
        groups[run.arm].append(run)
    ordered = sorted(groups.values(), key=lambda runs: (not is_teacher(runs[0]), runs[0].arm))
    return [sorted(runs, key=lambda run: (run.seed is None, run.seed)) for runs in ordered]


def strata_of_study(study: StudyFile) -> list[Stratum]:
    """Every level of every stratum for each arm: its Dice, and its difference to the baseline."""
    found = []
    for arm in study.arms:
        apart = study.strata_differences.get(arm.arm, {})
        for name, group in arm.by_stratum.items():
            differences = {d.level: d for d in apart.get(name, [])}
            for level in group.levels:
                d = differences.get(level.level)
                found.append(
                    Stratum(
                        group.label,
                        level.level,
                        arm.arm,
                        level.n,
                        level.small,
                        level.dice.value() if level.dice else None,
                        Difference(d.mean, d.low, d.high, d.n) if d else None,
                    )
                )
    return found


def _cell_files(folder: Path, cell: CellEntry) -> RunFiles:
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


def _with_statistics(arm: Arm, entry: ArmEntry, comparison: ComparisonEntry | None) -> Arm:
    return dataclasses.replace(
        arm,
        role=entry.role,
        about=entry.title if entry.title and entry.title != entry.arm else arm.about,
        steps=entry.steps if entry.steps is not None else arm.steps,
        seconds=entry.seconds if entry.seconds is not None else arm.seconds,
        kept=entry.kept,
        parameters=entry.parameters if entry.parameters is not None else arm.parameters,
        macs=entry.macs if entry.macs is not None else arm.macs,
        size_bytes=entry.bytes if entry.bytes is not None else arm.size_bytes,
        input_size=entry.input_size if entry.input_size is not None else arm.input_size,
        scores={name: value.value() for name, value in entry.scores.items()},
        agreement=entry.agreement.dice.value() if entry.agreement else None,
        calibration=read_calibration(entry.calibration) or arm.calibration,
        differences={name: value.difference(comparison.n) for name, value in comparison.metrics.items()}
        if comparison
        else {},
        verdict=comparison.verdict if comparison else None,
        verdict_words=comparison.words if comparison else "",
    )


def _empty(entry: ArmEntry) -> Arm:
    return Arm(entry.arm, entry.role, entry.title or "not run", distilled=False, cells=())
