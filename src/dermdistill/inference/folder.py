"""From image files to a folder of results: several at a time, in order, and on again after a stop."""

from __future__ import annotations

import collections
import contextlib
import csv
import itertools
import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dermdistill.core.errors import DataError, DermDistillError, UsageError
from dermdistill.core.files import atomic_path, disk_error
from dermdistill.imaging.find import LINES
from dermdistill.inference import formats
from dermdistill.inference.onnx_backend import OnnxBackend
from dermdistill.inference.predictor import Input, Predictor
from dermdistill.inference.shape import check_scale
from dermdistill.inference.writers import (
    COCO,
    DEFAULT_KINDS,
    FILES,
    TABLE,
    Kind,
    OutputWriter,
    write_compact,
)

_COCO_LINES = "coco.jsonl"  # what coco.json is made of: an image a line
_AHEAD = 2  # batches that wait for each worker
_WORTH_IT = 3.0  # seconds of work: less is done before a second process has begun

Batch = list[tuple[Path, str]]
"""Paths of images, each with what the names of its files begin with."""


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
    deviation of 0 to 0.5, which is the largest there can be), ``NAME.geojson``; per call
    ``predictions.csv``, ``coco.json`` (made of the lines of ``coco.jsonl``) and, always,
    ``predictions.jsonl``; files of lines grow image by image. Two inputs of one name get ``NAME``,
    ``NAME-2`` …; COCO and GeoJSON name each by its path below the folder that all inputs lie in. Nothing is
    overwritten within a call; what an earlier call left in the folder is, unless ``resume``.

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
        ``probability_map``, ``uncertainty_map``, ``geojson``), or why there is none.

    Raises:
        UsageError: An input lies in ``folder``, the scale is impossible, a map of uncertainty is asked for
            where there is none, or the folder holds another model's results.
        DataError: The disk is full or the folder cannot be written; what is done stays.
    """
    check_scale(mm_per_pixel)
    _check_places(paths, folder)
    writer = OutputWriter(folder, outputs, mm_per_pixel, formats.find_common_folder(paths))
    try:
        kept = _resumed(writer, predictor) if resume else {}
        batches = _batches(_named(paths, kept), batch_size)
        with contextlib.ExitStack() as stack:
            lines = stack.enter_context(_opened(folder / LINES, resume))
            parts = stack.enter_context(_opened(folder / _COCO_LINES, resume)) if "coco" in outputs else None
            bar = stack.enter_context(tqdm(total=len(paths), unit="image", disable=not progress, leave=False))
            bar.update(sum(str(path) in kept for path in paths))
            for done in stack.enter_context(
                contextlib.closing(_in_order(predictor, writer, batches, workers))
            ):
                if isinstance(done, Done):
                    if parts is not None:
                        parts.write(done.coco + "\n")
                        parts.flush()
                    lines.write(json.dumps(done.line, ensure_ascii=False) + "\n")
                    lines.flush()
                bar.update()
                yield done.line if isinstance(done, Done) else done
        _write_tables(folder, outputs)
    except OSError as error:
        raise disk_error(error, Path(error.filename or folder)) from error


def choose_workers(
    images: Sequence[Path], workers: int | None, threads: int | None
) -> tuple[int, int | None]:
    """How many images at a time, and threads of the network for each.

    One thread for each of many images is quicker than many threads for one: decoding and drawing use one.

    Args:
        images: What is to be predicted.
        workers: As asked for; None: one for each core that this process may use, where the images are enough
            to make up for starting them.
        threads: As asked for; None: the cores over the workers.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if workers is None:
        size = sum(path.stat().st_size for path in images if path.is_file())
        seconds = len(images) / 100 + size / 12e6  # as measured on one core (docs/how-to/scale.md)
        workers = cores if seconds > _WORTH_IT else 1
    workers = max(1, min(len(images), workers))
    return workers, max(1, cores // workers) if threads is None else threads


@dataclass(frozen=True)
class Done:
    """One image whose files are written."""

    line: dict[str, Any]
    """Of ``predictions.jsonl``."""
    coco: str
    """Its part of the COCO file, as a line of JSON; empty where there is none."""


def _predict_batch(predictor: Predictor, writer: OutputWriter, batch: Batch) -> list[Done | DataError]:
    """Read, segment and write some images (path and name each)."""
    inputs: list[Input | DataError] = []
    for path, _ in batch:
        try:
            inputs.append(predictor.read(path, keep="overlay" in writer.outputs))
        except DataError as error:
            inputs.append(error)
    predictions = iter(predictor.predict_inputs([item for item in inputs if isinstance(item, Input)]))
    found: list[Done | DataError] = []
    for (path, name), item in zip(batch, inputs, strict=True):
        if isinstance(item, DataError):
            found.append(item)
            continue
        prediction = next(predictions)
        try:
            line = writer.write(path, name, prediction, item.native)
        except DataError as error:
            found.append(error)
            continue
        coco = (
            {"path": str(path), **formats.coco_image(prediction, path.name)}
            if "coco" in writer.outputs
            else {}
        )
        found.append(Done(line, json.dumps(coco, ensure_ascii=False) if coco else ""))
    return found


def _in_order(
    predictor: Predictor, writer: OutputWriter, batches: Iterable[Batch], workers: int
) -> Generator[Done | DataError]:
    """What the batches come to, in their order; few of them wait, so that memory is bounded."""
    if workers == 1:
        for batch in batches:
            yield from _predict_batch(predictor, writer, batch)
        return
    executor = _executor(predictor, writer, workers)
    waiting: collections.deque[Future[list[Done | DataError]]] = collections.deque()
    try:
        for batch in batches:
            waiting.append(executor.submit(_work, batch))
            if len(waiting) > _AHEAD * workers:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    except BrokenProcessPool:
        raise DermDistillError(
            "A worker process was ended by the system, perhaps for want of memory.",
            "workers that live until all is done",
            "The same command with --resume goes on; fewer --workers take less memory.",
        ) from None
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _executor(predictor: Predictor, writer: OutputWriter, workers: int) -> Executor:
    """Processes for an ONNX file, as half of a small picture's time holds the interpreter; threads else."""
    if not isinstance(predictor.backend, OnnxBackend):
        return ThreadPoolExecutor(workers, initializer=_begin_thread, initargs=(predictor, writer))
    kinds = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in kinds else "spawn")
    if "forkserver" in kinds:  # modules are imported once for all workers
        context.set_forkserver_preload([__name__])
    return ProcessPoolExecutor(
        workers, mp_context=context, initializer=_begin_process, initargs=(predictor, writer)
    )


