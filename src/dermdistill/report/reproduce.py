"""The exact commands that make a result again, from the files alone."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from dermdistill.report.model import Data
from dermdistill.report.run_files import Evaluation, RunFiles


def commands_of_run(run: RunFiles, evaluation: Evaluation | None, data: Data) -> tuple[str, ...]:
    """Prepare, train or distil, evaluate, report. config.yaml is a recipe itself, so it is what is run."""
    settings = run.settings
    verb = "distill" if run.card and run.card.teacher else "train"
    name, recipe = _quoted(f"{run.folder.name}-again"), _quoted(run.folder / "config.yaml")
    again = f"dermdistill {verb} {recipe} --name {name}"
    lines = [data.prepare_command, again if settings else ""]
    if evaluation is not None:
        target = Path(str(settings.get("runs_root", "runs"))) / f"{run.folder.name}-again"
        other = "" if evaluation.data == settings.get("data.name") else f" --data {_quoted(evaluation.data)}"
        lines.append(f"dermdistill evaluate {_quoted(target)} --split {_quoted(evaluation.split)}{other}")
        lines.append(f"dermdistill report {_quoted(target)}")
    return tuple(line for line in lines if line)


def commands_of_study(folder: Path, commands: Sequence[str], data: Data) -> tuple[str, ...]:
    """The study's own commands, after the one that prepares the data and before the report's."""
    lines = [data.prepare_command, *commands]
    if not any("dermdistill report" in line for line in commands):
        lines.append(f"dermdistill report {_quoted(folder)}")
    return tuple(dict.fromkeys(line for line in lines if line))


def _quoted(value: Path | str) -> str:
    return shlex.quote(str(value))
