"""Networks side by side: parameters, multiply-accumulates, latency in ONNX Runtime, Dice where trained.

All latencies come from one process and one run, in turns, so that noise falls on all alike; trust the ratios.
Dice is per image, at native size, mean over the split, as ``dermdistill evaluate`` has it.

    python benchmarks/frontier.py --model nano --model small --model unet-w8 \\
        --model DeepLabV3Plus/tu-tf_efficientnet_lite0 --module peers/unext.py:UNeXt_S \\
        --run runs/isic2016-student-distilled --data.name isic2016 --out frontier

--model   one of ours, or an smp architecture and its encoder: ARCH/ENCODER (random weights: speed only)
--module  FILE.py:FACTORY, a function or class without arguments that answers a torch module from RGB in
          [0, 1], [n, 3, s, s], to one logit per pixel (of a tuple or list the first). The file is run: know
          what is in it.
          FILE.py:FACTORY=WEIGHTS.pth loads its state_dict, and Dice is measured too.
--run     a run folder of ``dermdistill train`` or ``distill``: Dice is measured too.

Writes OUT.json, OUT.md (the table) and, where any Dice is known, OUT.png: Dice against latency. On a busy
machine use --threads 1 --clock cpu; a real-time priority (chrt -f 1) keeps others away from a short run.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dermdistill import graph, imaging, inference
from dermdistill.data.prepare import ensure_prepared
from dermdistill.errors import DermDistillError, MismatchError, UsageError
from dermdistill.metrics import Counts, count, mean_interval, scores
from dermdistill.models.build import LesionNet, build_model, count_macs, count_parameters, load_weights
from dermdistill.models.torch_backend import TorchBackend, load_run

BLUE, GREY = "#0072B2", "#777777"


@dataclass
class Entry:
    """One network of the comparison."""

    name: str
    kind: str
    net: nn.Module
    has_weights: bool
    threshold: float = 0.5


@dataclass
class Row:
    """What was measured of one network."""

    name: str
    kind: str
    parameters: int
    macs: int
    median_ms: float
    low_ms: float
    high_ms: float
    ratio: float
    dice: float | None = None
    dice_low: float | None = None
    dice_high: float | None = None
    images: int = 0


class FirstLogits(nn.Module):
    """A foreign network, of whose answers the first is taken and brought to the size of the image."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> Tensor:
        """[n, 3, s, s] → [n, 1, s, s]."""
        found = self.net(image)
        logits: Tensor = found[0] if isinstance(found, tuple | list) else found
        if logits.ndim != 4 or logits.shape[1] != 1:
            raise UsageError(f"the module answers {list(logits.shape)}.", "one logit per pixel, [n, 1, h, w]")
        if logits.shape[-2:] != image.shape[-2:]:
            logits = nn.functional.interpolate(logits, image.shape[-2:], mode="bilinear", align_corners=False)
        return logits


# -- what to compare --------------------------------------------------------------------------------------


def named(text: str) -> Entry:
    """``nano`` or ``ARCH/ENCODER``, random weights."""
    arch, _, encoder = text.partition("/")
    return Entry(text, "model", build_model(arch, encoder or None), has_weights=False)


def foreign(text: str) -> Entry:
    """``FILE.py:FACTORY`` or ``FILE.py:FACTORY=WEIGHTS``."""
    where, _, weights = text.partition("=")
    file, _, factory = where.rpartition(":")
    if not file or not Path(file).is_file():
        raise UsageError(f"--module {text}: there is no file {file!r}.", "FILE.py:FACTORY[=WEIGHTS.pth]")
    spec = importlib.util.spec_from_file_location(f"frontier_{Path(file).stem}", file)
    if spec is None or spec.loader is None:
        raise UsageError(f"--module {text}: {file} is not a Python file.", "FILE.py:FACTORY[=WEIGHTS.pth]")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.insert(0, str(Path(file).resolve().parent))  # its neighbours, which it may import
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.pop(0)
    make = getattr(module, factory, None)
    if not callable(make):
        known = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        raise UsageError(f"{file} has no {factory!r}.", f"one of {', '.join(known)}")
    net = make()
    if weights:
        load_weights(net, Path(weights))
    return Entry(factory, "module", FirstLogits(net), has_weights=bool(weights))


def trained(folder: Path, size: int) -> Entry:
    """A run folder; latency and Dice must be of one input size."""
    net, card = load_run(folder)
    if card.input_size != size:
        raise MismatchError(
            f"{folder} takes images of {card.input_size}×{card.input_size}, latency is measured at {size}.",
            "one size for both",
            f"give --size {card.input_size}, and runs of that size only.",
        )
    return Entry(folder.name, "run", net, has_weights=True, threshold=card.threshold)


# -- latency ----------------------------------------------------------------------------------------------


