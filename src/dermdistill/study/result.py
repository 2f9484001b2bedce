"""study.json: made from the files of a study's cells alone, whichever machines they come from (no torch)."""

from __future__ import annotations

import logging
import shlex
import time
from typing import Any

from dermdistill.artifacts.card import versions
from dermdistill.config import Recipe
from dermdistill.core.errors import DataError, MismatchError
from dermdistill.core.files import read_json, write_json
from dermdistill.data.dataset import command, read_info
from dermdistill.evaluation.inter_rater import find_agreement
from dermdistill.evaluation.summary import PROTOCOL
from dermdistill.metrics.paired_tests import METHOD
from dermdistill.study import aggregate
from dermdistill.study.cells import make_job, not_run_file
from dermdistill.study.settings import TEACHER, StudySettings, base_recipe, student_cells, teacher_cells
from dermdistill.study.verdict import judge, verdict_of

logger = logging.getLogger(__name__)

FORMAT = 1


def collect(settings: StudySettings) -> dict[str, Any]:
    """Put what is scored into study.json, from the files of the cells alone.

    Raises:
        DataError: No cell is scored yet.
        MismatchError: Cells do not belong together.
    """
    base = base_recipe(settings)
    arms: dict[str, list[aggregate.CellResult]] = {}
    missing = []
    for cell in [*teacher_cells(settings), *student_cells(settings)]:
        job = make_job(settings, cell, recipe=False)
        found = aggregate.read_cell(settings.folder, cell.seed, job.run, job.evaluation)
        if found is not None:
            arms.setdefault(cell.arm, []).append(found)
        elif not not_run_file(settings, cell.name).exists():
            missing.append(cell.name)
    aggregate.need_cells(arms)
    aggregate.check_together([cell for cells in arms.values() for cell in cells])
    _check_one_teacher(settings, arms)
    result = _result(settings, base, arms, missing)
    write_json(settings.folder / "study.json", result)
    return result


def _check_one_teacher(settings: StudySettings, arms: dict[str, list[aggregate.CellResult]]) -> None:
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
    arms: dict[str, list[aggregate.CellResult]],
    missing: list[str],
) -> dict[str, Any]:
    entries = []
    for name, cells in arms.items():
        if name == TEACHER:
            verb = "given" if settings.teacher.run else "train"
            entries.append(aggregate.arm_entry(name, "teacher", verb, settings.teacher.overrides, cells))
            continue
        arm = settings.arms[name]
        entries.append(aggregate.arm_entry(name, arm.title, arm.verb, arm.overrides, cells))
    if TEACHER in arms:
        best = entries[0]["scores"]["dice"]["mean"]
        for entry in entries:
            entry["kept"] = entry["scores"]["dice"]["mean"] / best if best else None
    comparisons, strata_differences = aggregate.compare(arms, settings.baseline, TEACHER)
    titles = {entry["arm"]: entry["title"] for entry in entries}
    for entry in comparisons:
        entry["verdict"], entry["words"] = judge(entry, titles[entry["arm"]], titles[settings.baseline])
    first = next(iter(arms.values()))[0].summary
    not_run = _not_run(settings)
    result = {
        "format": FORMAT,
        "name": settings.name,
        "question": settings.question,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "complete": not missing and not [one for one in not_run if not one["optional"]],
        "missing": missing,
        "not_run": not_run,
        "baseline": settings.baseline,
        "primary": aggregate.PRIMARY,
        "seeds": list(settings.seeds),
        "budget": settings.budget,
        "protocol": PROTOCOL,
        "statistics": METHOD,
        "data": {**first["data"], "split": settings.split, "images": first["images"]},
        "human": _human(settings, base, first["human"]),
        "audit": str(settings.audit) if settings.audit else None,
        "commands": _commands(settings, base),
        "versions": versions(),
        "arms": entries,
        "comparisons": comparisons,
        "strata_differences": strata_differences,
    }
    return {**result, "verdict": verdict_of(result)}


def _human(settings: StudySettings, base: Recipe, scored: dict[str, Any] | None) -> dict[str, Any] | None:
    """The line as the settings name it now: --human may be given after the cells were scored."""
    folder = base.data.root / (settings.test_data or base.data.name)
    if settings.human is None or not (folder / "dataset.json").exists():
        return scored
    agreement = find_agreement(settings.human, read_info(folder))
    return agreement.to_json() if agreement else None


def _not_run(settings: StudySettings) -> list[dict[str, Any]]:
    found = [read_json(path) for path in sorted((settings.folder / "not_run").glob("*.json"))]
    known = {cell.name for cell in [*teacher_cells(settings), *student_cells(settings)]}
    return [
        {**one, "optional": one["arm"] != TEACHER and settings.arms[one["arm"]].optional}
        for one in found
        if f"{one['arm']}-seed{one['seed']}" in known
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
