"""Where the time of a distillation step goes, in our trainer and in the plain loop of a notebook, in one run.

The plain loop is what the original notebook stands for: a DataLoader that decodes a JPEG and a mask per item,
transforms per item, both networks in fp32 as they are built, ``loss.item()`` after every step. Ours is
`training.distill` itself, with a clock around its parts; ``before`` is ours without folded batch norm,
channels_last, the teacher's ONNX graph and recorded steps; on a GPU ``launched one by one`` lacks the last,
and ``compiled`` has torch.compile besides (last round only: it takes a minute). The variants take turns.

    python benchmarks/steps.py --data.name NAME [--batch-size 8] [--steps 10] [--rounds 3] [--out FILE.json]

On a CPU the clock is the process's CPU time: run it on one thread (OMP_NUM_THREADS=1) and other work on the
machine hardly matters. On a GPU it is wall time with a wait at every boundary, so parts add up to more than a
step that is not watched; the images per second are those of steps that are not.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import logging
import statistics
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import lightning.pytorch as L
import torch
from clock import Enough, StepClock, parts_table
from plain import run_plain

from dermdistill.artifacts.card import make_card
from dermdistill.config import Recipe, load_recipe
from dermdistill.core.errors import TrainingError
from dermdistill.data.dataset import PreparedData
from dermdistill.data.prepare.prepare import ensure_prepared
from dermdistill.models.build import build_model
from dermdistill.models.complexity import count_parameters
from dermdistill.training import distillation_task, fit
from dermdistill.training import run as training
from dermdistill.training.acceleration import compile, onnx_teacher
from dermdistill.training.feed import training_data


def run_ours(
    recipe: Recipe, *, watch: bool, warm_up: int, steps: int, before: bool = False, repeat: int = 1
) -> StepClock:
    """Some steps of `training.distill` with the clock on them; each image ``repeat`` times in an epoch."""
    seen = StepClock(watch, warm_up, steps, recipe.data.batch_size)
    make, rows_of = fit.make_trainer, training_data.train_rows

    def with_clock(*args: Any, **kwargs: Any) -> L.Trainer:
        trainer = make(*args, **kwargs)
        trainer.callbacks.append(seen)  # type: ignore[attr-defined]
        return trainer

    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(fit, "make_trainer", with_clock))
        if repeat > 1:
            several = mock.patch.object(training_data, "train_rows", lambda *a: rows_of(*a).repeat(repeat))
            stack.enter_context(several)
        if before:
            stack.enter_context(
                mock.patch.object(distillation_task, "fold_batch_norm", lambda net: net.eval())
            )
            stack.enter_context(mock.patch.object(torch, "channels_last", torch.preserve_format))
            by_torch = mock.patch.object(onnx_teacher, "forward_on_cpu", return_value=compile.plain_forward)
            stack.enter_context(by_torch)
        stack.enter_context(contextlib.suppress(Enough))
        training.distill(recipe, overwrite=True, progress=False)
    return seen


def random_teacher(folder: Path, arch: str, encoder: str | None, data: PreparedData) -> Path:
    """A finished teacher run with random weights: speed does not ask what it has learnt."""
    net = build_model(arch, None if encoder == "none" else encoder)
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / "best_teacher_model.pth"
    torch.save(net.net.state_dict(), weights)
    card = make_card(
        role="teacher", model=net.spec.to_dict(), input_size=data.size, mean=net.mean.flatten().tolist(),
        std=net.std.flatten().tolist(), weights=weights.name, recipe="random", seed=0,
        dataset={"name": data.name, "fingerprint": data.fingerprint}, parameters=count_parameters(net),
    )  # fmt: skip
    card.with_scores(weights, 1, {}).write(folder / "card.json")
    (folder / "finished").touch()
    return folder


def make_recipe(
    data: PreparedData, teacher: Path, runs_root: Path, student: str, batch: int, **more: Any
) -> Recipe:
    """A distillation without end."""
    return load_recipe(
        "isic2016",
        {
            "name": "speed", "runs_root": str(runs_root), "data.name": data.name,
            "data.root": str(data.folder.parent), "data.size": data.size, "data.batch_size": batch,
            "student.arch": student, "student.encoder_weights": None, "teacher.run": str(teacher),
            "trainer.epochs": 100_000, **more,
        },
    )  # fmt: skip


def compare(
    data: PreparedData, teacher: Path, student: str, batch: int, *,
    steps: int, warm_up: int, rounds: int, repeat: int, device: torch.device, say: Callable[[str], None],
) -> dict[str, Any]:  # fmt: skip
    """Plain, before and ours in turns; then the parts of plain and ours."""
    where = {"trainer.accelerator": "gpu" if device.type == "cuda" else "cpu"}
    found: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        other = functools.partial(make_recipe, data, teacher, Path(folder), student, batch, **where)
        recipe = other()
        plain = functools.partial(run_plain, recipe, data, device, warm_up=warm_up, steps=steps)
        ours = functools.partial(run_ours, warm_up=warm_up, steps=steps, repeat=repeat)
        variants = {"ours before": (other(**{"trainer.cuda_graphs": "off"}), True), "ours": (recipe, False)}
        if device.type == "cuda":
            variants["ours, launched one by one"] = (other(**{"trainer.cuda_graphs": "off"}), False)
        for number in range(rounds):
            found["plain loop"].append(plain(watch=False)["images_per_second"])
            if device.type == "cuda" and number + 1 == rounds:
                variants["ours, compiled"] = (other(**{"trainer.compile": "default"}), False)
            for name, (made, before) in variants.items():
                try:
                    seen = ours(made, watch=False, before=before)
                except TrainingError as error:  # torch.compile needs a compiler, which not all machines have
                    say(f"{name}: {error}")
                    continue
                found[name].append(seen.images / seen.total)
            say(f"round {number + 1}: " + ", ".join(f"{k} {v[-1]:.1f}" for k, v in found.items()))
        parts = {"plain loop": plain(watch=True)["ms_per_image"]}
        for name, (made, before) in variants.items():
            if not before and name != "ours, compiled":
                parts[name] = ours(made, watch=True).table()
    medians = {name: statistics.median(values) for name, values in found.items()}
    return {
        "data": data.name, "size": data.size, "batch": batch, "student": student, "device": str(device),
        "clock": "wall" if device.type == "cuda" else "CPU time", "torch": torch.__version__,
        "threads": torch.get_num_threads(), "images_per_second": found, "median": medians,
        "ours over plain": medians["ours"] / medians["plain loop"],
        "ours over before": medians["ours"] / medians["ours before"], "ms_per_image": parts,
    }  # fmt: skip


def to_text(result: dict[str, Any]) -> str:
    """Both tables, as Markdown."""
    lines = ["| | images/s | |", "|---|---|---|"]
    base = result["median"]["plain loop"]
    lines += [f"| {name} | {rate:,.1f} | {rate / base:.1f} × |" for name, rate in result["median"].items()]
    lines += ["", *parts_table(result["ms_per_image"])]
    return "\n".join(lines)


def main() -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data.name", dest="name", default="phantom")
    parser.add_argument("--data.root", dest="root", type=Path, default=Path("data"))
    parser.add_argument("--data.size", dest="size", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--student", default="small")
    parser.add_argument("--teacher", default="DeepLabV3Plus")
    parser.add_argument("--encoder", default="tu-tf_efficientnet_lite0", help="none for unet-w4 and such")
    parser.add_argument("--steps", type=int, default=10, help="per round and variant")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    quiet()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    data = ensure_prepared(options.name, options.root, options.size)
    with tempfile.TemporaryDirectory() as folder:
        teacher = random_teacher(Path(folder) / "teacher", options.teacher, options.encoder, data)
        result = compare(
            data, teacher, options.student, options.batch_size, steps=options.steps, warm_up=2,
            rounds=options.rounds, repeat=1, device=device, say=print,
        )  # fmt: skip
    print(to_text(result))
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def quiet() -> None:
    """No advice from libraries between the figures."""
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


if __name__ == "__main__":
    main()
