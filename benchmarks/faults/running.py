"""A run while it trains: its pack is damaged, a second training begins, or the first one failed."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from benchmarks.faults.material import SIZE, Material
from benchmarks.faults.trial import START, Process, Trial, broken_files


def _overwrite(pack: Path) -> None:
    with pack.open("r+b") as stream:
        stream.seek(128)
        stream.write(bytes(pack.stat().st_size - 128))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut": lambda pack: os.truncate(pack, pack.stat().st_size // 3),
    "emptied": lambda pack: pack.write_bytes(b""),
    "overwritten with zeros": _overwrite,
    "data set removed": lambda pack: shutil.rmtree(pack.parents[1]),
}


def while_training(material: Material, work: Path, rng: np.random.Generator, count: int) -> Iterator[Trial]:
    """Each damage of the pack once, then two processes in one run, and a run after one that failed."""
    trials = [_damaged(material, work / name.replace(" ", "-"), name) for name in DAMAGES]
    trials += [_two_at_once(material, work / "two"), _after_a_failure(material, work / "failed")]
    yield from trials[:count]


def _long(material: Material, folder: Path, *more: object) -> tuple[object, ...]:
    return material.learn(
        "train", folder, "run", "--data.root", folder / "data", "--trainer.epochs", 40, *more
    )


def _begin(material: Material, folder: Path) -> Process:
    """A training in its third epoch."""
    shutil.copytree(material.root, folder / "data")
    process = Process(material.product, _long(material, folder), folder, warm=False)
    metrics = folder / "run" / "metrics.csv"
    until = time.monotonic() + START
    while not (metrics.is_file() and metrics.read_text().count("\n") > 2) and time.monotonic() < until:
        time.sleep(0.02)
    return process


def _damaged(material: Material, folder: Path, name: str) -> Trial:
    process = _begin(material, folder)
    DAMAGES[name](folder / "data" / "phantom" / f"pack-{SIZE}" / "images.npy")
    done = process.end(START)
    lost = [*done.problems(), *broken_files(folder / "run")]
    if not done.code and "removed" not in name:
        lost.append("trained on as if nothing had happened")
    return Trial("while training", f"pack {name}", tuple(lost))


def _two_at_once(material: Material, folder: Path) -> Trial:
    first = _begin(material, folder)
    second = material.product.run(*_long(material, folder, "--resume"), cwd=folder / "second", patience=START)
    lost = second.problems()
    if not second.code or first.ends_within(0):
        lost.append("a second training was let into the run")
    os.kill(first.pid, signal.SIGKILL)
    first.end(START)
    again = material.product.run(*_long(material, folder, "--resume"), cwd=folder, patience=START)
    lost += again.problems([0])
    return Trial("while training", "a second training; the first is killed", tuple(lost))


def _after_a_failure(material: Material, folder: Path) -> Trial:
    words = material.learn("train", folder, "run")
    absent = ("--student.encoder-weights", "absent.pth", "--student.arch", "small")
    failed = material.product.run(*words, *absent, cwd=folder, patience=START)
    lost = failed.problems([1, 2])
    again = material.product.run(*words, cwd=folder, patience=START)
    lost += again.problems([0])
    return Trial("while training", "after one that failed before its first step", tuple(lost))
