"""study.json: made from the files of a study's cells alone, whichever machines they come from (no torch)."""

from __future__ import annotations

import logging
import shlex
import time
from typing import Any

from dermdistill.artifacts.card import versions
from dermdistill.config import Recipe
from dermdistill.core.errors import DataError, MismatchError
from dermdistill.core.files import read_json
from dermdistill.data.dataset import command, read_info
from dermdistill.evaluation.inter_rater import InterRaterAgreement, find_agreement
from dermdistill.evaluation.summary import PROTOCOL
from dermdistill.metrics.paired_tests import METHOD
from dermdistill.study.aggregate import arm_result
from dermdistill.study.arm_differences import compare, differences_by_subgroup
from dermdistill.study.cells import make_job, not_run_file
from dermdistill.study.folds import PROTOCOL as OUT_OF_FOLD_PROTOCOL
from dermdistill.study.folds import merge_folds
from dermdistill.study.schema import ArmResult, NotRun, ScoredData, StudyResult
from dermdistill.study.scored_cells import PRIMARY, CellResult, check_together, need_cells, read_cell
from dermdistill.study.settings import (
    TEACHER,
    StudySettings,
    base_recipe,
    folds_of,
    student_cells,
    teacher_cells,
)
from dermdistill.study.verdict import verdict_of

logger = logging.getLogger(__name__)


def collect(settings: StudySettings) -> StudyResult:
    """Put what is scored into study.json, from the files of the cells alone.

    Raises:
        DataError: No cell is scored yet.
        MismatchError: Cells do not belong together.
    """
    base = base_recipe(settings)
    missing = []
    by_fold: dict[str | None, dict[str, list[CellResult]]] = {fold: {} for fold in folds_of(settings)}
    for cell in [*teacher_cells(settings), *student_cells(settings)]:
        job = make_job(settings, cell, recipe=False)
        found = read_cell(settings.folder, cell.seed, job.run, job.evaluation)
        if found is not None:
            by_fold[cell.fold].setdefault(cell.arm, []).append(found)
        elif not not_run_file(settings, cell.name).exists():
            missing.append(cell.name)
    for arms in by_fold.values():
        check_together([cell for cells in arms.values() for cell in cells])
        _check_one_teacher(settings, arms)
    merged = by_fold[None] if settings.folds is None else merge_folds(settings, list(by_fold.values()))
    need_cells(merged)
    result = _result(settings, base, merged, missing)
    result.write(settings.folder)
    return result


def _check_one_teacher(settings: StudySettings, arms: dict[str, list[CellResult]]) -> None:
    """Cells that were merged from several machines must have had the same teacher."""
    teachers = {cell.seed: cell.card.weights_sha256 for cell in arms.get(TEACHER, [])}
    if not teachers:
        return
    for arm, cells in arms.items():
        if arm == TEACHER or settings.arms[arm].verb == "train" or settings.arms[arm].teacher == "own":
            continue
        for cell in cells:
            expected = teachers.get(cell.seed, next(iter(teachers.values())))
            record = cell.card.teacher
            taught_by = record and (record.best_sha256 or record.weights_sha256)  # of the last weights: both
            if taught_by != expected:
                raise MismatchError(
                    f"{cell.run} was taught by another teacher ({str(taught_by)[:12]}…) than the study's.",
                    f"the teacher {expected[:12]}…",
                    f"Delete {settings.folder / cell.run} and run the study again.",
                )


def _result(
    settings: StudySettings,
    base: Recipe,
    cells: dict[str, list[CellResult]],
    missing: list[str],
) -> StudyResult:
    arms = [_arm(settings, name, of_arm) for name, of_arm in cells.items()]
    if TEACHER in cells:
        arms = [arm.with_share_of(arms[0]) for arm in arms]
    titles = {arm.name: arm.title for arm in arms}
    first = next(iter(cells.values()))[0].summary
    not_run = _not_run(settings)
    result = StudyResult(
        name=settings.name,
        question=settings.question,
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        complete=not missing and all(one.optional for one in not_run),
        missing=tuple(missing),
        not_run=tuple(not_run),
        baseline=settings.baseline,
        primary=PRIMARY,
        seeds=settings.seeds,
        budget=settings.budget,
        protocol=PROTOCOL if settings.folds is None else f"{OUT_OF_FOLD_PROTOCOL}; {PROTOCOL}",
        statistics=METHOD,
        folds=settings.folds,
        data=ScoredData(**{**first["data"], "split": first["split"], "images": first["images"]}),
        inter_rater_agreement=_inter_rater_agreement(settings, base, first["human"]),
        audit=str(settings.audit) if settings.audit else None,
        commands=tuple(_commands(settings, base)),
        versions=versions(),
        arms=tuple(arms),
        comparisons=compare(cells, settings.baseline, TEACHER, titles),
        subgroup_differences=differences_by_subgroup(cells, settings.baseline, TEACHER),
    )
    return result.model_copy(update={"verdict": verdict_of(result)})


def _arm(settings: StudySettings, name: str, cells: list[CellResult]) -> ArmResult:
    if name == TEACHER:
        verb = "given" if settings.teacher.run else "train"
        return arm_result(name, "teacher", verb, settings.teacher.overrides, cells)
    arm = settings.arms[name]
    return arm_result(name, arm.title, arm.verb, arm.overrides, cells)


def _inter_rater_agreement(
    settings: StudySettings, base: Recipe, scored: dict[str, Any] | None
) -> InterRaterAgreement | None:
    """The agreement as the settings name it now: --human may be given after the cells were scored."""
    folder = base.data.root / (settings.test_data or base.data.name)
    if settings.human is None or not (folder / "dataset.json").exists():
        return InterRaterAgreement(**scored) if scored else None
    return find_agreement(settings.human, read_info(folder))


def _not_run(settings: StudySettings) -> list[NotRun]:
    known = {cell.name for cell in [*teacher_cells(settings), *student_cells(settings)]}
    found = [
        read_json(path) for path in sorted((settings.folder / "not_run").glob("*.json")) if path.stem in known
    ]
    return [
        NotRun(**one, optional=one["arm"] != TEACHER and settings.arms[one["arm"]].optional) for one in found
    ]


def _commands(settings: StudySettings, base: Recipe) -> list[str]:
    """What makes the data, and what ran the study."""
    folder = base.data.root / base.data.name
    made = []
    try:
        made = [command(read_info(folder), base.data.size, base.data.root)]
    except DataError:
        logger.info("%s is not on this machine: how it was prepared is not said in study.json", folder)
    path = settings.folder / "commands.json"
    ran: list[str] = read_json(path) if path.exists() else []
    return [*made, *(ran or [shlex.join(["dermdistill", "study", str(settings.folder / "study.yaml")])])]
