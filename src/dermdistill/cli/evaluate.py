"""``dermdistill evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from dermdistill.cli.common import need_positive, need_train_extra, print_json, show_progress


def evaluate(
    what: Path | None = None,
    /,
    images: Path | None = None,
    masks: Path | None = None,
    predictions: Path | None = None,
    manifest: Path | None = None,
    data: str | None = None,
    split: Literal["train", "val", "test", "out-of-fold"] = "test",
    root: Path | None = None,
    out: Path | None = None,
    strict: bool = False,
    mm_per_pixel: float | None = None,
    threshold: float = 0.5,
    input_size: int | None = None,
    mean: tuple[float, float, float] | None = None,
    std: tuple[float, float, float] | None = None,
    activation: Literal["sigmoid", "softmax", "none"] | None = None,
    channel: int | None = None,
    teacher: Path | None = None,
    human: str | None = None,
    arch: str | None = None,
    teacher_arch: str | None = None,
    batch_size: int = 16,
    workers: int | None = None,
    json: bool = False,
) -> int:
    """Score a model, or masks that any tool made: per image, at native size, mean over images.

    On your own pictures: evaluate [WHAT] --images DIR --masks DIR. On prepared data: evaluate WHAT --data
    NAME.

    Args:
        what: The model: an ONNX file, a run folder or a weights file with its card.json beside it (default:
            the student that is shipped; a run alone is scored on the data it was trained on).
        images: Folder of pictures; with --predictions it may be left out.
        masks: Folder of their true masks, called like them; with several for each picture (masks/a, masks/b)
            each is scored, and their majority.
        predictions: Folder of masks or probability maps (PNG, npy) to score in place of a model.
        manifest: CSV with an id column; its other columns become subgroups.
        data: Prepared data set (default: the one that the run was trained on).
        split: Which of its splits; out-of-fold: the training images that a run with data.fold was trained
            without.
        root: Folder that holds prepared data sets (default: the run's, else data).
        out: Where the results go (default: RUN/evaluation/DATA-SPLIT for a run on prepared data, else
            evaluation/WHAT-DATA).
        strict: Refuse predictions that are missing or of another size than the true mask.
        mm_per_pixel: Side of a pixel in millimetres: distances are then given in mm too.
        threshold: A pixel of a probability map is lesion above this; a model has its own.
        input_size: Of an ONNX file without our card: side of the square that it takes (default: as it says).
        mean: Of such a file: taken off RGB in [0, 1] (default: nothing).
        std: Of such a file: what is left is divided by it (default: nothing).
        activation: Of such a file: sigmoid where it gives logits (default), softmax where the logits of
            several channels compete, none where probabilities.
        channel: Of such a file with several channels: the lesion's, from 0.
        teacher: Run to measure agreement with (default: the one that taught it, where it is found).
        human: Human agreement to show beside a run on prepared data: isic2016 (published), a CSV, a folder
            with several masks per image, or none (default: the published figure of a catalogue's data set).
        arch: Of a run of a network of your own: its file and factory, my_net.py:factory. The file is run.
        teacher_arch: Likewise of the teacher's run.
        batch_size: Images that a network gets at once.
        workers: Processes that score files (default: one per core).
        json: Print the summary as JSON.
    """
    need_positive("--batch-size", batch_size)
    if masks is not None or predictions is not None or not _is_run(what):
        from dermdistill.evaluation.score_anything import score_anything

        foreign = {
            "input_size": input_size,
            "mean": mean,
            "std": std,
            "activation": activation,
            "channel": channel,
        }
        found = score_anything(
            what, images=images, masks=masks, predictions=predictions, manifest=manifest, data=data,
            split=split, root=root or Path("data"), out=out, strict=strict, mm_per_pixel=mm_per_pixel,
            threshold=threshold, foreign={key: value for key, value in foreign.items() if value is not None},
            arch=arch, workers=workers, batch_size=batch_size, progress=show_progress(),
        )  # fmt: skip
        if json:
            print_json(found.to_json())
        else:
            print(found.to_text())
        return 1 if found.unscored else 0
    need_train_extra("evaluate of a run on prepared data")
    from dermdistill.evaluation.evaluate import evaluate as stage

    assert what is not None
    summary = stage(
        what, data=data, split=split, root=root, out=out, teacher=teacher, human=human,
        arch=arch, teacher_arch=teacher_arch, batch_size=batch_size, progress=show_progress(),
    )  # fmt: skip
    if json:
        print_json(summary.to_json())
        return 0
    print(summary.to_text())
    return 0


def _is_run(what: Path | None) -> bool:
    return what is not None and (what.is_dir() or what.suffix == ".pth" or not what.suffix)
