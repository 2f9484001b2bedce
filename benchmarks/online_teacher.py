"""Online distillation on a CPU: does a step gain by an ONNX graph of its teacher? Variants in turns.

A step is the teacher's logits, the student's forward and backward pass (Dice + BCE + KL at T = 2) and Adam's
step. Both networks are channels-last; the teacher's batch norm is folded. Variants: who computes the
teacher's logits (PyTorch operation by operation, ``nn.Module.compile``, ONNX Runtime) and whether the student
is compiled. After a warm-up each variant takes one step in turn, so that other work on the machine meets all
of them alike; medians of the process's CPU time (run it on one thread) and of wall time.

    OMP_NUM_THREADS=1 python benchmarks/online_teacher.py [--teacher DeepLabV3Plus]
        [--encoder tu-tf_efficientnet_lite0] [--size 256] [--batch-size 8] [--rounds 20] [--out FILE.json]
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from dermdistill import losses
from dermdistill.inference.onnx_backend import open_session
from dermdistill.models.batchnorm_folding import fold_batch_norm
from dermdistill.models.build import build_model
from dermdistill.models.onnx_graph import INPUT, OUTPUT, trace

Teach = Callable[[Tensor], Tensor]


def onnx_teacher(net: nn.Module, size: int, threads: int) -> Teach:
    """A teacher's logits by ONNX Runtime."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "teacher.onnx"
        trace(copy.deepcopy(net), path, size)  # type: ignore[arg-type]
        session = open_session(path, threads)

    def teach(image: Tensor) -> Tensor:
        return torch.from_numpy(session.run([OUTPUT], {INPUT: np.ascontiguousarray(image.numpy())})[0])

    return teach


def torch_teacher(net: nn.Module, *, compiled: bool) -> Teach:
    """A teacher's logits by PyTorch."""
    own = copy.deepcopy(net).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if compiled:
        own.compile(dynamic=False)
    return torch.no_grad()(own)  # type: ignore[no-any-return]


def make_step(teach: Teach, student: nn.Module, batch: int, size: int) -> Callable[[], None]:
    """One optimiser step on a batch of noise."""
    image = torch.rand(batch, 3, size, size).to(memory_format=torch.channels_last)
    mask = (torch.rand(batch, 1, size, size) > 0.5).to(torch.uint8)
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-3)

    def step() -> None:
        teacher_logits, logits = teach(image), student(image)
        loss = losses.soft_dice_loss(logits, mask) + losses.bce_loss(logits, mask)
        loss = loss + losses.bernoulli_kl_loss(logits, teacher_logits, 2.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def measure(steps: dict[str, Callable[[], None]], rounds: int) -> dict[str, dict[str, float]]:
    """Median CPU and wall milliseconds of each step, taken in turns."""
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for number in range(2 + rounds):
        for name, step in steps.items():
            cpu, wall = time.process_time(), time.perf_counter()
            step()
            if number >= 2:
                took[name].append((time.process_time() - cpu, time.perf_counter() - wall))
    return {
        name: {
            "cpu ms": 1e3 * statistics.median(cpu for cpu, _ in times),
            "wall ms": 1e3 * statistics.median(wall for _, wall in times),
        }
        for name, times in took.items()
    }


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--teacher", default="DeepLabV3Plus")
    parser.add_argument("--encoder", default="tu-tf_efficientnet_lite0")
    parser.add_argument("--student", default="small")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.manual_seed(0)
    net = fold_batch_norm(build_model(options.teacher, options.encoder)).requires_grad_(False)
    threads = torch.get_num_threads()
    teachers = {
        "ONNX Runtime": onnx_teacher(net, options.size, threads),
        "PyTorch": torch_teacher(net, compiled=False),
        "PyTorch, compiled": torch_teacher(net, compiled=True),
    }
    steps = {}
    for student_compiled in (False, True):
        for name, teach in teachers.items():
            student = build_model(options.student).train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            if student_compiled:
                student.compile(dynamic=False)
            label = f"{name}; student {'compiled' if student_compiled else 'plain'}"
            steps[label] = make_step(teach, student, options.batch_size, options.size)
    found = measure(steps, options.rounds)
    print("| teacher; student | CPU ms a step | wall ms a step |\n|---|---|---|")
    for name, row in found.items():
        print(f"| {name} | {row['cpu ms']:.0f} | {row['wall ms']:.0f} |")
    if options.out:
        settings = {name: str(value) for name, value in vars(options).items()} | {"threads": threads}
        text = json.dumps({"settings": settings, "steps": found}, indent=2)
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
