"""Studies that train for seconds, and what of their tables must be the same however they were run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dermdistill.study import run as study
from dermdistill.study.schema import StudyResult
from dermdistill.study.settings import StudySettings, parse_study

SIZE = 32


def tree(root: Path, runs_root: Path, **more: Any) -> dict[str, Any]:
    """A study of two arms and two seeds that trains for seconds."""
    return {
        "name": "tiny",
        "recipe": "phantom",
        "overrides": {
            "data.root": str(root), "data.size": SIZE, "data.batch_size": 4,
            "trainer.epochs": 1, "trainer.accelerator": "cpu",
        },
        "arms": {
            "alone": {"verb": "train", "title": "student alone"},
            "kl": {"title": "distilled, KL"},
        },
        "teacher": {"overrides": {"teacher.arch": "unet-w4", "trainer.epochs": 1}},
        "seeds": [0, 1],
        "runs_root": str(runs_root),
    } | more  # fmt: skip


def tiny(root: Path, runs_root: Path, **more: Any) -> StudySettings:
    """The same, read."""
    return parse_study(tree(root, runs_root, **more), "the test")


def run_in_child(plain: dict[str, Any]) -> None:
    """What a process that will be killed does."""
    study.run_study(parse_study(plain, "the test"), progress=False)


def unequal(a: Any, b: Any, place: str = "") -> list[str]:
    """Where two trees differ, for a message that can be read."""
    if isinstance(a, dict) and isinstance(b, dict):
        return [d for k in sorted({*a, *b}) for d in unequal(a.get(k), b.get(k), f"{place}.{k}")]
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return [d for i, (x, y) in enumerate(zip(a, b, strict=True)) for d in unequal(x, y, f"{place}[{i}]")]
    return [] if a == b else [f"{place}: {a} != {b}"]


def without_times(result: StudyResult) -> dict[str, Any]:
    """What must not depend on how often a study was broken off: all but dates, durations and the call."""
    kept = {k: v for k, v in result.to_json().items() if k not in ("created", "commands")}
    for arm in kept["arms"]:
        arm["seconds"] = None
        for cell in arm["cells"]:
            cell["seconds"] = None
    return kept