def to_onnx(net: nn.Module, size: int, path: Path) -> None:
    """Export at a fixed size, opset 17: our own as ``dermdistill export`` does it, foreign ones plainly."""
    if isinstance(net, LesionNet):
        return graph.trace(net, path, size)
    with warnings.catch_warnings():
        # The exporter's deprecation, and traces that hold for this one size only, which is the one measured.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net.cpu().eval(), (torch.rand(1, 3, size, size),), str(path), dynamo=False, opset_version=17,
            input_names=["image"], output_names=["logits"],
        )  # fmt: skip


def time_in_turns(
    files: dict[str, Path], size: int, threads: int, rounds: int, repeats: int, clock: Callable[[], float]
) -> dict[str, NDArray[np.float64]]:
    """Milliseconds of each run, by network: ``rounds`` × ``repeats`` of them, the networks in turns.

    One session is alive at a time: several, whose threads spin, would triple each other's latency.
    """
    image = np.random.default_rng(0).random((1, 3, size, size), dtype=np.float32)
    found: dict[str, list[float]] = {name: [] for name in files}
    for turn in range(rounds):
        for name, path in files.items():
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
            session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            for _ in range(3):  # warm caches are what a user has
                session.run(None, {"image": image})
            for _ in range(repeats):
                start = clock()
                session.run(None, {"image": image})
                found[name].append((clock() - start) * 1000)
            del session
        progress(f"latency: round {turn + 1} of {rounds}")
    return {name: np.array(values) for name, values in found.items()}


# -- Dice -------------------------------------------------------------------------------------------------


def dice_of(entry: Entry, options: argparse.Namespace) -> tuple[float, float, float, int]:
    """Mean Dice per image in percent at native size, its 95 % interval, and the number of images."""
    data = ensure_prepared(options.name, options.root, options.size)
    rows = data.indices(options.split)
    counted = []
    for row, prob in inference.probabilities(TorchBackend(entry.net), data, rows):  # type: ignore[arg-type]
        truth = data.native_mask(row)
        mask = imaging.to_mask(imaging.restore_prob(prob, *truth.shape), entry.threshold)
        counted.append(count(mask, truth))
    dice = 100 * scores(Counts(*np.array(counted).T))["dice"]
    found = mean_interval(dice)
    return float(dice.mean()), found.low, found.high, len(rows)


# -- results ----------------------------------------------------------------------------------------------


def pareto(rows: list[Row]) -> list[Row]:
    """Rows with Dice that no other beats in latency and Dice at once, fastest first."""
    best, kept = -1.0, []
    for row in sorted((row for row in rows if row.dice is not None), key=lambda row: row.median_ms):
        if row.dice is not None and row.dice > best:
            best = row.dice
            kept.append(row)
    return kept


