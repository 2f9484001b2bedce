"""Stages of gpu.py that train many students at a time: eight teachers, then recipes/study-long.yaml.

All of it is scored on validation; the test split is read afterwards, once, where the weights come back to.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from gpu_machine import WEIGHTS, Results, dataset, end, hand_back, machine

STUDENTS = ("nano", "small", "base")
FOLDS = 4
KINDS = ("base", "deeplab")
TEACHERS = {f"long-{kind}-{part}": (kind, part) for kind in KINDS for part in range(FOLDS)}
"""By name: the kind of network, and the part of the images that it is trained without."""
STUDY_LONG = "gpu-long"


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
    while late := [process for process in processes if process.poll() is None]:
        if time.monotonic() >= until:
            with ThreadPoolExecutor(len(late)) as pool:  # all at once: each takes seconds
                list(pool.map(lambda process: end(process, patience=25), late))
            return False
        time.sleep(0.2)
    return True


def _of_data(options: argparse.Namespace) -> list[str]:
    data = dataset(options, 192, "release")
    return ["--data.name", data.name, "--data.root", str(data.folder.parent), "--data.size", str(data.size)]


def start_teachers(options: argparse.Namespace) -> list[subprocess.Popen[bytes]]:
    """All teachers at a time: for each part of the images a `base` and a DeepLabV3+ that never see it."""
    epochs = ["--trainer.epochs", str(options.teacher_epochs)]
    how = {
        "base": ["release", "--student.arch", "base", "--student.encoder-weights", WEIGHTS, *epochs],
        "deeplab": ["teacher-cpu", "--data.batch-size", "16", "--optim.lr", "8e-4", *epochs],
    }
    if options.tiny:
        tiny = ["teacher-phantom", "--data.batch-size", "4", *epochs]
        how = {kind: [*tiny, "--seed", str(seed)] for seed, kind in enumerate(KINDS)}
    common = [*_of_data(options), "--resume"]
    return [
        start(
            options, "train", *how[kind], *common, "--data.fold", f"{part}/{FOLDS}", "--name", name, log=name
        )
        for name, (kind, part) in TEACHERS.items()
        if not (options.work / "long" / "runs" / name / "finished").exists()
    ]  # fmt: skip


def start_study(options: argparse.Namespace, arms: Sequence[str]) -> subprocess.Popen[bytes]:
    """Some arms of the study, as many cells at a time as there are."""
    less = ["--seeds", "0", "--student.encoder-weights", "none", "--data.batch-size", "4"]
    jobs = len(arms) * (1 if options.tiny else 3)
    return start(
        options, "study", "study-long", "--name", STUDY_LONG, "--split", "val",
        "--epochs", str(options.epochs), "--only", ",".join(arms), "--jobs", str(jobs), *_of_data(options),
        *(less if options.tiny else []), log=f"{STUDY_LONG}-{arms[-1]}",
    )  # fmt: skip


def long(options: argparse.Namespace) -> None:
    """Teachers, students alone and distilled, all at a time, as far as the minutes go."""
    found = Results(options.out / "long.json", machine())
    runs = options.work / "long" / "runs"
    with found.measure("long"):
        begun = time.monotonic()
        students = ["small"] if options.tiny else STUDENTS
        every = ["unet-w8", *students, *(f"{name}-crossfit" for name in students)]
        arms = options.arms.split(",") if options.arms else every
        taught = [arm for arm in arms if arm.endswith("-crossfit")]
        alone = [arm for arm in arms if arm in every and arm not in taught]
        # "teachers" in --arms: they alone are begun with.
        first = start_teachers(options) if taught or "teachers" in arms else []
        studies = [start_study(options, alone)] if alone else []
        found["teachers in time"] = wait(first, options.deadline)
        found["seconds of teachers"] = round(time.monotonic() - begun, 1)
        studies += [start_study(options, taught)] if taught else []
        found["in time"] = wait(studies, options.deadline)
        found["epochs"], found["seconds"] = options.epochs, round(time.monotonic() - begun, 1)
    cells = begun_runs([*(runs / STUDY_LONG / "cells").glob("*"), *(runs / name for name in TEACHERS)])
    found["cells"] = {cell.name: {"epochs": len(rows), **best(rows)} for cell, rows in cells}
    with found.measure("hand back"):
        # Cells are scored again where they come to; the states of those that were not finished, and the
        # weights of the teachers, would be more than is let through.
        weights = (f"{name}/best_{role}_model.pth" for name in TEACHERS for role in ("teacher", "student"))
        left_out = ("tensorboard", ".locks", ".png", "last.ckpt", *weights)
        hand_back(options, options.work / "long", "long", left_out)
    for cell, seen in found["cells"].items():
        print(cell, seen)


def begun_runs(folders: list[Path]) -> list[tuple[Path, list[dict[str, Any]]]]:
    """Run folders that have an epoch behind them, and their epochs."""
    return [(folder, rows) for folder in sorted(folders) if (rows := epochs_of(folder))]


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
