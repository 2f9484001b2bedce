"""Time and memory of a first mask, and of a photograph of 24 million pixels, each in a fresh process.

    python benchmarks/photograph.py [--model FILE] [--threads 2] [--rounds 3]

Prints medians: seconds from the start of Python to the first mask of a small photograph; seconds and peak
memory (beyond that after start-up) of a 6000 × 4000 JPEG: the mask alone, with what `dermdistill predict`
writes, with mirrored views. On a busy machine the seconds of processor say more. Linux only (/proc).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

CHILD = """
import json, sys, time
from pathlib import Path
model, small, large, threads, task, out = json.loads(sys.argv[1])
from dermdistill.inference.folder import predict_files
from dermdistill.inference.predictor import Predictor
def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
predictor = Predictor(model, threads=threads, tta=task == "tta")
predictor(Path(small))
print(json.dumps({"ready": time.time(), "cpu": time.process_time()}), flush=True)
before, start, used = peak(), time.perf_counter(), time.process_time()
if task == "files":
    list(predict_files(predictor, [Path(large)], Path(out)))
elif task == "outline":
    predictor(Path(large)).to_json()
elif task != "first":
    predictor(Path(large))
print(json.dumps({"seconds": time.perf_counter() - start, "cpu": time.process_time() - used,
                  "mib": peak() - before, "startup_mib": before, "torch": "torch" in sys.modules}))
"""
TASKS = {
    "first": "start of Python to the first mask (256 × 256)",
    "mask": "6000 × 4000: mask and probability",
    "outline": "6000 × 4000: with outline, measures, warnings",
    "files": "6000 × 4000: with mask PNG, overlay JPEG, JSON written",
    "tta": "6000 × 4000: mean of four mirrored views, map of uncertainty",
}


def photograph(path: Path, width: int, height: int) -> None:
    """A JPEG with a dark blob on noisy skin."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:64, :64] / 64 - 0.5
    lesion = 1 / (1 + np.exp((np.hypot(x, 0.7 * y) - 0.2) * 60))
    small = np.array([225, 180, 160]) - lesion[..., None] * np.array([130, 120, 100])
    image = Image.fromarray(small.astype(np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
    noise = rng.integers(-6, 7, (height, width, 1), dtype=np.int16)
    noisy = np.clip(np.asarray(image, dtype=np.int16) + noise, 0, 255).astype(np.uint8)
    Image.fromarray(noisy).save(path, quality=90)


def run(task: str, arguments: argparse.Namespace, small: Path, large: Path, out: Path) -> dict[str, float]:
    """One fresh process."""
    given = [
        str(arguments.model) if arguments.model else None, str(small), str(large), arguments.threads, task,
        str(out),
    ]  # fmt: skip
    start = time.time()
    done = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps(given)], check=True, capture_output=True, text=True
    )
    ready, found = (json.loads(line) for line in done.stdout.splitlines())
    if found.pop("torch"):
        raise RuntimeError("torch was imported")
    return {**found, "first_mask": ready["ready"] - start, "first_cpu": ready["cpu"]}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", type=Path, help="default: the shipped student")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        small, large = Path(folder) / "small.jpg", Path(folder) / "large.jpg"
        photograph(small, 256, 256)
        photograph(large, 6000, 4000)
        for task, title in TASKS.items():
            rounds = [
                run(task, arguments, small, large, Path(folder) / "out") for _ in range(arguments.rounds)
            ]
            median = {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
            if task == "first":
                print(
                    f"{title}: {median['first_mask']:.2f} s ({median['first_cpu']:.2f} s of processor), "
                    f"{median['startup_mib']:.0f} MiB"
                )
            else:
                print(
                    f"{title}: {median['seconds']:.2f} s ({median['cpu']:.2f} s of processor), "
                    f"{median['mib']:.0f} MiB beyond start-up"
                )


if __name__ == "__main__":
    main()
