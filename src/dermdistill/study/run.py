"""Arms × seeds as one job: the teacher, the student alone, the student distilled in several ways; a table.

The same command begins a study, goes on with one that was broken off, and does nothing where all is done.
No test image chooses anything: weights are chosen on validation, arms and settings are fixed beforehand, and
the test split is read only to score what is finished.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from dermdistill.config import to_tree
from dermdistill.core.errors import Interrupted, UsageError
from dermdistill.core.files import read_json, write_json, write_yaml
from dermdistill.data.prepare.prepare import ensure_prepared
from dermdistill.study import folds
from dermdistill.study.cells import Outcome, is_done, make_job, not_run_file, run_jobs, usable_cores
from dermdistill.study.checks import check_equal_training, check_folds, check_no_leak
from dermdistill.study.result import collect
from dermdistill.study.schema import StudyResult
from dermdistill.study.settings import TEACHER, Cell, StudySettings, base_recipe, student_cells, teacher_cells
from dermdistill.study.time_budget import scaled_epochs
from dermdistill.training.trackers import need_installed

logger = logging.getLogger(__name__)

__all__ = ["Share", "collect", "run_study"]


@dataclass(frozen=True)
class Share:
    """Which of a study's student cells this machine runs: part ``part`` (from 1) of ``parts``."""

    part: int = 1
    parts: int = 1

    @classmethod
    def parse(cls, text: str) -> Share:
        """From ``2/5``.

        Raises:
            UsageError: Not of that form, or out of range.
        """
        try:
            part, parts = map(int, text.split("/"))
        except ValueError:
            part = parts = 0
        if not 1 <= part <= parts:
            raise UsageError(
                f"--slice {text} is no share.",
                "PART/PARTS, such as 2/5",
                "Write it as in --slice 2/5: the second of five shares.",
            )
        return cls(part, parts)


def run_study(
    settings: StudySettings,
    *,
    share: Share | None = None,
    only: list[str] | None = None,
    workers: int = 1,
    called_as: str = "",
    set_up: Callable[[], None] | None = None,
    progress: bool = True,
) -> StudyResult:
    """Run what is missing of a study, and write study.json.

    Args:
        settings: The study.
        share: Only this share of the student cells (their teacher must be there).
        only: Only these arms (``teacher`` is one; it comes first in any case, since the others need it).
        workers: Cells at a time, each in a process of its own (1: in this one).
        called_as: The command line, for the record.
        set_up: Called first in each worker.
        progress: Show a bar for the running epoch (with one worker).

    Returns:
        What study.json holds.

    Raises:
        ConfigError: Arms differ in steps or schedule, or a setting does not fit.
        MismatchError: A cell was begun with other settings, or scored on other data.
        Interrupted: Stopped; everything is saved, and the same command goes on.
    """
    _check_names(settings, only)
    base = base_recipe(settings)
    need_installed(base.trainer.loggers)
    data = ensure_prepared(base.data.name, base.data.root, base.data.size, progress=progress)
    check_equal_training(settings, data)
    check_no_leak(settings, base, data)
    check_folds(settings, data)
    students = [cell for cell in student_cells(settings) if not only or cell.arm in only]
    sliced = share is not None and share.parts > 1
    if share is not None and sliced:
        students = students[share.part - 1 :: share.parts]
        _need_teachers(settings)
    write_yaml(settings.folder / "study.yaml", to_tree(settings))
    _note_command(settings, called_as)
    bar = progress and workers == 1
    running = _Running(settings, workers, set_up, total=len(teacher_cells(settings)) + len(students))
    try:
        running.cells(teacher_cells(settings), {}, bar)
        epochs = (
            scaled_epochs(settings, sliced=sliced) if settings.budget == "wall-clock" and students else {}
        )
        running.cells(students, epochs, bar)
    except (Interrupted, KeyboardInterrupt):
        raise Interrupted(
            f"The study {settings.name} was stopped, {running.done} of {running.total} cells done. "
            "Everything is saved.",
            fix="The same command goes on from here.",
        ) from None
    result = collect(settings)
    if settings.folds is not None:
        folds.write_ensembles(settings)
    return result


@dataclass
class _Running:
    """Runs cells and counts them."""

    settings: StudySettings
    workers: int
    set_up: Callable[[], None] | None
    total: int
    done: int = 0

    def cells(self, cells: list[Cell], epochs: dict[str, int], progress: bool) -> None:
        """Run cells that do not depend on each other; ``epochs`` by arm replaces the recipe's."""
        jobs = [
            make_job(self.settings, cell, epochs=epochs.get(cell.arm), progress=progress) for cell in cells
        ]
        workers = min(self.workers, max(1, len(jobs)))
        threads = max(1, usable_cores() // workers)
        for outcome in run_jobs(jobs, workers=workers, threads=threads, set_up=self.set_up):
            self.done += 1
            self._tell(outcome)

    def _tell(self, outcome: Outcome) -> None:
        """Log what became of a cell, and keep the reason where it could not be run."""
        note = not_run_file(self.settings, outcome.name)
        place = f"[{self.done}/{self.total}] {outcome.name}"
        if outcome.reason is None:
            note.unlink(missing_ok=True)
            logger.info("%s: done (%.0f s)", place, outcome.seconds)
            return
        arm, seed = outcome.name.rsplit("-seed", 1)
        write_json(note, {"arm": arm, "seed": int(seed.partition("-")[0]), "reason": outcome.reason})
        logger.warning("%s: not run: %s", place, outcome.reason)


def _check_names(settings: StudySettings, only: list[str] | None) -> None:
    known = [TEACHER, *settings.arms]
    if only and (wrong := [name for name in only if name not in known]):
        raise UsageError(
            f"The study has no arm {wrong[0]!r}.", f"one of {', '.join(known)}", "Correct --only."
        )


def _need_teachers(settings: StudySettings) -> None:
    jobs = [make_job(settings, cell) for cell in teacher_cells(settings)]
    if absent := [job.name for job in jobs if not is_done(job)]:
        raise UsageError(
            f"The teacher of the study ({', '.join(absent)}) is not there yet.",
            "one teacher for all slices: trained twice, it would not be the same",
            f"Run the study with --only {TEACHER} first, and give {settings.folder} to every machine.",
        )


def _note_command(settings: StudySettings, called_as: str) -> None:
    path = settings.folder / "commands.json"
    known: list[str] = read_json(path) if path.exists() else []
    if called_as and called_as not in known:
        write_json(path, [*known, called_as])