_here = threading.local()  # of each worker: what it predicts and writes with


def _begin_thread(predictor: Predictor, writer: OutputWriter) -> None:
    _here.tools = predictor, writer


def _begin_process(predictor: Predictor, writer: OutputWriter) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the calling process's to answer
    _begin_thread(predictor, writer)


def _work(batch: Batch) -> list[Done | DataError]:
    predictor, writer = _here.tools
    return _predict_batch(predictor, writer, batch)


def _batches(named: Iterator[tuple[Path, str]], size: int) -> Iterator[Batch]:
    while batch := list(itertools.islice(named, size)):
        yield batch


def _named(paths: Iterable[Path], kept: dict[str, dict[str, Any]]) -> Iterator[tuple[Path, str]]:
    """The images that are still to do, with a name of their own each."""
    taken = {name for line in kept.values() for name in _names_in(line)}
    for path in paths:
        if str(path) in kept:
            continue
        name, number = path.stem, 1
        while name.lower() in taken:  # some file systems do not tell a from A
            number += 1
            name = f"{path.stem}-{number}"
        taken.add(name.lower())
        yield path, name


def _names_in(line: dict[str, Any]) -> Iterator[str]:
    for key, suffix in FILES.values():
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


def _opened(path: Path, resume: bool) -> Any:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("a" if resume else "w", encoding="utf-8", newline="")


def _resumed(writer: OutputWriter, predictor: Predictor) -> dict[str, dict[str, Any]]:
    """The lines of an earlier call that stay, by path; all others leave ``predictions.jsonl``."""
    coco = {part["path"] for part in _read_lines(writer.folder / _COCO_LINES)}
    kept: dict[str, dict[str, Any]] = {}
    for line in _read_lines(writer.folder / LINES):
        made_by = line["model"]["weights_sha256"], line["threshold"]
        if made_by != (predictor.model["weights_sha256"], predictor.threshold):
            raise UsageError(
                f"{writer.folder} holds predictions of another model or outline "
                f"(SHA-256 {made_by[0][:16]}…, threshold {made_by[1]:.3f}).",
                "results of the model and the outline that go on",
                "Name that model and outline, choose another --out, or leave --resume out to begin again.",
            )
        keys = [FILES[kind][0] for kind in writer.outputs if kind in FILES]
        whole = all(key in line and Path(line[key]).is_file() for key in keys)
        in_coco = "coco" not in writer.outputs or line["path"] in coco
        if whole and in_coco and line["mm_per_pixel"] == writer.mm_per_pixel:
            kept[line["path"]] = line
    if (writer.folder / LINES).is_file():
        _rewrite(writer.folder / LINES, kept.values())
    if (writer.folder / _COCO_LINES).is_file():
        parts = {part["path"]: part for part in _read_lines(writer.folder / _COCO_LINES)}
        _rewrite(writer.folder / _COCO_LINES, (part for path, part in parts.items() if path in kept))
    return kept


def _read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file of JSON lines; a line that a stop cut off is left out."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as stream:
        for text in stream:
            with contextlib.suppress(json.JSONDecodeError):
                yield json.loads(text)


def _rewrite(path: Path, lines: Iterable[dict[str, Any]]) -> None:
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        stream.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def _write_tables(folder: Path, outputs: Collection[Kind]) -> None:
    """The files of a whole call, from the lines that it wrote."""
    if "csv" in outputs:
        with atomic_path(folder / TABLE) as path, path.open("w", encoding="utf-8", newline="") as stream:
            table = csv.DictWriter(stream, formats.COLUMNS, lineterminator="\n")
            table.writeheader()
            table.writerows(map(formats.row, _read_lines(folder / LINES)))
    if "coco" in outputs:
        write_compact(folder / COCO, formats.coco(_coco_images(folder / _COCO_LINES)))


def _coco_images(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of ``coco.jsonl``, each image named by its path below the folder that all of them lie in.

    That folder is known only at the end: a call that goes on with ``resume`` may have been given more inputs.
    """
    common = formats.find_common_folder(Path(part["path"]) for part in _read_lines(path))
    for part in _read_lines(path):
        name = formats.relative_name(Path(part["path"]), common)
        yield {**part, "image": {**part["image"], "file_name": name}}
