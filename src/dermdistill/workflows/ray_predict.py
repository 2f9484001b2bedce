"""Predict an archive on a Ray cluster: Ray Data hands units of work to actors, each with its own network.

An actor writes the partition of its unit itself, so only a line about it travels, and memory stays flat. If a
worker dies, Ray starts another and gives it the unit again: its partition is not there yet, or is replaced.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dermdistill.core.errors import DataError, DermDistillError, MissingExtraError, UsageError
from dermdistill.inference.archive.table import done_partitions, segment_unit, write_partition
from dermdistill.inference.archive.units import IMAGES_EACH, Unit, find_units
from dermdistill.inference.backends import SHIPPED
from dermdistill.inference.onnx_backend import OnnxBackend
from dermdistill.inference.predictor import Predictor

RETRIES = 3
"""How often a unit is begun again after the worker that had it died: a picture that kills every worker must
not keep a cluster busy for ever."""
_MOST_BLOCKS = 4096


@dataclass(frozen=True)
class Progress:
    """How far an archive is."""

    complete: int
    """Partitions that are complete, those of an earlier run among them."""
    total: int
    """Partitions that there will be."""
    rows: int
    """Pictures of this run."""
    errors: int
    """Of those without a mask."""


class Segmenter:
    """What an actor does: one network, kept between units.

    Args:
        onnx: Content of the ONNX file: it need not lie on the workers' disks.
        table: Address of the table.
        masks: Write each mask into the table as a PNG.
    """

    def __init__(self, onnx: bytes, table: str, masks: bool) -> None:
        import ray

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            path.write_bytes(onnx)
            backend = OnnxBackend(path, threads=1, gpu=bool(ray.get_gpu_ids()))
        self.predictor = Predictor.from_backend(backend.card, backend)
        self.model_sha256 = hashlib.sha256(onnx).hexdigest()
        self.table, self.masks = table, masks

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[int]]:
        """Segment units and write their partitions; counts of rows and of errors."""
        counts: dict[str, list[int]] = {"rows": [], "errors": []}
        columns = (batch[name] for name in ("name", "kind", "root", "paths", "row_group"))
        for name, kind, root, paths, group in zip(*columns, strict=True):
            unit = Unit(str(kind), str(root), tuple(map(str, paths)), int(group))
            rows = list(segment_unit(unit, self.predictor, self.model_sha256, masks=self.masks))
            write_partition(self.table, str(name), rows, masks=self.masks)
            counts["rows"].append(len(rows))
            counts["errors"].append(sum(bool(row["error"]) for row in rows))
        return counts


def predict_archive(
    sources: Sequence[str],
    table: str,
    *,
    model: Path | None = None,
    masks: bool = False,
    workers: int | None = None,
    address: str | None = None,
    images_each: int = IMAGES_EACH,
) -> Iterator[Progress]:
    """Segment an archive into a table of Parquet partitions; yield how far it is, after every unit.

    The same call goes on where an earlier one stopped.

    Args:
        sources: Image files, tars, Parquet files, folders and globs of them; paths or addresses.
        table: Folder of the partitions, a path or an address; made where it is missing.
        model: An ONNX file; None: the shipped student.
        masks: A column with each mask as a PNG.
        workers: Actors; None: one for each core of the cluster.
        address: Of a cluster that runs (``auto``: the one this machine belongs to); None: one is started
            here, for this call.
        images_each: Image files of one partition.

    Raises:
        MissingExtraError: Ray or pyarrow is not installed.
        UsageError: A source names nothing, the model is no ONNX file, the table holds other partitions, or
            there is no such cluster.
        DataError: The table cannot be written, or a unit killed its workers again and again.
    """
    check_installed()
    onnx = _read_model(model)
    units = find_units(sources, images_each=images_each)
    fingerprint = f"{hashlib.sha256(onnx).hexdigest()} {masks}"
    named = {unit.name(fingerprint): unit for unit in units}
    done = done_partitions(table)
    if strangers := done - named.keys():
        raise UsageError(
            f"{table} holds {len(strangers)} partitions of other pictures or by another model.",
            "a new table, or the sources, the model and the settings that it was begun with",
            "Choose another --table, or repeat the first command to go on.",
        )
    todo = {name: unit for name, unit in named.items() if name not in done}
    complete, rows, errors = len(done), 0, 0
    yield Progress(complete, len(named), rows, errors)
    if todo:
        for more_rows, more_errors in _run(todo, onnx, table, masks, workers, address):
            complete, rows, errors = complete + 1, rows + more_rows, errors + more_errors
            yield Progress(complete, len(named), rows, errors)


def check_installed() -> None:
    """Say at once what is missing.

    Raises:
        MissingExtraError: Ray or pyarrow is not installed.
    """
    for module, title in (("ray", "Ray"), ("pyarrow", "pyarrow")):
        if importlib.util.find_spec(module) is None:
            raise MissingExtraError(
                f"--engine ray needs {title}, which is not installed.",
                "the cluster part of dermdistill",
                "pip install 'dermdistill[cluster]'",
            )


def _run(
    units: Mapping[str, Unit],
    onnx: bytes,
    table: str,
    masks: bool,
    workers: int | None,
    address: str | None,
) -> Iterator[tuple[int, int]]:
    """Rows and errors of each unit, in the order in which they end."""
    os.environ.setdefault("RAY_DATA_LOG_LEVEL", "ERROR")
    import ray

    started = not ray.is_initialized()
    if started:
        _connect(address, workers)
    try:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        resources = ray.cluster_resources()
        actors = min(len(units), workers or max(1, int(resources.get("CPU", 1))))
        items = [{"name": name, **asdict(unit)} for name, unit in units.items()]
        done = ray.data.from_items(items, override_num_blocks=min(len(items), _MOST_BLOCKS)).map_batches(
            Segmenter,
            fn_constructor_args=(onnx, table, masks),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=actors),
            num_cpus=1,
            num_gpus=min(1.0, resources.get("GPU", 0) / actors) or None,
            ray_remote_args_fn=lambda: {"max_task_retries": RETRIES},
        )
        for row in done.iter_rows():
            yield int(row["rows"]), int(row["errors"])
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, DermDistillError):
            raise cause from None
        raise DataError(
            f"The cluster gave up: {str(error).strip().splitlines()[-1][:300]}",
            f"workers that live; a unit is begun again {RETRIES} times",
            "Look at Ray's logs; the same command goes on with what is missing.",
        ) from error
    finally:
        if started:
            ray.shutdown()


def _connect(address: str | None, workers: int | None) -> None:
    import ray

    settings: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address is None:
        ray.init(address="local", include_dashboard=False, num_cpus=workers, **settings)
        return
    try:
        ray.init(address=address, **settings)
    except (ConnectionError, ValueError) as error:
        raise UsageError(
            f"There is no Ray cluster at {address}: {str(error).splitlines()[0]}",
            "the address of a cluster that runs, or auto on one of its machines",
            "Start one (ray start --head), or leave --ray-address out: this machine is used then.",
        ) from None


def _read_model(model: Path | None) -> bytes:
    path = model or SHIPPED
    if path.suffix != ".onnx":
        raise UsageError(
            f"{path} is no ONNX file.",
            "an ONNX file: it is sent to the workers, which need no PyTorch",
            "Export the run first: dermdistill export RUN",
        )
    OnnxBackend(path, threads=1)  # its errors are told before a cluster is asked for anything
    return path.read_bytes()
