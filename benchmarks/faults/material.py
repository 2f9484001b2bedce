"""What the trials are made of: pictures, a data set, a teacher, a student; made by the product itself."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from benchmarks.faults.trial import START, Product

SIZE = 48
TINY = ("--data.size", SIZE, "--data.batch-size", 4, "--trainer.accelerator", "cpu")
FLOATS = ("--precisions", "fp32", "fp16")
"""So small a network loses more than allowed in int8."""


@dataclass(frozen=True)
class Material:
    """Where it lies."""

    product: Product
    root: Path
    """Prepared data sets; ``phantom`` is one of 12."""
    runs: Path
    """``teacher`` and ``student``, two epochs each."""
    images: list[Path]
    masks: list[Path]
    """Of the same pictures, 256×256."""
    onnx: Path
    """The student that is shipped."""

    def learn(self, verb: str, runs: Path, name: str, *more: object) -> tuple[object, ...]:
        """The words of a tiny training."""
        recipe = {"train": "student-phantom", "distill": "phantom"}[verb]
        where = ("--runs-root", runs, "--data.root", self.root, "--name", name, "--trainer.epochs", 2)
        return (verb, recipe, *where, *TINY, *more)


def make_material(product: Product, folder: Path, *, trained: bool) -> Material:
    """Make it below ``folder``; only what needs no training unless ``trained``."""
    root, runs = folder / "data", folder / "runs"
    done = product.run(
        *("prepare", "phantom", "--count", 12, "--size", SIZE, "--root", root), cwd=folder, patience=START
    )
    raw = next((root / "phantom" / "raw").glob("*/images"), folder).parent
    found = Material(
        product, root, runs, sorted((raw / "images").glob("*.jpg")), sorted((raw / "masks").glob("*.png")),
        next(product.src.glob("dermdistill/weights/*.onnx")),
    )  # fmt: skip
    if done.code or len(found.images) != 12:
        raise RuntimeError(f"the product cannot prepare phantoms: {done.err}")
    if trained:
        teacher = found.learn("train", runs, "teacher", "--role", "teacher", "--teacher.arch", "unet-w4")
        for words in (teacher, found.learn("train", runs, "student")):
            done = product.run(*words, cwd=folder, patience=START)
            if done.code:
                raise RuntimeError(f"the product cannot train: {done.err}")
    return found


def copy_run(material: Material, name: str, runs: Path) -> Path:
    """A copy of a run, to be damaged."""
    shutil.rmtree(runs / name, ignore_errors=True)
    return Path(shutil.copytree(material.runs / name, runs / name))
