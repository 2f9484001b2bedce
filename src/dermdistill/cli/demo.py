"""``dermdistill demo``."""

from __future__ import annotations

from pathlib import Path

from dermdistill.cli.common import need_positive, need_train_extra, show_progress


def demo(out: Path = Path("runs/demo"), count: int = 200, size: int = 128, epochs: int = 10) -> int:
    """The whole job on generated lesions: prepare, fine-tune, distil, evaluate, predict.

    Args:
        out: Folder for everything it makes (made anew each time).
        count: Phantoms.
        size: Their side in pixels.
        epochs: Of each of the three trainings.
    """
    need_positive("--epochs", epochs)
    need_train_extra("demo")
    from dermdistill.workflows.demo import run_demo

    print(run_demo(out, count=count, size=size, epochs=epochs, progress=show_progress()))
    return 0
