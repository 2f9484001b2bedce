"""Networks side by side: parameters, multiply-accumulates, latency in ONNX Runtime, Dice where trained.

All latencies come from one process and one run, in turns, so that noise falls on all alike; trust the ratios.
Dice is per image, at native size, mean over the split, as ``dermdistill evaluate`` has it.

    python benchmarks/frontier.py --model nano --model DeepLabV3Plus/resnet101 \\
        --module benchmarks/peers.py:unext_s --run base=runs/base-0,runs/base-1,runs/base-2 \\
        --data.name isic2016 --line nano,small,base --out frontier

--model   one of ours, or an smp architecture and its encoder: ARCH/ENCODER (random weights: speed only)
--module  FILE.py:FACTORY, a function or class without arguments that answers a torch module from RGB in
          [0, 1], [n, 3, s, s], to one logit per pixel (of a tuple or list the first). The file is run: know
          what is in it. FILE.py:FACTORY=WEIGHTS.pth loads its state_dict, and Dice is measured too.
--run     a run folder of ``dermdistill train`` or ``distill``: Dice is measured too. NAME=FOLDER,FOLDER,…
          are seeds of one network: each image's Dice is their mean, latency is that of the first.
--quoted  NAME=DICE: a score from elsewhere for a network named above. It is drawn hollow, and takes no part
          in the frontier.

Writes OUT.json, OUT.md (the table) and, where any Dice is known, OUT.png: Dice against latency. On a busy
machine give --realtime (root's; keep it short) or --threads 1 --clock cpu.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnxruntime
from frontier_figure import draw, pareto
from frontier_networks import Entry, foreign, named, to_onnx, trained
from frontier_table import Row, to_markdown

from dermdistill.benchmark.benchmark import dice_per_image
from dermdistill.benchmark.latency import Latency, Setting, interleave, onnx_runner
from dermdistill.benchmark.results import machine
from dermdistill.benchmark.torch_models import torch_runner
from dermdistill.core.errors import DermDistillError, UsageError
from dermdistill.core.files import write_json
from dermdistill.metrics.intervals import Interval, mean_interval
from dermdistill.models.complexity import count_macs, count_parameters

OWN = "own"
WORDS = {"val": "validation", "test": "test"}


def entries_of(options: argparse.Namespace) -> list[Entry]:
    """All networks; the baseline is the first, and is added where it was not named."""
    entries = [named(text, options.size) for text in options.model]
    entries += [foreign(text, options.size) for text in options.module]
    entries += [trained(text) for text in options.run]
    if options.baseline not in [entry.name for entry in entries]:
        entries.append(named(options.baseline, options.size))
    names = [entry.name for entry in entries]
    if len(set(names)) < len(names):
        raise UsageError(f"names are not unique: {', '.join(names)}.", "each network once")
    for name in [*options.quoted, *options.label, *options.line]:
        if name not in names:
            raise UsageError(f"there is no network {name!r}.", f"one of {', '.join(names)}")
    return sorted(entries, key=lambda entry: entry.name != options.baseline)


@contextlib.contextmanager
def real_time(cpus: Sequence[int]) -> Iterator[None]:
    """Nothing takes these processors away from this process: only root may, and only for a short while.

    The calling thread gets the first one, its helpers share the others: of equal priority, they would not
    move out of each other's way.
    """
    own, before = threading.get_native_id(), os.sched_getaffinity(0)
    tasks = [int(task.name) for task in Path("/proc/self/task").iterdir()]
    try:
        for task in tasks:
            os.sched_setaffinity(task, cpus[:1] if task == own else cpus[1:] or cpus)
            os.sched_setscheduler(task, os.SCHED_FIFO, os.sched_param(1))
        yield
    finally:
        for task in tasks:
            os.sched_setscheduler(task, os.SCHED_OTHER, os.sched_param(0))
            os.sched_setaffinity(task, before)


def latencies(entries: Sequence[Entry], options: argparse.Namespace) -> dict[str, dict[str, Latency]]:
    """By name, by `Setting.key`; ratios are to the first entry."""
    with tempfile.TemporaryDirectory() as folder:
        runners = {}
        for number, entry in enumerate(entries):
            path = Path(folder) / f"{number}.onnx"
            to_onnx(entry.net, entry.size, path)
            # ONNX Runtime as it comes: a network is alone while it is timed, so its threads may spin.
            runners[entry.name] = functools.partial(onnx_runner, path, spin=True)
            progress(f"exported {entry.name}")
        quiet = functools.partial(real_time, options.realtime) if options.realtime else contextlib.nullcontext
        return interleave(
                runners, {entry.name: entry.size for entry in entries},
                settings=[Setting(threads, 1) for threads in options.threads],
                rounds=options.rounds, warm_ups=5, repeats=options.repeats,
                clock=time.thread_time if options.clock == "cpu" else time.perf_counter,
                during=quiet,
            )  # fmt: skip


def dice_of(entry: Entry, options: argparse.Namespace) -> Interval | None:
    """Mean over the images of the mean over the seeds; None without weights or data."""
    if not (entry.seeds and options.name):
        return None
    found = []
    for net, threshold, own in entry.seeds:
        data = own if options.name == OWN else options.name
        if data is None:
            raise UsageError(f"{entry.name} does not say on what it was trained.", "--data.name NAME")
        run = torch_runner(net, 1)
        found.append(dice_per_image(run, entry.size, threshold, data, root=options.root, split=options.split))
    progress(f"{entry.name}: Dice {', '.join(f'{100 * one.mean():.2f}' for one in found)}")
    return mean_interval(np.mean(found, axis=0))


def measure(options: argparse.Namespace) -> list[Row]:
    """All rows, the baseline first."""
    entries = entries_of(options)
    found = latencies(entries, options)
    return [
        Row(
            options.label.get(entry.name, entry.name), count_parameters(entry.net),
            count_macs(entry.net, entry.size), entry.size, found[entry.name], dice_of(entry, options),
            len(entry.seeds), options.quoted.get(entry.name),
        )
        for entry in entries
    ]  # fmt: skip


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
    parser.add_argument("--run", action="append", default=[], metavar="[NAME=]FOLDER[,FOLDER]")
    parser.add_argument("--quoted", action="append", default=[], metavar="NAME=DICE")
    parser.add_argument("--label", action="append", default=[], metavar="NAME=LABEL", help="another name")
    parser.add_argument("--line", default="", metavar="NAME,NAME", help="joined by a line in the figure")
    parser.add_argument("--baseline", default="unet-w8", help="latencies are divided by this one's")
    parser.add_argument("--size", type=int, default=256, help="of images, but for runs: they know theirs")
    parser.add_argument("--threads", type=int, nargs="+", default=[2], help="the figure shows the first")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=10, help="per round and network")
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall",
        help="cpu counts the processor time of the one thread: for a busy machine, with --threads 1",
    )  # fmt: skip
    parser.add_argument(
        "--realtime", type=int, nargs="+", default=[], metavar="CPU",
        help="time with real-time priority on these processors, one per thread",
    )  # fmt: skip
    parser.add_argument("--data.name", dest="name", help=f"prepared data set for Dice; {OWN}: each run's")
    parser.add_argument("--data.root", dest="root", type=Path, default=Path("data"))
    parser.add_argument("--split", choices=("val", "test"), default="test")
    parser.add_argument("--title", help="of the figure; default: how it was measured")
    parser.add_argument("--out", type=Path, default=Path("frontier"), help="file name without its ending")
    options = parser.parse_args()
    if options.realtime and not (sys.platform == "linux" and os.geteuid() == 0):
        parser.error("--realtime needs root on Linux; for one thread, --clock cpu does as well")
    if options.realtime and len(options.realtime) < max(options.threads):
        parser.error("--realtime takes as many processors as there are threads")
    if options.clock == "cpu" and options.threads != [1]:
        parser.error("--clock cpu counts one thread only: use it with --threads 1")
    if not (options.model or options.module or options.run):
        parser.error("nothing to compare: name at least one --model, --module or --run")
    if min(options.size, *options.threads, options.rounds, options.repeats) < 1:
        parser.error("--size, --threads, --rounds and --repeats are at least 1")
    try:
        options.label = dict(text.split("=") for text in options.label)
        options.quoted = {name: float(dice) for name, dice in (t.split("=") for t in options.quoted)}
    except ValueError:
        parser.error("--label takes NAME=LABEL, --quoted NAME=DICE in percent")
    options.line = [name for name in options.line.split(",") if name]
    return options


def main() -> int:
    """Measure, print, write."""
    options = parse()
    try:
        rows = measure(options)
    except DermDistillError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    clock = "processor time" if options.clock == "cpu" else "wall time"
    clock += " at real-time priority" if options.realtime else ""
    sizes = " and ".join(f"{size}×{size}" for size in sorted({row.size for row in rows}))
    about = f"{sizes}, fp32, ONNX Runtime {onnxruntime.__version__}, {clock}"
    images = max((row.dice.n for row in rows if row.dice), default=0)
    scored = f"{images} {WORDS[options.split]} images" if images else ""
    turns = f"median of {options.rounds} × {options.repeats} in turns"
    table = to_markdown(rows)
    print(f"{about}; {turns}; {scored}\n\n{table}")
    report = {
        "protocol": f"{about}; {turns}",
        "settings": {key: str(value) for key, value in vars(options).items()},
        "load_average": os.getloadavg(),
        "machine": machine(),
        "rows": [asdict(row) for row in rows],
        "pareto": [row.name for row in pareto(rows)],
    }
    write_json(options.out.with_suffix(".json"), report)
    options.out.with_suffix(".md").write_text(table, encoding="utf-8")
    if any(row.dice for row in rows):
        line = [options.label.get(name, name) for name in options.line]
        draw(rows, options.out.with_suffix(".png"), options.title or f"{about}. {scored}", line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
