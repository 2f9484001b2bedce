"""From image files to a folder of results: several at a time, in order, and on again after a stop."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dermdistill.core.errors import DataError, UsageError
from dermdistill.core.files import disk_error, to_json_line
from dermdistill.imaging.find import LINES
from dermdistill.imaging.frames import result_name
from dermdistill.imaging.memory import keep_freed_memory
from dermdistill.inference import formats
from dermdistill.inference.predictor import Predictor
from dermdistill.inference.result_lines import COCO_LINES, open_lines, resumed, write_tables
from dermdistill.inference.shape import check_scale
from dermdistill.inference.workers import Batch, Done, in_order
from dermdistill.inference.writers import (
    DEFAULT_KINDS,
    FILES,
    Kind,
    OutputWriter,
)


def predict_files(
    predictor: Predictor,
    paths: Sequence[Path],
    folder: Path,
    *,
    outputs: Collection[Kind] = DEFAULT_KINDS,
    mm_per_pixel: float | None = None,
    batch_size: int = 1,
    workers: int = 1,
    resume: bool = False,
    progress: bool = False,
) -> Iterator[dict[str, Any] | DataError]:
    """Segment image files into a folder; yield each one's line of JSON as soon as it is written.

    Per image ``NAME_mask.png`` (0/255), ``NAME_overlay.jpg`` (the outline over the picture),
    ``NAME_probability.png`` (0 to 255 for 0 to 1), ``NAME_uncertainty.png`` (0 to 255 for a standard
    deviation of 0 to 0.5, which is the largest there can be), ``NAME.geojson``, and DICOM (see
    `dicom_results`): ``NAME_seg.dcm``, ``NAME_seg-probability.dcm``, ``NAME_sr.dcm`` and, of a picture that
    is none, ``NAME_image.dcm``; per call
    ``predictions.csv``, ``coco.json`` (made of the lines of ``coco.jsonl``) and, always,
    ``predictions.jsonl``; files of lines grow image by image. Two inputs of one name get ``NAME``,
    ``NAME-2`` …, and a name of more than 200 bytes is cut; COCO and GeoJSON name each by its path below the
    folder that all inputs lie in. Nothing is overwritten within a call; what an earlier call left in the
    folder is, unless ``resume``.

    Args:
        predictor: Copied into each worker: a process where it runs an ONNX file, else a thread.
        paths: The image files.
        folder: Made where it is missing; not one that inputs lie in, whose masks would be overwritten.
        outputs: Which of them.
        mm_per_pixel: Side of a pixel in millimetres; None: unknown.
        batch_size: Images that the network gets at once.
        workers: Batches at the same time. Order and files do not depend on it.
        resume: Leave out the images that ``predictions.jsonl`` holds with all of these outputs.
        progress: Show a bar.

    Yields:
        Per image the line of JSON, with ``path`` and the files written (``mask``, ``overlay``,
        ``probability_map``, ``uncertainty_map``, ``geojson``, ``dicom_seg`` …), or why there is none.

    Raises:
        UsageError: An input lies in ``folder``, the scale is impossible, a map of uncertainty is asked for
            where there is none, or the folder holds another model's results.
        DataError: The disk is full or the folder cannot be written; what is done stays.
    """
    keep_freed_memory()
    check_scale(mm_per_pixel)
    _check_places(paths, folder)
    writer = OutputWriter(folder, outputs, mm_per_pixel, formats.find_common_folder(paths))
    try:
        kept = resumed(writer, predictor) if resume else {}
        batches = _batches(_named(paths, kept), batch_size)
        with contextlib.ExitStack() as stack:
            lines = stack.enter_context(open_lines(folder / LINES, resume))
            parts = (
                stack.enter_context(open_lines(folder / COCO_LINES, resume)) if "coco" in outputs else None
            )
            bar = stack.enter_context(tqdm(total=len(paths), unit="image", disable=not progress, leave=False))
            bar.update(sum(str(path) in kept for path in paths))
            for done in stack.enter_context(
                contextlib.closing(in_order(predictor, writer, batches, workers))
            ):
                if isinstance(done, Done):
                    if parts is not None:
                        parts.write(done.coco + "\n")
                        parts.flush()
                    lines.write(to_json_line(done.line) + "\n")
                    lines.flush()
                bar.update()
                yield done.line if isinstance(done, Done) else done
        write_tables(folder, outputs)
    except OSError as error:
        raise disk_error(error, Path(error.filename or folder)) from error


def _batches(named: Iterator[tuple[Path, str]], size: int) -> Iterator[Batch]:
    while batch := list(itertools.islice(named, size)):
        yield batch


def _named(paths: Iterable[Path], kept: dict[str, dict[str, Any]]) -> Iterator[tuple[Path, str]]:
    """The images that are still to do, with a name of their own each."""
    taken = {name for line in kept.values() for name in _names_in(line)}
    for path in paths:
        if str(path) in kept:
            continue
        own = name = _short(result_name(path))
        number = 1
        while name.lower() in taken:  # some file systems do not tell a from A
            number += 1
            name = f"{own}-{number}"
        taken.add(name.lower())
        yield path, name


def _short(stem: str) -> str:
    """A name that leaves room for the endings of results: systems allow 255 bytes."""
    encoded = os.fsencode(stem)
    if len(encoded) <= 200:
        return stem
    return f"{encoded[:180].decode(errors='ignore')}-{hashlib.sha256(encoded).hexdigest()[:8]}"


def _names_in(line: dict[str, Any]) -> Iterator[str]:
    for key, (_, suffix) in FILES.items():
        if key in line:
            yield Path(line[key]).name.removesuffix(suffix).lower()


def _check_places(paths: Iterable[Path], folder: Path) -> None:
    home = folder.resolve()
    folders = {path.resolve().parent if path.is_symlink() else path.parent for path in paths}
    if inside := next((each for each in folders if each.resolve() == home), None):
        raise UsageError(
            f"Images lie in {inside}, where the results are to go.",
            "a folder of their own for the results, so that no file of yours is overwritten",
            "Choose another --out.",
        )
