"""Disks that are full at a seeded point, and folders that cannot be written: a small tmpfs, or limits."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from benchmarks.faults.kills import STUDY
from benchmarks.faults.material import FLOATS, SIZE, TINY, Material
from benchmarks.faults.trial import START, Trial, broken_files

Words = Callable[[Path], tuple[object, ...]]
WORDS_OF_A_DISK = ("disk is full", "cannot be written", "free", "Read-only")


def _verbs(material: Material, work: Path) -> dict[str, tuple[Words, tuple[str, ...]]]:
    """Every verb that writes: its words for a folder, and what is added to go on."""
    run, teacher, root = material.runs / "student", material.runs / "teacher", material.root
    pictures = material.images[0].parent
    (work / "study.yaml").write_text(STUDY, encoding="utf-8")
    masks = work / "masks"
    masks.mkdir()
    for image, mask in zip(material.images, material.masks, strict=True):
        shutil.copy(mask, masks / f"{image.stem}.png")
    return {
        "prepare": (lambda at: ("prepare", "phantom", "--count", 30, "--size", SIZE, "--root", at), ()),
        "predict": (lambda at: ("predict", pictures, "--outputs", "all", "--out", at / "o"), ()),
        "train": (lambda at: material.learn("train", at, "run"), ("--resume",)),
        "distill": (
            lambda at: material.learn("distill", at, "run", "--teacher.run", teacher), ("--resume",)
        ),
        "evaluate": (lambda at: ("evaluate", run, "--root", root, "--out", at / "o"), ()),
        "export": (lambda at: ("export", run, "--root", root, "--out", at / "o", *FLOATS), ()),
        "report": (lambda at: ("report", run, "--out", at / "o"), ()),
        "study": (
            lambda at: ("study", work / "study.yaml", "--runs-root", at, "--data.root", root,
                        "--teacher", teacher, "--trainer.epochs", 1, *TINY), ()
        ),
        "figure": (lambda at: ("figure", run, "--root", root, "--out", at / "o.png"), ()),
        "prepare own": (
            lambda at: ("prepare", "--images", pictures, "--masks", masks, "--name", "own", "--root", at), ()
        ),
        "bench": (lambda at: ("bench", run, "--rounds", 1, "--repeats", 1, "--out", at / "o"), ()),
        "audit": (lambda at: ("audit", root / "phantom", "--out", at / "o"), ()),
        "demo": (lambda at: ("demo", "--out", at / "o", "--count", 10, "--size", 32, "--epochs", 1), ()),
    }  # fmt: skip


FULL = ("prepare", "predict", "train", "distill", "evaluate", "export", "report", "study", "demo")
READ_ONLY = (*FULL, "figure", "prepare own", "bench", "audit")


def full_disks(material: Material, work: Path, rng: np.random.Generator, count: int) -> Iterator[Trial]:
    """A disk that takes a seeded part of what the verb writes; it grows, and the same command finishes."""
    work.mkdir(parents=True)
    verbs = _verbs(material, work)
    sizes: dict[str, int] = {}
    for number in range(count):
        verb = FULL[number % len(FULL)]
        words, resume = verbs[verb]
        if verb not in sizes:
            whole = work / f"{verb}-undisturbed"
            done = material.product.run(*words(whole), cwd=whole, patience=START)
            if done.code:
                yield Trial("full disks", f"{verb} undisturbed", (done.err[-300:],))
                continue
            sizes[verb] = sum(path.stat().st_size for path in whole.rglob("*") if path.is_file())
        part = float(rng.uniform(0.02, 0.95))
        kib = max(8, int(sizes[verb] * part / 1024))
        with _disk(work / f"{verb}-{number}", kib) as disk:
            lost = _refused(material, words, disk)
            disk.free()
            again = material.product.run(*words(disk.folder), *resume, cwd=disk.outside, patience=START)
            if again.code:
                lost.append(f"with space, it does not go on: {again.err.strip()[-300:]}")
            lost += again.problems([0]) if not again.code else []
        yield Trial("full disks", f"{verb}, {kib} KiB of {sizes[verb] // 1024}", tuple(lost))


def read_only(material: Material, work: Path, rng: np.random.Generator, count: int) -> Iterator[Trial]:
    """A folder that holds a file of the user's and cannot be written."""
    work.mkdir(parents=True)
    verbs = _verbs(material, work)
    for verb in READ_ONLY[:count]:
        words, _ = verbs[verb]
        with _disk(work / verb, 4096) as disk:
            (disk.folder / "mine.txt").write_text("mine", encoding="utf-8")
            if not disk.lock():
                continue  # neither mounts nor modes stop this user: not tried
            lost = _refused(material, words, disk)
            if (disk.folder / "mine.txt").read_text(encoding="utf-8") != "mine":
                lost.append("the user's file is gone")
        yield Trial("read-only folders", verb, tuple(lost))


def _refused(material: Material, words: Words, disk: _Disk) -> list[str]:
    done = material.product.run(*words(disk.folder), cwd=disk.outside, patience=START, limit=disk.limit)
    lost = [*done.problems(), *broken_files(disk.folder)]
    if not done.code:
        lost.append("exit code 0")
    elif not lost and not any(text in done.err for text in WORDS_OF_A_DISK):
        lost.append(f"no word of the disk: {done.err.strip()[-200:]}")
    return lost


class _Disk:
    """A folder on a small tmpfs, or (where none can be mounted) below a limit on the size of files."""

    def __init__(self, folder: Path, kib: int) -> None:
        self.folder, self.outside = folder / "disk", folder / "outside"
        self.kib = kib
        for path in (self.folder, self.outside):
            path.mkdir(parents=True)
        self.mounted = _mount("-t", "tmpfs", "-o", f"size={kib}k", "none", str(self.folder))

    def free(self) -> None:
        self.kib = 0
        if self.mounted:
            _mount("-o", "remount,size=512m", str(self.folder))

    def lock(self) -> bool:
        if self.mounted:
            return _mount("-o", "remount,ro", str(self.folder))
        self.folder.chmod(0o500)
        try:
            (self.folder / "probe").touch()
        except OSError:
            return True
        return False

    @property
    def limit(self) -> int:
        """Bytes of one file, where the disk itself could not be made small."""
        return 0 if self.mounted else self.kib * 128


def _mount(*words: str) -> bool:
    return subprocess.run(["mount", *words], check=False, capture_output=True).returncode == 0


@contextlib.contextmanager
def _disk(folder: Path, kib: int) -> Iterator[_Disk]:
    disk = _Disk(folder, kib)
    try:
        yield disk
    finally:
        if disk.mounted:
            subprocess.run(["umount", "-l", str(disk.folder)], check=False)
