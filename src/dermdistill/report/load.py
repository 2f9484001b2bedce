"""From a run or study folder to one `Report`: files are read, what is missing is named, nothing is made up.

Statistics that compare arms are the study's own (study.json); none are computed here.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from dermdistill.core.errors import UsageError
from dermdistill.report import reproduce, run_files, sections, study_files
from dermdistill.report.arms import Key, make_arm
from dermdistill.report.model import Arm, Report
from dermdistill.report.run_files import Evaluation, RunFiles
from dermdistill.study.schema import StudyResult

_ABOUT_RUN = "What does this network score on images that it has never seen?"
_ABOUT_STUDENT = (
    "What does this student score on images that it has never seen, and what was kept of its teacher?"
)
_ABOUT_STUDY = "Does distillation make the student better than the same student trained alone?"


@dataclasses.dataclass(frozen=True)
class Collected:
    """The report's content, and where the first seed of each arm was evaluated (for pictures)."""

    report: Report
    evaluations: dict[str, Path]


def collect(folder: Path, *, audit: Path | None = None, on: str | None = None) -> Collected:
    """Read a folder of ``train``, ``distill`` or ``study``.

    Args:
        folder: Run or study.
        audit: audit.json of ``dermdistill audit``; None: one in the folder or beside the data, if any.
        on: Which evaluation of a run, as DATA-SPLIT; None: the test split of its own data where there is one.

    Raises:
        UsageError: It is neither; or there is no such evaluation.
        DataError: A file in it is broken, or seeds of one arm were scored on different images.
    """
    if study_files.is_study(folder):
        if on is not None:
            raise UsageError(
                "--on chooses an evaluation of a run; a study has one.",
                "no --on for a study",
                "Leave --on out, or name one of the study's run folders.",
            )
        study = study_files.read_study(folder)
        return _finished_study(folder, study, audit) if study else _unfinished_study(folder, audit)
    if run_files.is_run(folder):
        return _run(folder, audit, on)
    raise UsageError(
        f"{folder} is neither a run nor a study.",
        "a folder with config.yaml or card.json (a run), or study.json or cells/ (a study)",
        "dermdistill train, distill and study make such folders.",
    )


def _run(folder: Path, audit: Path | None, on: str | None) -> Collected:
    run = run_files.read_run(folder)
    evaluation = _choose(run, on)
    key = evaluation.key if evaluation else None
    missing = [] if run.finished else ["The training is not finished: scores are of the best epoch so far."]
    if evaluation is None:
        missing.append(f"Scores, pictures and subgroups: run dermdistill evaluate {folder}")
    found: list[tuple[Arm, RunFiles]] = [(make_arm(folder.name, [run], key), run)]
    if run.card and run.card.teacher:
        teacher = sections.teacher_of(run)
        if run.card.teacher.mean_of:
            missing.append(
                "The teachers beside the student: their mean taught, and it is not a run of its own."
            )
        elif run.card.teacher.source:
            missing.append(f"The teacher beside the student: {run.card.teacher.source} is not a run.")
        elif teacher is None:
            missing.append("The teacher beside the student: its run folder is not where the settings say.")
        else:
            found.insert(0, (make_arm(teacher.folder.name, [teacher], key), teacher))
            if key and teacher.evaluation(key) is None:
                missing.append(f"The teacher's scores: run dermdistill evaluate {teacher.folder}")
    missing.append("A comparison with the same student trained alone: dermdistill study makes one.")
    data = sections.scored_data(evaluation, [run])
    arms, evaluations = _kept(found, key)
    report = Report(
        kind="run",
        name=folder.name,
        folder=folder,
        question=_ABOUT_STUDENT if run.card and run.card.teacher else _ABOUT_RUN,
        created=_now(),
        data=data,
        arms=arms,
        inter_rater_agreement=sections.inter_rater_agreement(evaluation),
        subgroups=sections.subgroups_of_run(folder.name, evaluation),
        elsewhere=sections.elsewhere(run, key),
        commands=reproduce.commands_of_run(run, evaluation, data),
        versions=run.card.versions if run.card else {},
        protocol=str(evaluation.summary.get("protocol", "")) if evaluation else "",
        caveats=sections.caveats(data, None),
    )
    return Collected(sections.with_audit(report, missing, audit), evaluations)


