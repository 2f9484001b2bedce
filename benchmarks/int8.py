"""What eight bits cost a trained student: one scale per tensor, and one per channel of the weights.

    python benchmarks/int8.py runs/nano runs/base --root data

Calibrated on 128 training images of the data set that the run was trained on, compared on its validation
images, at native size, as ``dermdistill export`` does it (which begins with one scale per channel). Dice in
percent; the change is paired over images, with its 95 % interval.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from dermdistill.core.errors import DermDistillError
from dermdistill.data.prepare.prepare import ensure_prepared
from dermdistill.export import quantization
from dermdistill.export.parity import Measured, OnnxLogits, Reference, images
from dermdistill.models import onnx_graph
from dermdistill.models.torch_backend import load_run

STEPS = {"int8, per tensor": False, "int8, per channel": True}


def measure(run: Path, root: Path, calibration: int, seed: int) -> list[tuple[str, Measured, int]]:
    """Of one run: each file's name, what it loses, its bytes."""
    net, card = load_run(run)
    data = ensure_prepared(card.dataset["name"], root, card.input_size)

    @torch.inference_mode()
    def by_torch(batch: np.ndarray) -> np.ndarray:
        return net(torch.from_numpy(batch)).float().numpy()

    train = data.indices("train")
    chosen = np.random.default_rng(seed).choice(train, min(calibration, len(train)), replace=False)
    reference = Reference(by_torch, data, data.indices("val"), card.threshold, progress=sys.stderr.isatty())
    found = []
    with tempfile.TemporaryDirectory() as folder:
        whole, small = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        onnx_graph.trace(net, whole, card.input_size)
        found.append(("fp32", reference.measure(OnnxLogits(whole), "fp32"), whole.stat().st_size))
        for title, per_channel in STEPS.items():
            step = quantization.Step(title, per_channel=per_channel)
            quantization.quantise_once(whole, small, images(data, np.sort(chosen)), step)
            found.append((title, reference.measure(OnnxLogits(small), title), small.stat().st_size))
    return found


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--root", type=Path, default=Path("data"))
    parser.add_argument("--calibration", type=int, default=128, help="training images")
    parser.add_argument("--seed", type=int, default=0, help="of their choice")
    options = parser.parse_args()
    print("| run | file | MB | Dice | change (95 % CI) | pixels that change |\n|---|---|---|---|---|---|")
    try:
        for run in options.runs:
            for name, found, size in measure(run, options.root, options.calibration, options.seed):
                drop = found.dice_drop
                print(
                    f"| {run.name} | {name} | {size / 1e6:.2f} | {100 * found.dice:.2f} "
                    f"| {0 - 100 * drop.mean:+.2f} ({0 - 100 * drop.high:+.2f} to {0 - 100 * drop.low:+.2f}) "
                    f"| {100 * found.changed_pixels:.2f} % |",
                    flush=True,
                )
    except DermDistillError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
