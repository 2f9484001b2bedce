"""Training a student alone on a CPU: images per second, and where the time goes, beside the plain loop.

    python benchmarks/cpu_training.py --data.name NAME [--student unet-w8] [--size 256] [--epoch]

Each variant runs in a fresh process, and they take turns:

- plain loop: a DataLoader that decodes and transforms item by item, fp32 in the default layout, Adam,
  ``loss.item()`` after every step (`plain.py`);
- ours, options off: `training.train` in the default layout, memory handed back, the optimiser name by name;
- ours before: with channels_last;
- ours: with freed memory kept (`acceleration.host_memory`) and the optimiser in one kernel;
- ours, bf16: ``trainer.precision: bf16-mixed``, which rounds; for processors with AVX-512 BF16 or AMX.

On a busy machine trust the milliseconds of processor time, not the images per second, and give it one thread
(``OMP_NUM_THREADS=1 … --threads 1 --clock cpu``). ``loss differs by`` is the largest difference of a step's
loss from that of ``ours before`` with the same seed. ``--epoch`` trains one whole epoch more, and says what
it took beside its steps.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any
from unittest import mock

import lightning.pytorch as L
import torch
from clock import PARTS, Enough, StepClock, parts_table, usage
from plain import run_plain
from steps import quiet

from dermdistill.config import Recipe, load_recipe
from dermdistill.core.files import read_csv
from dermdistill.data.prepare.prepare import ensure_prepared
from dermdistill.training import fit
from dermdistill.training import run as training

VARIANTS = ("plain loop", "ours, options off", "ours before", "ours", "ours, bf16")
WARM_UP = 4
"""Steps that are not counted."""


class Meter(StepClock):
    """The clock of the steps, and what else they cost."""

    def __init__(self, **of_clock: Any) -> None:
        super().__init__(warm_up=WARM_UP, **of_clock)
        self.losses: list[float] = []
        self.used: list[tuple[float, float, int]] = []

    def on_train_batch_start(self, trainer: L.Trainer, task: Any, batch: Any, batch_idx: int) -> None:
        """Read the meters before the first step that counts."""
        if self.begun == self.warm_up:
            self.used.append(usage())
        super().on_train_batch_start(trainer, task, batch, batch_idx)

    def on_train_batch_end(self, trainer: Any, task: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Keep the loss; read the meters after the last step."""
        self.losses.append(outputs["loss"].item())
        if self.begun == self.warm_up + self.steps:
            self.used.append(usage())
        super().on_train_batch_end(trainer, task, outputs, batch, batch_idx)


def make_recipe(options: argparse.Namespace, runs_root: Path, precision: str, epochs: int) -> Recipe:
    """The student alone."""
    return load_recipe(
        "student-alone",
        {
            "name": "speed", "runs_root": str(runs_root), "data.name": options.name,
            "data.root": str(options.root), "data.size": options.size, "data.batch_size": options.batch_size,
            "student.arch": options.student, "student.encoder_weights": None, "trainer.epochs": epochs,
            "trainer.accelerator": "cpu", "trainer.precision": precision,
        },
    )  # fmt: skip


def without(variant: str) -> contextlib.ExitStack:
    """What a variant has to do without, while the returned context lasts."""
    stack = contextlib.ExitStack()
    if variant in ("ours, options off", "ours before"):
        make = fit.make_optimizer
        stack.enter_context(mock.patch.object(fit, "freed_memory_kept", contextlib.nullcontext))
        unfused = mock.patch.object(fit, "make_optimizer", lambda p, *, optim, fuse: make(p, optim=optim))
        stack.enter_context(unfused)
    if variant == "ours, options off":
        stack.enter_context(mock.patch.object(torch, "channels_last", torch.preserve_format))
    return stack


def run_ours(recipe: Recipe, meter: Meter, variant: str) -> None:
    """Some steps of `training.train` under a meter."""
    make = fit.make_trainer

    def with_meter(*args: Any, **kwargs: Any) -> L.Trainer:
        trainer = make(*args, **kwargs)
        trainer.callbacks.append(meter)  # type: ignore[attr-defined]
        return trainer

    with without(variant), mock.patch.object(fit, "make_trainer", with_meter), contextlib.suppress(Enough):
        training.train(recipe, overwrite=True, progress=False)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """One variant in this process."""
    quiet()
    torch.set_num_threads(options.threads)
    variant, wall = options.variant, options.clock == "wall"
    precision = "bf16-mixed" if variant == "ours, bf16" else "32-true"
    data = ensure_prepared(options.name, options.root, options.size)
    with tempfile.TemporaryDirectory() as folder:
        recipe = make_recipe(options, Path(folder), precision, 100_000)
        losses = []
        if variant == "plain loop":
            plain = run_plain(
                recipe, data, torch.device("cpu"), watch=True, warm_up=WARM_UP, steps=options.steps, wall=wall
            )
            parts, count, used = plain["ms_per_image"], options.steps * options.batch_size, plain["usage"]
        else:
            meter = Meter(watch=True, steps=options.steps, batch=options.batch_size, wall=wall)
            run_ours(recipe, meter, variant)
            parts, count, losses, used = meter.table(), meter.images, meter.losses, meter.used
    seconds, processor, faults = (after - before for before, after in zip(*used, strict=True))
    return {
        "images_per_second": count / seconds, "cpu_ms": 1e3 * processor / count, "faults": faults / count,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "parts": parts,
        "losses": losses,
    }  # fmt: skip