def to_markdown(rows: list[Row], baseline: str) -> str:
    """The table."""
    lines = [
        f"| network | parameters (M) | GMACs | latency (ms) | × {baseline} | Dice (95 % CI) |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        dice = "" if row.dice is None else f"{row.dice:.2f} ({row.dice_low:.2f} to {row.dice_high:.2f})"
        lines.append(
            f"| {row.name} | {row.parameters / 1e6:.3f} | {row.macs / 1e9:.3f} | {row.median_ms:.2f} "
            f"| {row.ratio:.3f} | {dice} |"
        )
    return "\n".join(lines) + "\n"


def draw(rows: list[Row], path: Path, about: str) -> None:
    """Dice against latency (log), area of a mark by parameters, the frontier as steps.

    Networks whose Dice is not known stand as ticks on the latency axis.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    best = [row.name for row in pareto(rows)]
    scored = [row for row in rows if row.dice is not None]
    figure, axes = pyplot.subplots(figsize=(7.6, 5), layout="constrained")
    axes.set_xscale("log")
    steps = [(row.median_ms, row.dice) for row in pareto(rows)]
    axes.step(*zip(*steps, strict=True), where="post", color=BLUE, lw=1.2, label="not beaten in both")
    for place, row in enumerate(sorted(scored, key=lambda row: row.median_ms)):
        assert row.dice is not None
        assert row.dice_low is not None
        assert row.dice_high is not None
        color = BLUE if row.name in best else GREY
        error = [[row.dice - row.dice_low], [row.dice_high - row.dice]]
        axes.errorbar(row.median_ms, row.dice, yerr=error, color=color, alpha=0.4, capsize=3, lw=1)
        area = 30 + 60 * np.sqrt(row.parameters / 1e6)
        axes.scatter(row.median_ms, row.dice, s=area, color=color, zorder=3, edgecolor="white")
        axes.annotate(
            f"{row.name}\n{row.parameters / 1e6:.2f} M", (row.median_ms, row.dice), fontsize=9, color=color,
            xytext=(10, 6 if place % 2 else -27), textcoords="offset points",  # neighbours step aside
        )  # fmt: skip
    below, above = min(row.dice_low or 0 for row in scored), max(row.dice_high or 0 for row in scored)
    span = above - below
    axes.set_ylim(below - 0.55 * span, above + 0.12 * span)
    for row in rows:
        if row.dice is None:
            short = row.name.rpartition("/")[0] or row.name
            axes.axvline(row.median_ms, ymax=0.03, color=GREY, lw=1.5)
            axes.annotate(
                short, (row.median_ms, 0.045), xycoords=("data", "axes fraction"), fontsize=8, color=GREY,
                rotation=90, ha="center", va="bottom",
            )  # fmt: skip
    low, high = min(row.median_ms for row in rows), max(row.median_ms for row in rows)
    axes.set_xlim(low / 1.4, high * (high / low) ** 0.15 * 1.3)
    for axis in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        axis(lambda value, _: f"{value:g}" if f"{value:.0e}"[0] in "125" else "")
    axes.set_xlabel("latency of one image in ms (logarithmic)")
    axes.set_ylabel("Dice per image in %, mean and 95 % interval")
    axes.set_title(about, fontsize=8, color="#555555", loc="left")
    axes.grid(alpha=0.2, which="both")
    axes.legend(loc="upper left", fontsize=8, frameon=False)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def progress(text: str) -> None:
    """One line for whoever waits."""
    print(f"  {text}", file=sys.stderr, flush=True)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", action="append", default=[], metavar="NAME")
    parser.add_argument("--module", action="append", default=[], metavar="FILE.py:FACTORY[=WEIGHTS]")
    parser.add_argument("--run", action="append", default=[], type=Path, metavar="FOLDER")
    parser.add_argument("--baseline", default="unet-w8", help="latencies are divided by this one's")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=10, help="per round and network")
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall",
        help="cpu counts the processor time of the one thread: for a busy machine, with --threads 1",
    )  # fmt: skip
    parser.add_argument("--data.name", dest="name", help="prepared data set for Dice")
    parser.add_argument("--data.root", dest="root", type=Path, default=Path("data"))
    parser.add_argument("--split", choices=("val", "test"), default="test")
    parser.add_argument("--out", type=Path, default=Path("frontier"), help="file name without its ending")
    options = parser.parse_args()
    if options.clock == "cpu" and options.threads != 1:
        parser.error("--clock cpu counts one thread only: use it with --threads 1")
    if not (options.model or options.module or options.run):
        parser.error("nothing to compare: name at least one --model, --module or --run")
    if min(options.size, options.threads, options.rounds, options.repeats) < 1:
        parser.error("--size, --threads, --rounds and --repeats are at least 1")
    return options


def measure(options: argparse.Namespace) -> list[Row]:
    """All rows, in the order they were named; the baseline first if it was not."""
    entries = [named(text) for text in options.model]
    entries += [foreign(text) for text in options.module]
    entries += [trained(folder, options.size) for folder in options.run]
    if options.baseline not in [entry.name for entry in entries]:
        entries.insert(0, named(options.baseline))
    names = [entry.name for entry in entries]
    if len(set(names)) < len(names):
        raise UsageError(f"names are not unique: {', '.join(names)}.", "each network once")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        files = {}
        for number, entry in enumerate(entries):
            files[entry.name] = Path(folder) / f"{number}.onnx"
            to_onnx(entry.net, options.size, files[entry.name])
            progress(f"exported {entry.name}")
        clock = time.thread_time if options.clock == "cpu" else time.perf_counter
        found = time_in_turns(files, options.size, options.threads, options.rounds, options.repeats, clock)
    unit = statistics.median(found[options.baseline])
    for entry in entries:
        times = found[entry.name]
        row = Row(
            entry.name, entry.kind, count_parameters(entry.net), count_macs(entry.net, options.size),
            float(np.median(times)), *np.percentile(times, [10, 90]).tolist(), float(np.median(times) / unit),
        )  # fmt: skip
        if entry.has_weights and options.name:
            row.dice, row.dice_low, row.dice_high, row.images = dice_of(entry, options)
            progress(f"{entry.name}: Dice {row.dice:.2f} on {row.images} images")
        rows.append(row)
    return rows


def main() -> int:
    """Measure, print, write."""
    options = parse()
    try:
        rows = measure(options)
    except DermDistillError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    clock = "processor time" if options.clock == "cpu" else "wall time"
    threads = "1 thread" if options.threads == 1 else f"{options.threads} threads"
    about = f"{options.size}×{options.size}, fp32, {threads}, {clock}, onnxruntime {onnxruntime.__version__}"
    if options.name:
        about += f", {options.name} {options.split}"
    table = to_markdown(rows, options.baseline)
    print(f"{about}; median of {options.rounds} × {options.repeats} in turns\n\n{table}")
    report: dict[str, Any] = {
        "protocol": about,
        "settings": {key: str(value) for key, value in vars(options).items()},
        "load_average": os.getloadavg(),
        "machine": platform.machine(),
        "torch": torch.__version__,
        "rows": [asdict(row) for row in rows],
        "pareto": [row.name for row in pareto(rows)],
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.with_suffix(".json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    options.out.with_suffix(".md").write_text(table, encoding="utf-8")
    if any(row.dice is not None for row in rows):
        draw(rows, options.out.with_suffix(".png"), about)
    return 0


if __name__ == "__main__":
    sys.exit(main())
