"""`dermdistill evaluate` of masks beside isic-challenge-scoring, on the same files, in one run.

Pairs are made of real masks, resized; the prediction is the true mask, moved by up to 30 pixels. The commands
take turns, each in processes of its own; once as a whole, and once from the end of the imports on (the
processes that `evaluate` starts import what they need within that time). Not the same is computed:
isic-challenge-scoring counts pixels; `evaluate` also measures outlines and what makes pictures hard.

    python benchmarks/scorer.py --images DIR --masks DIR --count 1000 --rounds 3
    python benchmarks/scorer.py --images DIR --masks DIR --count 10000 --size 256 256 --rounds 1

Where other work runs beside it, trust the processor time's ratio more than the wall time's.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

SOURCE = Path(__file__).parents[1] / "src"
THEIRS = """
import sys, time, warnings
warnings.simplefilter("ignore")
import pathlib
from isic_challenge_scoring.segmentation import SegmentationScore
started = time.perf_counter()
SegmentationScore.from_dir(*map(pathlib.Path, sys.argv[1:3])).to_string()
print(time.perf_counter() - started)
"""
OURS = """
import sys, time
from dermdistill.cli import main
import dermdistill.evaluation.score_anything
started = time.perf_counter()
main(sys.argv[1:])
print(time.perf_counter() - started)
"""


def make_pairs(images: Path, masks: Path, count: int, size: tuple[int, int], root: Path) -> None:
    """Pictures, true masks and predictions in three folders, named as the challenge names them."""
    rng = np.random.default_rng(0)
    sources = sorted(masks.glob("*.png"))
    for folder in ("images", "truth", "predictions"):
        (root / folder).mkdir()
    for number in range(count):
        source = sources[number * 7 % len(sources)]
        name = f"ISIC_{number:07d}"
        picture = Image.open(images / f"{source.stem}.jpg").convert("RGB").resize(size)
        picture.save(root / "images" / f"{name}.jpg", quality=90)
        mask = np.asarray(Image.open(source).convert("L").resize(size, Image.Resampling.BICUBIC)) > 127
        moved = np.roll(mask, rng.integers(-30, 31, 2), (0, 1))
        for folder, array in (("truth", mask), ("predictions", moved)):
            Image.fromarray(array.astype(np.uint8) * 255).save(
                root / folder / f"{name}_segmentation.png", compress_level=1
            )


def run(command: list[str]) -> tuple[float, float, float]:
    """Wall seconds, those that the command says were spent after its imports, and processor seconds."""
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, float(done.stdout.split()[-1]), cpu


def main() -> None:
    """Measure in turns, and print as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="folder of pictures, NAME.jpg")
    parser.add_argument("--masks", type=Path, required=True, help="folder of their masks, NAME.png")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--size", type=int, nargs=2, default=(1024, 768))
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        make_pairs(arguments.images, arguments.masks, arguments.count, tuple(arguments.size), root)
        truth, predictions = str(root / "truth"), str(root / "predictions")
        python = [sys.executable, "-c"]
        evaluate = [*python, OURS, "evaluate", "--predictions", predictions, "--masks", truth]
        evaluate += ["--out", str(root / "evaluation")]
        ways = {
            "isic-challenge-scoring": [*python, THEIRS, truth, predictions],
            "evaluate, masks alone": evaluate,
            "evaluate, with pictures": [*evaluate, "--images", str(root / "images")],
        }
        turns = [{name: run(command) for name, command in ways.items()} for _ in range(arguments.rounds)]
    print("| | whole command, s | × | after its imports, s | × | processor, s | × |")
    print("|---|---|---|---|---|---|---|")
    first = next(iter(ways))
    for name in ways:
        cells = []
        for i in range(3):
            ratio = np.median([turn[first][i] / turn[name][i] for turn in turns])
            cells += [f"{min(turn[name][i] for turn in turns):.2f}", f"{ratio:.2f}"]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
