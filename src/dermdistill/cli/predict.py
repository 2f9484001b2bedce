"""``dermdistill predict``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Literal

from dermdistill.cli.common import need_positive, show_progress
from dermdistill.core.errors import DataError, UsageError

_OUTLINES = {"tight": -10.0, "normal": 0.0, "wide": 10.0}


def predict(
    paths: list[str],
    /,
    model: Path | None = None,
    out: Path = Path("predictions"),
    outputs: str = "mask,overlay",
    mm_per_pixel: float | None = None,
    strict: bool = False,
    tta: bool = False,
    outline: str = "normal",
    style: str | None = None,
    batch_size: int | None = None,
    threads: int | None = None,
    workers: str = "auto",
    resume: bool = False,
    engine: Literal["local", "ray"] = "local",
    ray_address: str | None = None,
    table: str | None = None,
    table_masks: bool = False,
) -> int:
    """Segment images: a mask and an overlay for each, and one JSON line on standard output.

    Args:
        paths: Files, folders or globs; of DICOM files (dermdistill[dicom]) every frame.
        model: An ONNX file; with dermdistill[train], a run folder or a .pth file with its card.json
            beside it (default: the student that is shipped).
        out: Folder for the results; predictions.jsonl is always among them, and grows line by line.
        outputs: Of mask, overlay, probability, uncertainty (with --tta), geojson, coco, csv; or all; and
            dicom-seg (segmentations) and dicom-sr (a report of measurements; dermdistill[dicom]).
        mm_per_pixel: Side of a pixel in millimetres: lengths and areas are then given in mm too (default:
            what a DICOM file says).
        strict: Exit with 1 where there is any warning; all results are written all the same.
        tta: Mean over the image and its three mirror images, at four times the cost, and how much
            they disagree.
        outline: tight, normal or wide, or a number: by about how many percent of the area outlines are
            drawn wider than the model does of itself, -30 to 30 (tight is -10, wide is 10). To fit it to
            masks of your own: dermdistill calibrate.
        style: How masks are drawn, by the name of a style that the model was told in training (an unknown
            name is answered with those; default: not told).
        batch_size: Images that the network gets at once (default: 1; 8 for a run folder).
        threads: Of the network, for each worker (default: the cores over the workers).
        workers: Processes that predict at the same time: a number, or auto for one per core where there is
            work for some seconds (for a run folder: threads, and auto is 1). Results do not depend on it.
        resume: Leave out the images whose results are in --out already, by its predictions.jsonl.
        engine: ray segments an archive on many machines into --table; PATHs may then be tars, Parquet files
            and addresses (s3://…) too, and no other file is written (dermdistill[cluster]).
        ray_address: Of a Ray cluster that runs, or auto (default: one is started on this machine).
        table: Folder for Parquet partitions, a path or an address; the same command goes on where it stopped.
        table_masks: A column with each mask as a PNG; its run lengths are always there.
    """
    if engine == "ray" or table is not None:
        if tta or strict or style is not None or mm_per_pixel is not None:
            raise UsageError(
                "--engine ray has no --tta, --strict, --style or --mm-per-pixel.",
                "paths, --table, --model, --workers, --ray-address and --table-masks",
                "Leave them out: warnings and pixels are columns of the table.",
            )
        return _predict_archive(paths, engine, ray_address, table, table_masks, model, workers)
    from dermdistill.core.files import to_json_line
    from dermdistill.imaging.find import find_images, printable
    from dermdistill.imaging.frames import list_frames
    from dermdistill.inference.folder import predict_files
    from dermdistill.inference.predictor import Predictor
    from dermdistill.inference.workers import choose_workers
    from dermdistill.inference.writers import read_kinds

    if batch_size is not None:
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
    asked = _read_workers(workers)
    images = list_frames(find_images(paths))
    is_run = model is not None and (model.is_dir() or model.suffix == ".pth")
    # torch's threads are the whole process's, and a GPU is one: a run gets larger batches instead.
    at_once, per_worker = (asked or 1, threads) if is_run else choose_workers(images, asked, threads)
    lines = predict_files(
        Predictor(model, threads=per_worker, tta=tta, outline=_read_outline(outline), style=style),
        images,
        out,
        outputs=kinds,
        mm_per_pixel=mm_per_pixel,
        batch_size=batch_size or (8 if is_run else 1),
        workers=at_once,
        resume=resume,
        progress=show_progress(),
    )
    failed = warned = done = 0
    for line in lines:
        if isinstance(line, DataError):
            failed += 1
            print(f"dermdistill: {line}", file=sys.stderr)
            continue
        done += 1
        warned += bool(line["warnings"])
        _print_line(to_json_line(line))
        for warning in line["warnings"]:
            print(f"{printable(line['path'])}: {warning['code']}: {warning['message']}", file=sys.stderr)
    print(_summary(len(images), done, failed, warned, out), file=sys.stderr)
    return 1 if failed or (strict and warned) else 0


def _predict_archive(
    paths: list[str],
    engine: str,
    address: str | None,
    table: str | None,
    masks: bool,
    model: Path | None,
    workers: str,
) -> int:
    from tqdm import tqdm

    from dermdistill.workflows.ray_predict import Progress, check_installed, predict_archive

    if engine != "ray" or table is None or not paths:
        raise UsageError(
            "An archive needs --engine ray, a --table and something to read.",
            "dermdistill predict PATH… --engine ray --table results.parquet",
            "Give all of them, or leave --engine and --table out for one machine's files.",
        )
    check_installed()
    progress = Progress(0, 0, 0, 0)
    with tqdm(unit="partition", disable=not show_progress(), leave=False) as bar:
        for progress in predict_archive(
            paths, table, model=model, masks=masks, workers=_read_workers(workers), address=address
        ):
            bar.total, bar.n = progress.total, progress.complete
            bar.set_postfix(rows=progress.rows, errors=progress.errors)
    print(
        f"{progress.rows} pictures segmented into {table}, {progress.errors} of them with an error; "
        f"{progress.complete} partitions",
        file=sys.stderr,
    )
    return 1 if progress.errors else 0


def _read_workers(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"--workers is {text}.", "1 or more, or auto", "Leave it out: one for each core.")
    return int(text)


def _read_outline(text: str) -> float:
    try:
        return _OUTLINES[text] if text in _OUTLINES else float(text)
    except ValueError:
        raise UsageError(
            f"--outline is {text}.",
            "tight, normal, wide, or a number from -30 to 30",
            "Leave it out: outlines are then drawn as the model does.",
        ) from None


def _print_line(line: str) -> None:
    """A line on standard output at once; where its reader (head, say) has gone, the work goes on without."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _summary(images: int, done: int, failed: int, warned: int, out: Path) -> str:
    warnings = f", {warned} with warnings" if warned else ""
    before = f", {images - done - failed} there already" if images > done + failed else ""
    return f"{done} of {images} images segmented into {out}{before}{warnings}"
