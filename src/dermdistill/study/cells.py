"""One cell of a study: train it, or go on with it, then score it. Runs in this process or in a worker's.

Nothing here imports torch before a cell runs: a worker sets its threads first.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

from dermdistill.artifacts import run_folder
from dermdistill.artifacts.card import ModelCard
from dermdistill.config import Recipe
from dermdistill.core.errors import (
    DataError,
    Interrupted,
    MismatchError,
    MissingExtraError,
    TrainingError,
    WeightsError,
)
from dermdistill.core.files import read_json
from dermdistill.core.lock import locked
from dermdistill.data.dataset import OUT_OF_FOLD
from dermdistill.study.settings import (
    TEACHER,
    Cell,
    StudySettings,
    base_recipe,
    cell_folder,
    cell_recipe,
    teacher_arch,
    teacher_cells,
    teacher_of,
)

logger = logging.getLogger(__name__)

GRACE = 60.0
"""Seconds that a worker has to save its state when the study's process is gone."""


@dataclass(frozen=True)
class Job:
    """A cell, ready to be run anywhere."""

    name: str
    verb: str
    """train, distill, or given: only scored."""
    recipe: Recipe | None
    run: Path
    evaluation: Path
    data: str
    root: Path
    split: str
    teacher: Path | None
    """To measure agreement with."""
    human: str | None
    arch: str | None = None
    """Of the network, as the recipe names it: that a user's own file may be run."""
    teacher_arch: str | None = None
    """Likewise of ``teacher``'s."""
    optional: bool = False
    """Whether the study is whole without it."""
    progress: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of a job; ``reason`` says why it could not be run."""

    name: str
    seconds: float
    reason: str | None = None


def make_job(
    settings: StudySettings,
    cell: Cell,
    *,
    epochs: int | None = None,
    progress: bool = False,
    recipe: bool = True,
) -> Job:
    """What is to be done for a cell.

    Args:
        settings: The study.
        cell: Which.
        epochs: Replaces the recipe's (a wall-clock budget).
        progress: Show a bar for the running epoch.
        recipe: False: only the places are wanted, nothing will be trained.
    """
    given = settings.teacher.run if cell.arm == TEACHER else None
    base = base_recipe(settings)
    data = settings.test_data or base.data.name
    split = settings.split if cell.fold is None else OUT_OF_FOLD
    trained = cell_recipe(settings, cell, epochs=epochs) if recipe and not given else None
    return Job(
        name=cell.name,
        verb="given" if given else "train" if cell.arm == TEACHER else settings.arms[cell.arm].verb,
        recipe=trained,
        run=given or cell_folder(settings, cell),
        evaluation=cell_folder(settings, cell) / "evaluation" / f"{data}-{split}",
        data=data,
        root=base.data.root,
        split=split,
        teacher=None if cell.arm == TEACHER else teacher_of(settings, cell),
        human=settings.human,
        arch=teacher_arch(settings) if given else trained.trained_arch if trained else None,
        teacher_arch=teacher_arch(settings) if recipe and teacher_cells(settings) else None,
        optional=cell.arm != TEACHER and settings.arms[cell.arm].optional,
        progress=progress,
    )


def not_run_file(settings: StudySettings, cell: str) -> Path:
    """Where it is said why a cell could not be run."""
    return settings.folder / "not_run" / f"{cell}.json"


def is_done(job: Job) -> bool:
    """Whether the cell is trained and the weights that it has are scored."""
    if job.verb != "given" and not (job.run / "finished").exists():
        return False
    try:
        summary, card = read_json(job.evaluation / "summary.json"), ModelCard.read(job.run / "card.json")
    except DataError:
        return False
    return bool(summary.get("weights_sha256") == card.weights_sha256 and "calibration" in summary)


def run_job(job: Job) -> Outcome:
    """Train (or go on) and score one cell.

    Answers with a reason, and does not raise, where weights cannot be had or training cannot go on (or data
    of an optional cell): the other cells are not its fault. Wrong settings and broken data raise.
    """
    started = time.perf_counter()
    try:
        # Two processes never work on one cell: a killed study's worker may still be saving its state.
        with locked(job.evaluation.parents[2] / ".locks" / job.name, "at work on"):
            if not is_done(job):
                _run(job)
            elif job.recipe is not None:
                run_folder.check_same(job.recipe, run_folder.RunFolder(job.run, job.recipe.role))
    except Interrupted:
        raise
    except (WeightsError, TrainingError, MissingExtraError, DataError) as error:
        if isinstance(error, DataError) and (not job.optional or isinstance(error, MismatchError)):
            raise
        return Outcome(job.name, time.perf_counter() - started, str(error))
    return Outcome(job.name, time.perf_counter() - started)


def _run(job: Job) -> None:
    from dermdistill.evaluation import evaluate as evaluation
    from dermdistill.training import run as training

    if job.recipe is not None:
        _clear_stillborn(job.run)
        do = training.distill if job.verb == "distill" else training.train
        do(job.recipe, resume=True, progress=job.progress)
    # A student alone is trained and scored without its teacher, should that not have been to be had.
    taught = job.teacher is not None and (job.teacher / "card.json").is_file()
    evaluation.evaluate(
        job.run,
        data=job.data,
        split=job.split,
        root=job.root,
        out=job.evaluation,
        teacher=job.teacher if taught else None,
        human=job.human,
        arch=job.arch,
        teacher_arch=job.teacher_arch,
        progress=job.progress,
    )


def _clear_stillborn(folder: Path) -> None:
    """Remove what a kill left of a run that had no settings yet: temporary files, nothing else."""
    if folder.is_dir() and not (folder / "config.yaml").exists():
        for path in folder.glob(".*.yaml"):
            path.unlink()


# -- several at a time -----------------------------------------------------------------------------------


def run_jobs(
    jobs: list[Job], *, workers: int, threads: int, set_up: Callable[[], None] | None = None
) -> Iterator[Outcome]:
    """Run jobs, ``workers`` at a time in processes of their own (1: in this one), outcomes as they come.

    Args:
        jobs: Independent of each other.
        workers: Processes.
        threads: Of computation in each; with one worker they are left as they are.
        set_up: Called in each worker first (its logging); importable by name.

    Raises:
        Interrupted: Stopped; every running cell has saved its state.
    """
    if workers == 1:
        yield from map(run_job, jobs)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _start_worker, (threads, set_up)) as pool:
        pending: set[Future[Outcome]] = {pool.submit(run_job, job) for job in jobs}
        try:
            while pending:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        except BrokenProcessPool:
            raise TrainingError(
                "A worker of the study was ended from outside.",
                "workers that live: the system may have run out of memory",
                "The same command goes on from here; give it a smaller --jobs.",
            ) from None
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _start_worker(threads: int, set_up: Callable[[], None] | None) -> None:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
    if set_up is not None:
        set_up()
    threading.Thread(target=_outlive_no_parent, daemon=True).start()


def _outlive_no_parent() -> None:
    """End, as on request, when the study's process is gone."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os._exit(1)


def usable_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
