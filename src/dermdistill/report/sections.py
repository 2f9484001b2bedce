"""What all reports share: data, inter-rater agreement, subgroups, caveats, what is missing."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dermdistill.artifacts.card import versions
from dermdistill.core.errors import DermDistillError
from dermdistill.data.dataset import command, read_info
from dermdistill.evaluation.inter_rater import InterRaterAgreement
from dermdistill.report import audits, run_files
from dermdistill.report.arms import Key
from dermdistill.report.model import Audit, Data, Elsewhere, Level, Report
from dermdistill.report.run_files import Evaluation, RunFiles, read_interval, read_part

_PHANTOM = "The images are generated: they show that the machinery works, and say nothing about real lesions."


def teacher_of(run: RunFiles) -> RunFiles | None:
    """The teacher's run by the settings, else by its name among the run's neighbours."""
    named = run.settings.get("teacher.run")
    name = run.card.teacher.run if run.card and run.card.teacher else None
    places = [Path(str(named))] if named else []
    places += [run.folder.parent / str(name)] if name else []
    return next((run_files.read_run(place) for place in places if run_files.is_run(place)), None)


def scored_data(evaluation: Evaluation | None, runs: Sequence[RunFiles]) -> Data:
    """What was scored; the prepared folder adds its source, counts and command where it is within reach."""
    about: dict[str, Any] = evaluation.summary if evaluation else {}
    known: dict[str, Any] = about.get("data") or {}
    # Students come last: the size and place of the data are theirs, a teacher may be older.
    card = next((run.card for run in reversed(runs) if run.card), None)
    settings = next((run.settings for run in reversed(runs) if run.settings), {})
    name = evaluation.data if evaluation else str((card.dataset if card else {}).get("name", "unknown data"))
    root = Path(str(settings["data.root"])) if "data.root" in settings else None
    size = card.input_size if card else settings.get("data.size")
    data = Data(
        name=name,
        split=evaluation.split if evaluation else "",
        images=about.get("images"),
        title=str(known.get("title") or ""),
        fingerprint=str((known or (card.dataset if card else {})).get("fingerprint") or ""),
        trained_on=str(card.dataset.get("name", "")) if card else "",
        foreign=bool(card and known and known.get("fingerprint") != card.dataset.get("fingerprint")),
        root=root,
        size=size,
    )
    if root is None or size is None:
        return data
    try:
        info = read_info(root / name)
    except DermDistillError:
        return data  # moved or on another machine: the report does without
    return dataclasses.replace(
        data,
        prepare_command=command(info, size, root),
        counts=info.get("counts", {}),
        license=str(info.get("license") or ""),
    )


def inter_rater_agreement(evaluation: Evaluation | None) -> InterRaterAgreement | None:
    """How well people agree, by the evaluation's summary.

    Raises:
        DataError: It is noted in another layout.
    """
    found = evaluation.summary.get("human") if evaluation else None
    return read_part(InterRaterAgreement, found, "a human agreement") if found else None


def subgroups_of_run(arm: str, evaluation: Evaluation | None) -> tuple[Level, ...]:
    """Every level of every subgroup with the run's Dice."""
    groups = (evaluation.summary.get("by_stratum") or {}) if evaluation else {}
    return tuple(
        Level(
            str(group.get("label") or name),
            str(level["level"]),
            arm,
            int(level["n"]),
            bool(level["small"]),
            read_interval(level["dice_per_image_mean"]) if level.get("dice_per_image_mean") else None,
        )
        for name, group in groups.items()
        for level in group["levels"]
    )


def elsewhere(run: RunFiles, key: Key | None) -> tuple[Elsewhere, ...]:
    """The run's evaluations on other images than ``key``."""
    found = []
    for evaluation in run.evaluations:
        if evaluation.key == key:
            continue
        scores = evaluation.summary["scores"]
        dice, jaccard = (read_interval(scores[f"{name}_per_image_mean"]) for name in ("dice", "jaccard"))
        found.append(Elsewhere(run.folder.name, evaluation.data, evaluation.split, dice, jaccard))
    return tuple(found)


def caveats(data: Data, budget: str | None) -> tuple[str, ...]:
    """What a reader must know before he compares the numbers with others."""
    sentences = [
        "Dice is the mean over images at native size; pooled Dice or other splits cannot be compared with it."
    ]
    if data.name.startswith("phantom"):
        sentences.insert(0, _PHANTOM)
    if data.split in ("train", "val"):
        sentences.insert(
            0, f"These are {data.split} images: the weights were chosen or fitted on them. Not a test result."
        )
    if data.foreign:
        sentences.append(
            f"The network was trained on {data.trained_on}: only an audit shows whether images are in both."
        )
    if budget == "wall-clock":
        sentences.append("The arms had the same wall-clock time, not the same number of optimiser steps.")
    return tuple(sentences)


def with_audit(report: Report, missing: list[str], path: Path | None) -> Report:
    """The report with the audit, where there is one, and with everything that is missing."""
    beside = report.data.root / report.data.name if report.data.root else None
    path = path or audits.find_audit(report.folder, beside)
    found: Audit | None = audits.read_audit(path) if path else None
    if found is None:
        where = beside if beside is not None else "DATA"
        missing = [
            *missing,
            f"The leak audit: run dermdistill audit {where} --out {report.folder / 'audit'}",
        ]
    if report.arms and any(arm.macs is None for arm in report.arms):
        missing = [
            *missing,
            "MACs of every arm: evaluate counts them, and not all were evaluated.",
        ]
    if report.inter_rater_agreement is None:
        missing = [
            *missing,
            "Agreement between people: the data have one mask per image and no human agreement was given.",
        ]
    given = report.versions or versions()
    return dataclasses.replace(report, audit=found, missing=tuple(missing), versions=given)
