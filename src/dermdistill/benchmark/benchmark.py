"""Networks side by side: parameters, MACs, file, cold start, latency, memory, and what they score.

ONNX files are run by ONNX Runtime, run folders and modules of the user's own by torch. To compare networks
and not engines, export them first and name the ONNX files.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dermdistill import imaging
from dermdistill.artifacts.card import ModelCard
from dermdistill.benchmark.latency import SETTINGS, Runner, cold_start, interleave, onnx_runner
from dermdistill.benchmark.results import Candidate, Row, machine
from dermdistill.core.errors import DataError, MissingExtraError, UsageError, WeightsError
from dermdistill.core.files import write_json
from dermdistill.data.dataset import PreparedData
from dermdistill.data.prepare.prepare import ensure_prepared
from dermdistill.inference.backends import SHIPPED
from dermdistill.inference.onnx_backend import open_session, sigmoid
from dermdistill.metrics.intervals import Values, mean_interval
from dermdistill.metrics.overlap import Counts, count, scores

logger = logging.getLogger(__name__)

DEFAULT_SIZE = 256
"""Side in pixels for networks that say none."""


def bench_models(
    models: Sequence[str],
    *,
    size: int | None = None,
    data: str | None = None,
    root: Path = Path("data"),
    split: str = "val",
    limit: int | None = None,
    rounds: int = 15,
    repeats: int = 3,
    out: Path | None = None,
    progress: bool = True,
) -> list[Row]:
    """Measure networks, interleaved; write ``bench.json`` and, with Dice, ``dice_latency.png``.

    Args:
        models: ONNX files, run folders, ``file.py:factory``; none: the shipped student. Ratios are to the
            first.
        size: Side of the images; None: what each network's card says.
        data: Prepared data set to score them on.
        root: Its folder.
        split: Which of its splits.
        limit: Score only the first so many images.
        rounds: Turns per setting.
        repeats: Fresh processes for the cold start.
        out: Folder for the files; None: nothing is written.
        progress: Show bars.

    Returns:
        What was measured of each network, in the order given.

    Raises:
        UsageError: A model is none of these, or two have one name.
        MissingExtraError: A run or module is named, and torch is not installed.

    Examples:
        >>> from dermdistill import bench_models
        >>> (row,) = bench_models([], rounds=1, repeats=1, progress=False)  # the shipped student
        >>> row.candidate.size
        192
    """
    candidates = [open_candidate(model, size) for model in (models or [str(SHIPPED)])]
    names = _names(candidates)
    opened = dict(zip(names, candidates, strict=True))
    latency = interleave(
        {name: one.open for name, one in opened.items()},
        {name: one.size for name, one in opened.items()},
        rounds=rounds,
        progress=progress,
    )
    rows = []
    for name, one in opened.items():
        cold = cold_start([one.source, str(one.size)], repeats=repeats)
        dice = None
        if data:
            threshold = one.card.threshold if one.card else 0.5
            per_image = dice_per_image(
                one.open(1), one.size, threshold, data, root=root, split=split, limit=limit
            )
            dice = mean_interval(per_image)
        rows.append(Row(_named(one, name), latency[name], cold, dice))
    if out is not None:
        about = {"data": data, "split": split if data else None, "limit": limit, "rounds": rounds}
        report = {"models": [row.to_json() for row in rows], "machine": machine(), **about}
        write_json(out / "bench.json", report)
        if data is not None:
            _draw(out / "dice_latency.png", rows, f"{data}, {split}")
    return rows


def dice_per_image(
    run: Runner,
    size: int,
    threshold: float,
    data: str,
    *,
    root: Path = Path("data"),
    split: str = "val",
    limit: int | None = None,
) -> Values:
    """Score a network: Dice per image at native size, by the way that prediction takes.

    Args:
        run: The network: its (first) output is one logit per pixel.
        size: Side of its images in pixels.
        threshold: Lesion where the probability is above it.
        data: Prepared data set.
        root: Its folder.
        split: Which of its splits.
        limit: Only the first so many images.

    Returns:
        float64 [n], 0 to 1.

    Raises:
        DataError: There are no such images.
    """
    prepared: PreparedData = ensure_prepared(data, root, size)
    rows = prepared.indices(split)[:limit]
    if not len(rows):
        raise DataError(
            f"{data} has no {split} images.",
            "a split with images",
            "Choose another --split, or other --data.",
        )
    counted = []
    for row in rows.tolist():
        image = prepared.images[row : row + 1].transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
        outputs = run(np.ascontiguousarray(image))
        prob = sigmoid(np.asarray(outputs[0], dtype=np.float32).reshape(size, size))
        truth = prepared.native_mask(row)
        restored = imaging.restore_prob(prob, *truth.shape)
        counted.append(count(imaging.to_mask(restored, threshold), truth))
    return scores(Counts(*np.array(counted, dtype=np.int64).T))["dice"]


def open_candidate(model: str, size: int | None = None) -> Candidate:
    """Open a network by the name that a user gives it.

    Args:
        model: ONNX file, run folder, or ``file.py:factory``.
        size: Side of its images in pixels; None: what the file or its card says, else DEFAULT_SIZE.

    Returns:
        The network, ready to be run.

    Raises:
        UsageError: It is no ONNX file, run folder or ``file.py:factory``.
        MissingExtraError: It needs torch, which is not installed.
    """
    if model.endswith(".onnx"):
        return _open_onnx(Path(model), size)
    if not (".py:" in model or Path(model).exists()):
        raise UsageError(
            f"{model} does not exist.",
            "an ONNX file, a run folder, or file.py:factory",
            "Check the path; dermdistill export RUN makes ONNX files.",
        )
    if importlib.util.find_spec("torch") is None:
        raise MissingExtraError(
            f"{model} is run by torch, which is not installed.",
            "an ONNX file, or the training part of dermdistill",
            "pip install 'dermdistill[train]'",
        )
    return _open_torch(model, size)


def _open_onnx(path: Path, size: int | None) -> Candidate:
    if not path.is_file():
        raise UsageError(
            f"{path} does not exist.",
            "an ONNX file",
            "Check the path; dermdistill export RUN makes ONNX files.",
        )
    try:
        session = open_session(path, threads=1)
    except Exception as error:  # ONNX Runtime's exceptions have no base of their own
        raise WeightsError(
            f"{path} cannot be opened: {str(error).splitlines()[0]}",
            "an ONNX file",
            "Export it again: dermdistill export RUN.",
        ) from None
    try:
        card = ModelCard.from_metadata(session.get_modelmeta().custom_metadata_map, str(path))
    except DataError:
        card = None  # somebody else's file: it is measured all the same
    fixed = session.get_inputs()[0].shape[-1]
    side = size or (fixed if isinstance(fixed, int) else card.input_size if card else DEFAULT_SIZE)
    if isinstance(fixed, int) and side != fixed:
        raise UsageError(
            f"{path} takes images of {fixed}×{fixed} only.",
            f"--size {fixed}, or none",
            f"Add --size {fixed}, or export with --dynamic-size.",
        )
    parameters, macs = card.parameters if card else None, None
    if importlib.util.find_spec("onnx") is not None:
        from dermdistill.export.onnx_tensors import graph_cost

        parameters, macs = graph_cost(path, side)
    elif card and card.export and side == card.input_size:
        macs = card.export.get("macs")
    runner = functools.partial(onnx_runner, path)
    return Candidate(
        path.stem, str(path), "onnxruntime", side, card, parameters, macs, path.stat().st_size, runner
    )


def _open_torch(model: str, size: int | None) -> Candidate:
    from dermdistill.benchmark.torch_models import load_module, torch_runner
    from dermdistill.models.complexity import count_macs, count_parameters

    net, card = load_module(model)
    side = size or (card.input_size if card else DEFAULT_SIZE)
    path, name = Path(model), model.rpartition(":")[2] if card is None else Path(model).name
    file = path / card.weights if card and path.is_dir() else path
    return Candidate(
        name,
        model,
        "torch",
        side,
        card,
        count_parameters(net),
        count_macs(net, side),
        file.stat().st_size if card else None,
        functools.partial(torch_runner, net),
    )


def _names(candidates: Sequence[Candidate]) -> list[str]:
    """Name the networks: shortly where their names differ, else with their folders."""
    names = [one.name for one in candidates]
    parents = [Path(one.source).resolve().parent.name for one in candidates]
    full = [n if names.count(n) == 1 else f"{p}/{n}" for n, p in zip(names, parents, strict=True)]
    if len(set(full)) < len(full):
        raise UsageError(
            f"Two models have one name: {', '.join(full)}.",
            "each model once",
            "Name each once; rename one of two files of one name.",
        )
    return full


def _named(one: Candidate, name: str) -> Candidate:
    return Candidate(**{**one.__dict__, "name": name})


def _draw(path: Path, rows: Sequence[Row], title: str) -> None:
    if importlib.util.find_spec("matplotlib") is None:
        logger.warning("no figure: it needs matplotlib (pip install 'dermdistill[train]')")
        return
    from dermdistill.visualization.charts import dice_latency

    key = SETTINGS[0].key
    points = [
        (row.candidate.name, row.latency[key].ratio, row.dice, row.candidate.bytes)
        for row in rows
        if row.dice
    ]
    dice_latency(path, points, title, rows[0].candidate.name)
