"""From what a user names to an evaluation: the pictures are found, the model is opened, all is scored."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from dermdistill.core.errors import UsageError
from dermdistill.evaluation.folder_evaluation import FolderEvaluation
from dermdistill.evaluation.matching import match
from dermdistill.evaluation.open_any import open_model, title_of
from dermdistill.evaluation.score_folders import match_prepared, score_folders
from dermdistill.inference.shape import check_scale


def score_anything(
    what: Path | None,
    *,
    images: Path | None = None,
    masks: Path | None = None,
    predictions: Path | None = None,
    manifest: Path | None = None,
    data: str | None = None,
    split: str = "test",
    root: Path = Path("data"),
    out: Path | None = None,
    foreign: dict[str, Any] | None = None,
    arch: str | None = None,
    **settings: Any,
) -> FolderEvaluation:
    """Score a model or predictions, on two plain folders or on a prepared data set.

    Args:
        what: The model; None: the shipped student, or the predictions.
        images: Folder of pictures.
        masks: Folder of their true masks; None: those of ``data``.
        predictions: Folder of masks or maps, in place of a model.
        manifest: CSV whose columns become subgroups.
        data: Prepared data set.
        split: Which of its splits.
        root: Folder of the prepared data sets.
        out: Folder for the results; None: ``evaluation/WHAT-DATA``.
        foreign: What another maker's ONNX file needs to be told, as arguments of `ForeignOnnx`.
        arch: ``FILE.py:FACTORY`` of a run of a network of the user's own, which is run.
        settings: Further arguments of `score_folders`.

    Raises:
        UsageError: It is not said what to score, or on which pictures; or a pixel's side is impossible.
        DataError: Nothing belongs together, or nothing could be scored.
        WeightsError: The model cannot be used.
    """
    check_scale(settings.get("mm_per_pixel"))
    if what is not None and predictions is not None:
        raise UsageError(
            f"Both a model ({what}) and --predictions are named.", "one of them", "Leave one of them out."
        )
    if masks is None and data is None:
        raise UsageError(
            "It is not said on which pictures.",
            "--images DIR --masks DIR, or --data NAME",
            "Name the folders of pictures and of their masks, or a prepared data set.",
        )
    if predictions is None and masks is not None and images is None:
        raise UsageError(
            "A model needs pictures.",
            "--images DIR",
            "Name their folder, or --predictions DIR for masks that exist.",
        )
    if masks is not None:
        matched, part = match(masks, images=images, predictions=predictions, manifest=manifest), "all"
        name = (images or masks).resolve().name
        if name.lower() in ("images", "masks"):
            name = (images or masks).resolve().parent.name
    else:
        assert data is not None
        matched, name, part = match_prepared(data, root, split, predictions), data, split
    for sample in matched.samples:
        with contextlib.suppress(ValueError):  # a cell that is no number counts as empty
            check_scale(float(sample.labels.get("mm_per_pixel") or "none"))
    title = title_of(predictions or what)
    folders = {"images": images, "masks": masks, "predictions": predictions, "model": what}
    return score_folders(
        None if predictions is not None else open_model(what, foreign, arch),
        matched,
        name=title,
        data=name,
        out=out or Path("evaluation") / f"{title.replace(' ', '-')}-{name}",
        split=part,
        source={key: path and str(path.resolve()) for key, path in folders.items()} | {"foreign": foreign},
        **settings,
    )
