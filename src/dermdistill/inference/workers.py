"""Batches of images, several at a time: workers are processes or threads, and their order is kept."""

from __future__ import annotations

import collections
import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dermdistill.core.errors import DataError, DermDistillError
from dermdistill.core.files import to_json_line
from dermdistill.imaging.memory import keep_freed_memory
from dermdistill.inference import formats
from dermdistill.inference.onnx_backend import OnnxBackend
from dermdistill.inference.predictor import Input, Predictor
from dermdistill.inference.writers import OutputWriter

_AHEAD = 2  # tasks that wait for each worker
_TOGETHER = (
    8  # batches of a task, where they are small: each task costs the calling process half a millisecond
)
_SMALL = 500_000  # bytes of files that are small together
_WORTH_IT = 3.0  # seconds of work: less is done before a second process has begun

Batch = list[tuple[Path, str]]
"""Paths of images, each with what the names of its files begin with."""


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
        found.append(Done(line, to_json_line(coco) if coco else ""))
    return found


def in_order(
    predictor: Predictor, writer: OutputWriter, batches: Iterable[Batch], workers: int
) -> Generator[Done | DataError]:
    """What the batches come to, in their order; few of them wait, so that memory is bounded."""
    if workers == 1:
        for batch in batches:
            yield from _predict_batch(predictor, writer, batch)
        return
    executor = _executor(predictor, writer, workers)
    waiting: collections.deque[Future[tuple[list[Done | DataError], Exception | None]]] = collections.deque()
    try:
        for task in _tasks(batches):
            waiting.append(executor.submit(_work, task))
            if len(waiting) > _AHEAD * workers:
                yield from _results(waiting.popleft())
        while waiting:
            yield from _results(waiting.popleft())
    except BrokenProcessPool:
        raise DermDistillError(
            "A worker process was ended by the system, perhaps for want of memory.",
            "workers that live until all is done",
            "The same command with --resume goes on; fewer --workers take less memory.",
        ) from None
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _tasks(batches: Iterable[Batch]) -> Iterator[list[Batch]]:
    """Batches of small pictures several at a time, others alone."""
    task: list[Batch] = []
    size = 0
    for batch in batches:
        task.append(batch)
        size += sum(path.stat().st_size for path, _ in batch if path.is_file())
        if len(task) == _TOGETHER or size > _SMALL:
            yield task
            task, size = [], 0
    if task:
        yield task


def _results(task: Future[tuple[list[Done | DataError], Exception | None]]) -> Iterator[Done | DataError]:
    found, error = task.result()
    yield from found
    if error is not None:
        raise error


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
    warnings.filterwarnings("ignore", module=r"PIL\.")  # as `cli.common.set_up_logging` has it
    keep_freed_memory()
    _begin_thread(predictor, writer)


def _work(task: list[Batch]) -> tuple[list[Done | DataError], Exception | None]:
    """What the batches come to, up to the first that fails as a whole (for a full disk, say), and why."""
    predictor, writer = _here.tools
    found: list[Done | DataError] = []
    try:
        for batch in task:
            found += _predict_batch(predictor, writer, batch)
    except Exception as error:
        return found, error
    return found, None
