"""``dermdistill predict``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from dermdistill.cli.common import need_positive, show_progress
from dermdistill.core.errors import DataError, UsageError


def predict(
    paths: list[str],
    /,
    model: Path | None = None,
    out: Path = Path("predictions"),
    outputs: str = "mask,overlay",
    mm_per_pixel: float | None = None,
    strict: bool = False,
    tta: bool = False,
    batch_size: int = 8,
    threads: int | None = None,
) -> int:
    """Segment images: a mask and an overlay for each, and one JSON line on standard output.

    Args:
        paths: Files, folders or globs.
        model: An ONNX file; with dermdistill[train], a run folder or a .pth file with its card.json
            beside it (default: the student that is shipped).
        out: Folder for the results; predictions.jsonl is always among them.
        outputs: Of mask, overlay, probability, uncertainty (with --tta), geojson, coco, csv; or all.
        mm_per_pixel: Side of a pixel in millimetres: lengths and areas are then given in mm too.
        strict: Exit with 1 where there is any warning; all results are written all the same.
        tta: Mean over the image and its three mirror images, at four times the cost, and how much
            they disagree.
        batch_size: Images at once.
        threads: For the network (default: one per core).
    """
    from dermdistill.imaging.find import find_images
    from dermdistill.inference.predictor import Predictor
    from dermdistill.inference.writers import read_kinds, write_outputs

    need_positive("--batch-size", batch_size)
    if not paths:
        raise UsageError(
            "No image was named.",
            "dermdistill predict PATH…",
            "Name files, folders or globs: dermdistill predict photo.jpg",
        )
    kinds = read_kinds(outputs, views=tta)
    if "uncertainty" in kinds and not tta:
        raise UsageError(
            "A map of uncertainty needs several views of each image.",
            "--tta beside it",
            "Add --tta, or leave uncertainty out of --outputs.",
        )
    images = find_images(paths)
    predictions = Predictor(model, threads=threads, tta=tta).predict_many(images, batch_size)
    failed = warned = 0
    for line in write_outputs(
        out,
        predictions,
        outputs=kinds,
        mm_per_pixel=mm_per_pixel,
        total=len(images),
        progress=show_progress(),
    ):
        if isinstance(line, DataError):
            failed += 1
            print(f"dermdistill: {line}", file=sys.stderr)
            continue
        print(json.dumps(line, ensure_ascii=False))
        warned += bool(line["warnings"])
        for warning in line["warnings"]:
            print(f"{line['path']}: {warning['code']}: {warning['message']}", file=sys.stderr)
    print(_summary(len(images), failed, warned, out), file=sys.stderr)
    return 1 if failed or (strict and warned) else 0


def _summary(images: int, failed: int, warned: int, out: Path) -> str:
    warnings = f", {warned} with warnings" if warned else ""
    return f"{images - failed} of {images} images segmented into {out}{warnings}"
