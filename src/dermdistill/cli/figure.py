"""``dermdistill figure``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from dermdistill.cli.common import need_positive, need_train_extra, show_progress


def figure(
    run: Path,
    /,
    ids: tuple[str, ...] = (),
    count: int = 6,
    split: Literal["train", "val", "test"] = "val",
    data: str | None = None,
    root: Path | None = None,
    teacher: Path | None = None,
    arch: str | None = None,
    teacher_arch: str | None = None,
    seed: int = 0,
    out: Path | None = None,
) -> int:
    """Image, truth and prediction side by side.

    Args:
        run: Run folder.
        ids: Image ids to show (default: a seeded choice).
        count: How many to choose.
        split: From which split.
        data: Prepared data set (default: the one it was trained on).
        root: Folder that holds prepared data sets.
        teacher: A teacher's run folder: its prediction becomes a fourth column.
        arch: Of a run of a network of your own: its file and factory, my_net.py:factory. The file is run.
        teacher_arch: Likewise of the teacher's run.
        seed: Of the choice.
        out: PNG file (default: RUN/figures/SPLIT.png).
    """
    need_positive("--count", count)
    need_train_extra("figure")
    from dermdistill.evaluation.gallery import figure_of_run

    path = figure_of_run(
        run,
        ids=list(ids),
        count=count,
        split=split,
        data=data,
        root=root,
        teacher=teacher,
        arch=arch,
        teacher_arch=teacher_arch,
        seed=seed,
        out=out,
        progress=show_progress(),
    )
    print(path)
    return 0