def measure_epoch(options: argparse.Namespace) -> dict[str, float]:
    """One whole epoch: seconds of its steps, of validation with all that follows it, of start and end."""
    quiet()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        recipe = make_recipe(options, Path(folder), "32-true", 1)
        data = ensure_prepared(options.name, options.root, options.size)
        started = time.perf_counter()
        run = training.train(recipe, progress=False)
        total = time.perf_counter() - started
        row = read_csv(run / "metrics.csv")[0]
    steps = len(data.indices("train")) / float(row["images_per_second"])
    epoch = float(row["seconds"])
    return {"steps": steps, "validation": epoch - steps, "start and end": total - epoch}


def in_turns(options: argparse.Namespace) -> dict[str, Any]:
    """Every variant in a process of its own, round after round; then the epoch."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for number in range(options.rounds):
        for variant in VARIANTS:
            found[variant].append(in_process(["--variant", variant]))
        rates = ", ".join(f"{name} {runs[-1]['images_per_second']:.1f}" for name, runs in found.items())
        print(f"round {number + 1}, images/s: {rates}", flush=True)
    result: dict[str, Any] = {
        "student": options.student, "size": options.size, "batch": options.batch_size,
        "threads": options.threads, "clock": options.clock, "torch": torch.__version__,
        "variants": {name: summarise(runs, found["ours before"]) for name, runs in found.items()},
    }  # fmt: skip
    if options.epoch:
        result["epoch"] = in_process(["--variant", "epoch"])
    return result


def in_process(more: list[str]) -> dict[str, Any]:
    """What this script measures in a fresh process with the same options."""
    command = [sys.executable, *sys.argv, *more]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    answer: dict[str, Any] = json.loads(output.splitlines()[-1])
    return answer


def summarise(runs: list[dict[str, Any]], base: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the rounds, and how far the losses are from those of ``base``."""
    medians: dict[str, Any] = {
        name: statistics.median(run[name] for run in runs)
        for name in ("images_per_second", "cpu_ms", "faults", "peak_mb")
    }
    medians["parts"] = {part: statistics.median(run["parts"][part] for run in runs) for part in PARTS}
    pairs = zip(runs[0]["losses"], base[0]["losses"], strict=False)
    medians["loss differs by"] = max((abs(one - other) for one, other in pairs), default=None)
    return medians


def to_text(result: dict[str, Any]) -> str:
    """The tables, as Markdown."""
    variants = result["variants"]
    base = variants["plain loop"]["images_per_second"]
    lines = [
        "| | images/s | | CPU ms per image | page faults per image | peak MB | loss differs by |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, one in variants.items():
        differs = "" if one["loss differs by"] is None else f"{one['loss differs by']:.0e}"
        rate = one["images_per_second"]
        lines.append(
            f"| {name} | {rate:.1f} | {rate / base:.2f} × | {one['cpu_ms']:.1f} | {one['faults']:,.0f} "
            f"| {one['peak_mb']:,.0f} | {differs} |"
        )
    lines += ["", *parts_table({name: one["parts"] for name, one in variants.items()})]
    if "epoch" in result:
        lines += ["", "one epoch, s: " + ", ".join(f"{k} {v:.1f}" for k, v in result["epoch"].items())]
    return "\n".join(lines)


def main() -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data.name", dest="name", default="phantom")
    parser.add_argument("--data.root", dest="root", type=Path, default=Path("data"))
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--student", default="unet-w8")
    parser.add_argument("--steps", type=int, default=20, help="per round and variant, within an epoch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall", help="of the parts of a step")
    parser.add_argument("--epoch", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--variant", choices=[*VARIANTS, "epoch"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.variant is not None:
        print(json.dumps(measure_epoch(options) if options.variant == "epoch" else measure(options)))
        return
    result = in_turns(options)
    print(to_text(result))
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
