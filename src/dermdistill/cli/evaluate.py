"""``dermdistill evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from dermdistill.cli.common import need_positive, need_train_extra, print_json, show_progress


def evaluate(
    run: Path,
    /,
    data: str | None = None,
    split: Literal["train", "val", "test"] = "test",
    root: Path | None = None,
    out: Path | None = None,
    teacher: Path | None = None,
    human: str | None = None,
    batch_size: int = 16,
    json: bool = False,
) -> int:
    """Score a run by the official ISIC protocol: per image, at native size, mean over images.

    Args:
        run: Run folder, or a weights file with its card.json beside it.
        data: Prepared data set (default: the one it was trained on).
        split: Which of its splits.
        root: Folder that holds prepared data sets (default: the run's).
        out: Where the results go (default: RUN/evaluation/DATA-SPLIT).
        teacher: Run to measure agreement with (default: the one that taught it, where it is found).
        human: Human agreement to show beside: isic2016 (published), a CSV, a folder with several masks
            per image, or none (default: the published figure of a catalogue's data set, if any).
        batch_size: Images at once.
        json: Print the summary as JSON.
    """
    need_positive("--batch-size", batch_size)
    need_train_extra("evaluate")
    from dermdistill.evaluation.evaluate import evaluate as stage

    summary = stage(
        run, data=data, split=split, root=root, out=out, teacher=teacher, human=human,
        batch_size=batch_size, progress=show_progress(),
    )  # fmt: skip
    if json:
        print_json(summary.to_json())
        return 0
    print(summary.to_text())
    return 0