def _finished_study(folder: Path, study: StudyResult, audit: Path | None) -> Collected:
    read = study_files.arms_of_study(folder, study)
    key = study.data.name, study.data.split
    found = [(arm, runs[0]) for arm, runs in read if runs]
    every = [run for _, runs in read for run in runs]
    data = dataclasses.replace(
        sections.scored_data(found[0][1].evaluation(key) if found else None, every),
        name=study.data.name,
        split=study.data.split,
        images=study.data.images,
        title=study.data.title or "",
        fingerprint=study.data.fingerprint,
    )
    missing = [f"Cell {name} is not done yet." for name in study.missing]
    missing += [
        f"Cell {cell.arm}, seed {cell.seed} could not be run: {cell.reason}" for cell in study.not_run
    ]
    if not study.complete:
        missing.append("The study is not complete: run the same dermdistill study command again to go on.")
    _, evaluations = _kept(found, key)
    report = Report(
        kind="study",
        name=study.name,
        folder=folder,
        question=study.question or _ABOUT_STUDY,
        created=study.created or _now(),
        data=data,
        arms=tuple(arm for arm, _ in read),
        baseline=study.baseline,
        inter_rater_agreement=study.inter_rater_agreement,
        subgroups=tuple(study_files.subgroups_of_study(study)),
        commands=reproduce.commands_of_study(folder, study.commands, data),
        versions=study.versions,
        protocol=study.protocol,
        statistics=study.statistics,
        caveats=sections.caveats(data, study.budget),
    )
    return Collected(sections.with_audit(report, missing, audit), evaluations)


def _unfinished_study(folder: Path, audit: Path | None) -> Collected:
    """A study that has no table yet: the arms as far as they are, without any comparison."""
    groups = study_files.arms_of_cells(folder)
    keys = Counter(e.key for runs in groups for run in runs for e in run.evaluations)
    key = keys.most_common(1)[0][0] if keys else None
    found, missing = (
        [],
        ["Differences, p and verdict: study.json is not there yet (dermdistill study … --collect)."],
    )
    for runs in groups:
        scored = [run for run in runs if key and run.evaluation(key)]
        found.append((make_arm(runs[0].arm, scored or runs, key), (scored or runs)[0]))
        missing += [f"Cell {run.folder.name} is not evaluated yet." for run in runs if run not in scored]
    every = [run for runs in groups for run in runs]
    first = next((e for run in every if key and (e := run.evaluation(key))), None)
    data = sections.scored_data(first, every)
    arms, evaluations = _kept(found, key)
    report = Report(
        kind="study",
        name=folder.name,
        folder=folder,
        question=_ABOUT_STUDY,
        created=_now(),
        data=data,
        arms=arms,
        inter_rater_agreement=sections.inter_rater_agreement(first),
        commands=reproduce.commands_of_study(folder, (), data),
        versions=next((run.card.versions for run in every if run.card), {}),
        protocol=str(first.summary.get("protocol", "")) if first else "",
        caveats=sections.caveats(data, None),
    )
    return Collected(sections.with_audit(report, missing, audit), evaluations)


def _choose(run: RunFiles, on: str | None) -> Evaluation | None:
    """The evaluation that was asked for, else the own data's test split, else any test, else the first."""
    if on is not None:
        chosen = next((e for e in run.evaluations if e.folder.name == on), None)
        if chosen is None:
            there = (
                ", ".join(e.folder.name for e in run.evaluations)
                or "none yet (dermdistill evaluate makes them)"
            )
            raise UsageError(
                f"{run.folder} has no evaluation {on!r}.",
                f"one of: {there}",
                "Choose one of these, or run dermdistill evaluate on that data first.",
            )
        return chosen
    own = run.card.dataset.get("name") if run.card else None
    ranked = sorted(run.evaluations, key=lambda e: (e.split != "test", e.data != own))
    return ranked[0] if ranked else None


def _kept(found: Sequence[tuple[Arm, RunFiles]], key: Key | None) -> tuple[tuple[Arm, ...], dict[str, Path]]:
    folders = {arm.name: e.folder for arm, run in found if key and (e := run.evaluation(key))}
    return tuple(arm for arm, _ in found), folders


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
