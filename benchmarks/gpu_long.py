"""Stages of gpu.py that train many students at a time: three teachers, then recipes/study-long.yaml.

All of it is scored on validation; the test split is read afterwards, once, where the weights come back to.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from gpu_machine import WEIGHTS, Results, dataset, end, hand_back, machine

ALONE = "unet-w8,nano,small,base"
DISTILLED = "nano-mean,small-mean,base-mean"
SEEDS = (0, 1, 2)


def start(options: argparse.Namespace, *arguments: str, log: str) -> subprocess.Popen[bytes]:
    """A verb in a process group of its own, in the folder that holds ``runs``, where its log goes to too."""
    source = str(Path(__file__).resolve().parents[1] / "src")
    path = os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])
    runs = options.work / "long" / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    with (runs / f"{log}.log").open("ab") as stream:
        environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            [sys.executable, "-m", "dermdistill", *arguments], cwd=runs.parent, start_new_session=True,
            stdout=stream, stderr=subprocess.STDOUT, env=environment,
        )  # fmt: skip


def wait(processes: list[subprocess.Popen[bytes]], until: float) -> bool:
    """Wait for all; at ``until`` (monotonic clock) they are told to save and stop, and False is answered."""
    while any(process.poll() is None for process in processes):
        if time.monotonic() >= until:
            for process in processes:
                if process.poll() is None:
                    end(process, patience=30)
            return False
        time.sleep(0.2)
    return True


def _of_data(options: argparse.Namespace) -> list[str]:
    data = dataset(options, 192, "release")
    return ["--data.name", data.name, "--data.root", str(data.folder.parent), "--data.size", str(data.size)]


def teachers(options: argparse.Namespace) -> None:
    """Three teachers at a time, seeds 0 to 2."""
    found = Results(options.out / "teachers.json", machine())
    where = _of_data(options)
    how = ["teacher-phantom", "--trainer.epochs", "1", "--data.batch-size", "4"]
    if not options.tiny:
        how = [
            "teacher-cpu", "--teacher.encoder-weights", WEIGHTS, "--data.batch-size", "32",
            "--optim.lr", "1e-3", "--trainer.epochs", str(options.teacher_epochs),
        ]  # fmt: skip
    runs = [options.work / "long" / "runs" / f"long-teacher-{seed}" for seed in SEEDS]
    with found.measure("teachers"):
        wait(
            [
                start(options, "train", *how, *where, "--seed", str(seed), "--name", run.name, log=run.name)
                for seed, run in zip(SEEDS, runs, strict=True)
            ],
            options.deadline,
        )
        found["finished"] = {run.name: (run / "finished").exists() for run in runs}
        found["last epoch"] = {run.name: rows[-1] for run in runs if (rows := epochs_of(run))}
        for run in runs:
            # For the table alone: they teach by last.ckpt, which is too large to come back.
            hand_back(options, run, run.name, ("tensorboard", "last.ckpt"))
    print(found["finished"], {name: best([row]) for name, row in found["last epoch"].items()})


def study_long(options: argparse.Namespace, name: str, epochs: int, only: str) -> subprocess.Popen[bytes]:
    """The study, or some arms of it, as many cells at a time as there are."""
    less = ["--seeds", "0", "--student.encoder-weights", "none", "--data.batch-size", "4"]
    jobs = len(only.split(",")) * (1 if options.tiny else len(SEEDS))
    return start(
        options, "study", "study-long", "--name", name, "--split", "val", "--epochs", str(epochs),
        "--only", only, "--jobs", str(jobs), *_of_data(options), *(less if options.tiny else []),
        log=f"{name}-{only.split(',')[-1]}",
    )  # fmt: skip


def probe(options: argparse.Namespace) -> None:
    """How many images per second all students together learn from, each in a process of its own."""
    found = Results(options.out / "probe.json", machine())
    with found.measure("probe"):
        name = "gpu-probe"
        wait([study_long(options, name, options.probe_epochs, ALONE)], options.deadline)
        cells = sorted((options.work / "long" / "runs" / name / "cells").glob("*"))
        found["images/s"] = {
            cell.name: rows[-1]["images_per_second"] for cell in cells if (rows := epochs_of(cell))
        }
        found["together"] = sum(map(float, found["images/s"].values()))
        found["seconds per epoch"] = {
            cell.name: rows[-1]["seconds"] for cell in cells if (rows := epochs_of(cell))
        }
    print(dict(found))


def long(options: argparse.Namespace) -> None:
    """Students alone and distilled, all at a time, as far as the minutes go; the same call goes on."""
    found = Results(options.out / "long.json", machine())
    name = "gpu-long"
    with found.measure("long"):
        begun = time.monotonic()
        both = [
            study_long(options, name, options.epochs, DISTILLED),
            study_long(options, name, options.epochs, ALONE),
        ]
        found["in time"] = wait(both, options.deadline)
        found["epochs"], found["seconds"] = options.epochs, round(time.monotonic() - begun, 1)
    cells = begun_cells(options, name)
    found["cells"] = {cell.name: {"epochs": len(rows), **best(rows)} for cell, rows in cells}
    with found.measure("hand back"):
        done = [f"cells/{cell.name}/last.ckpt" for cell, _ in cells if (cell / "finished").exists()]
        # Cells are scored again where they come to, and the teachers were handed back before.
        left_out = ("tensorboard", ".locks", ".png", "gpu-probe", *(f"long-teacher-{seed}" for seed in SEEDS))
        hand_back(options, options.work / "long", "long", (*left_out, *done))
    for cell, seen in found["cells"].items():
        print(cell, seen)


def begun_cells(options: argparse.Namespace, name: str) -> list[tuple[Path, list[dict[str, Any]]]]:
    """Folders of a study's cells that have an epoch behind them, and their epochs."""
    folders = sorted((options.work / "long" / "runs" / name / "cells").glob("*"))
    return [(folder, rows) for folder in folders if (rows := epochs_of(folder))]


def epochs_of(run: Path) -> list[dict[str, Any]]:
    """Rows of a run's metrics.csv; none where it has not come so far."""
    path = run / "metrics.csv"
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def best(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Of some epochs, validation Dice of the best and the last, and how fast."""
    return {
        "best": max(float(row["val_dice"]) for row in rows),
        "last": float(rows[-1]["val_dice"]),
        "images/s": float(rows[-1]["images_per_second"]),
    }
