"""Processes killed at seeded moments: what is there is whole, and going on ends as if undisturbed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from benchmarks.faults.material import FLOATS, SIZE, TINY, Material
from benchmarks.faults.trial import START, Process, Trial, broken_files

SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
STUDY = """name: study
recipe: phantom
baseline: alone
seeds: [0]
arms:
  alone: {verb: train}
  kl: {}
"""


@dataclass(frozen=True)
class Work:
    """A verb to be killed: its words below a folder, what is added to go on, and what must be the same."""

    verb: str
    words: Callable[[Path], tuple[object, ...]]
    resume: tuple[str, ...]
    result: Callable[[Path], object]


def killed(material: Material, work: Path, rng: np.random.Generator, count: int) -> Iterator[Trial]:
    """Each verb once undisturbed, then killed at moments drawn over that time, then gone on with."""
    jobs = _jobs(material, work)
    shares = np.array([6, 5, 8, 6, 3, 3]) / 31
    counts = np.round(shares * count).astype(int)
    counts[2] += count - counts.sum()
    for job, times in zip(jobs, counts.tolist(), strict=True):
        if not times:
            continue
        whole = work / f"{job.verb}-undisturbed"
        done = material.product.run(*job.words(whole), cwd=whole, patience=START)
        if done.code:
            yield Trial("kills", f"{job.verb} undisturbed", (done.err[-200:],))
            continue
        expected = job.result(whole)
        for number in range(times):
            sign = SIGNALS[number % len(SIGNALS)]
            moment = done.seconds * (number + rng.uniform(0.1, 1)) / times
            folder = work / f"{job.verb}-{number}"
            yield _kill(material, job, folder, sign, moment, expected)


def _kill(
    material: Material, job: Work, folder: Path, sign: signal.Signals, moment: float, expected: object
) -> Trial:
    folder.mkdir(parents=True)
    process = Process(material.product, job.words(folder), folder)
    if not process.ends_within(moment):
        os.kill(process.pid, sign)
    done = process.end(patience=60.0)
    lost = [problem for problem in done.problems((0, 130)) if not problem.startswith("died")]
    lost += broken_files(folder)
    again = material.product.run(*job.words(folder), *job.resume, cwd=folder, patience=START)
    lost += again.problems([0])
    if not again.code and job.result(folder) != expected:
        lost.append(f"another result: {job.result(folder)} and not {expected}")
    return Trial("kills", f"{job.verb}, {sign.name} after {moment:.2f} s (code {done.code})", tuple(lost))


def _jobs(material: Material, work: Path) -> list[Work]:
    work.mkdir(parents=True)
    student = material.runs / "student"
    pictures = work / "pictures"
    pictures.mkdir()
    for copy in range(5):
        for path in material.images:
            shutil.copy(path, pictures / f"{copy}-{path.name}")
    (work / "study.yaml").write_text(STUDY, encoding="utf-8")
    resume_predict = ("--resume",) if "--resume" in _help(material, "predict", work) else ()
    return [
        Work(
            "prepare",
            lambda at: ("prepare", "phantom", "--count", 60, "--size", SIZE, "--root", at / "data"), (),
            lambda at: _digests(at / "data/phantom", "manifest.csv", f"pack-{SIZE}/*.npy"),
        ),
        Work(
            "predict", lambda at: ("predict", pictures, "--out", at / "out", "--threads", 1), resume_predict,
            lambda at: (_digests(at / "out", "*_mask.png"), len(_lines(at / "out/predictions.jsonl"))),
        ),
        Work(
            "train", lambda at: material.learn("train", at, "run", "--trainer.epochs", 4), ("--resume",),
            lambda at: _weights(at / "run"),
        ),
        Work(
            "distill",
            lambda at: material.learn("distill", at, "run", "--teacher.run", material.runs / "teacher"),
            ("--resume",), lambda at: _weights(at / "run"),
        ),
        Work(
            "export",
            lambda at: ("export", student, "--root", material.root, "--out", at / "out", *FLOATS), (),
            lambda at: sorted(path.name for path in (at / "out").iterdir()),
        ),
        Work(
            "study",
            lambda at: (
                *("study", work / "study.yaml", "--runs-root", at / "runs", "--data.root", material.root),
                *("--teacher", material.runs / "teacher", "--trainer.epochs", 1, *TINY),
            ), (), lambda at: _study(at / "runs/study/study.json"),
        ),
    ]  # fmt: skip


def _help(material: Material, verb: str, cwd: Path) -> str:
    return material.product.run(verb, "--help", cwd=cwd).out


def _digests(folder: Path, *patterns: str) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()[:12]
        for pattern in patterns for path in sorted(folder.glob(pattern))
    }  # fmt: skip


def _lines(path: Path) -> set[str]:
    return {json.loads(line)["path"] for line in path.read_text(encoding="utf-8").splitlines()}


def _weights(run: Path) -> object:
    """Sums of the last weights, rounded: the order of additions may differ between processes."""
    import torch

    state = torch.load(run / "last.ckpt", map_location="cpu", weights_only=True)
    sums = {
        k: round(v.double().sum().item(), 3) for k, v in state["state_dict"].items() if k.endswith("weight")
    }
    return state["global_step"], hashlib.sha256(json.dumps(sums).encode()).hexdigest()[:12]


def _study(path: Path) -> object:
    """The scores of the arms."""
    result = json.loads(path.read_text(encoding="utf-8"))
    return [(arm["arm"], round(arm["scores"]["dice"]["mean"], 4)) for arm in result["arms"]]
