"""Where the time of a distillation step goes, in our trainer and in the plain loop of a notebook, in one run.

The plain loop is what the original notebook stands for: a DataLoader that decodes a JPEG and a mask per item,
transforms per item, both networks in fp32 as they are built, ``loss.item()`` after every step. Ours is
`training.distill` itself, with a clock around its parts; ``before`` is ours without folded batch norm and
channels_last. The variants take turns.

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
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import lightning.pytorch as L
import torch
from torch.utils.data import DataLoader, Dataset

from dermdistill import distillation, feed, imaging, training
from dermdistill.card import make_card
from dermdistill.config import LossSettings, Recipe, load_recipe
from dermdistill.data.dataset import PreparedData
from dermdistill.data.prepare import ensure_prepared
from dermdistill.losses import bernoulli_kl_loss
from dermdistill.models.build import build_model, count_parameters
from dermdistill.objective import supervised_terms

PARTS = ("data", "augmentation", "teacher", "student", "losses", "backward", "optimiser", "logging", "rest")


class Clock:
    """Seconds by part. Parts nest: what an inner part took does not count for the outer one."""

    def __init__(self, device: torch.device, watch: bool) -> None:
        self.device, self.watch = device, watch
        self.paused = False
        self.seconds: dict[str, float] = defaultdict(float)
        self._inner: list[float] = []

    def now(self) -> float:
        """Wall time on a GPU, once it has done all; the process's CPU time else."""
        if self.device.type != "cuda":
            return time.process_time()
        if self.watch:
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count what happens inside as ``name``."""
        if not self.watch or self.paused:
            yield
            return
        started = self.now()
        self._inner.append(0.0)
        try:
            yield
        finally:
            took = self.now() - started
            self.seconds[name] += took - self._inner.pop()
            if self._inner:
                self._inner[-1] += took

    def around(self, owner: Any, method: str, name: str) -> None:
        """Count every call of ``owner.method`` as ``name``."""
        original = getattr(owner, method)

        @functools.wraps(original)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                return original(*args, **kwargs)

        # Modules refuse a function where they had a submodule, objects with slots any: none of these is.
        object.__setattr__(owner, method, timed)


class StepClock(L.Callback):
    """Put a clock around the parts of a task's steps; count the steps after ``warm_up`` full batches."""

    def __init__(self, watch: bool, warm_up: int, steps: int, batch: int) -> None:
        self.watch, self.warm_up, self.steps, self.batch = watch, warm_up, steps, batch
        self.begun, self.images, self.total, self._started = 0, 0, 0.0, 0.0

    def on_train_start(self, trainer: L.Trainer, task: Any) -> None:
        """Wrap the parts."""
        self.clock = Clock(task.device, self.watch)
        if not self.watch:
            return
        dataset: Any = trainer.train_dataloader.dataset  # type: ignore[union-attr]
        optimizer = trainer.optimizers[0]
        self.clock.around(dataset, "__getitems__", "data")
        self.clock.around(task, "transfer_batch_to_device", "data")
        self.clock.around(task, "view", "augmentation")
        self.clock.around(task, "answer", "student")
        if hasattr(task, "teacher"):
            self.clock.around(task.teacher, "forward", "teacher")
            self.clock.around(task, "distilled", "losses")
        self.clock.around(task, "supervised", "losses")
        self.clock.around(task, "backward", "backward")
        self.clock.around(task, "configure_gradient_clipping", "optimiser")
        self.clock.around(task, "optimizer_zero_grad", "optimiser")
        self.clock.around(optimizer, "step", "optimiser")  # the closure inside is counted by its parts
        self.clock.around(task, "training_step", "rest")
        self.clock.around(task, "log", "logging")

    def on_train_batch_start(self, trainer: L.Trainer, task: Any, batch: Any, batch_idx: int) -> None:
        """Begin to count."""
        if self.begun == self.warm_up:
            torch.cuda.synchronize() if task.device.type == "cuda" else None
            self.clock.seconds.clear()
            self._started, self._images = self.clock.now(), 0
        self.begun += 1

    def on_train_batch_end(self, trainer: Any, task: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Count, and end the run when there are enough."""
        if self.begun <= self.warm_up:
            return
        self._images += len(batch["row"])
        if self.begun == self.warm_up + self.steps:
            torch.cuda.synchronize() if task.device.type == "cuda" else None
            self.total, self.images = self.clock.now() - self._started, self._images
            raise _Enough

    def on_validation_start(self, trainer: L.Trainer, task: Any) -> None:
        """Stop the clock: validation is no training step."""
        torch.cuda.synchronize() if task.device.type == "cuda" else None
        self.clock.paused, self._stopped = True, self.clock.now()

    def on_train_epoch_start(self, trainer: L.Trainer, task: Any) -> None:
        """Go on."""
        if hasattr(self, "clock") and self.clock.paused:
            self.clock.paused = False
            self._started += self.clock.now() - self._stopped

    def table(self) -> dict[str, float]:
        """Milliseconds per image by part; ``rest`` is what the trainer does around them."""
        parts = {name: self.clock.seconds.get(name, 0.0) for name in PARTS}
        parts["rest"] = self.total - sum(value for name, value in parts.items() if name != "rest")
        return {name: 1e3 * value / self.images for name, value in parts.items()}


class _Enough(Exception):  # noqa: N818 (a way out, not an error)
    """The steps are done."""


def run_ours(
    recipe: Recipe, *, watch: bool, warm_up: int, steps: int, before: bool = False, repeat: int = 1
) -> StepClock:
    """Some steps of `training.distill` with the clock on them; each image ``repeat`` times in an epoch."""
    seen = StepClock(watch, warm_up, steps, recipe.data.batch_size)
    make, rows_of = training.make_trainer, feed.train_rows

    def with_clock(*args: Any, **kwargs: Any) -> L.Trainer:
        trainer = make(*args, **kwargs)
        trainer.callbacks.append(seen)  # type: ignore[attr-defined]
        return trainer

    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(training, "make_trainer", with_clock))
        if repeat > 1:
            several = mock.patch.object(feed, "train_rows", lambda *a: rows_of(*a).repeat(repeat))
            stack.enter_context(several)
        if before:
            stack.enter_context(mock.patch.object(distillation, "fold_batch_norm", lambda net: net.eval()))
            stack.enter_context(mock.patch.object(torch, "channels_last", torch.preserve_format))
        stack.enter_context(contextlib.suppress(_Enough))
        training.distill(recipe, overwrite=True, progress=False)
    return seen


class PlainImages(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Decode and transform one image at a time."""

    def __init__(self, data: PreparedData) -> None:
        self.data, self.rows = data, data.indices("train")

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: int) -> tuple[torch.Tensor, torch.Tensor]:
        from torchvision.transforms.v2 import functional as F

        row, side = int(self.rows[position]), self.data.size
        image = imaging.resize_image(imaging.read_image(self.data.image_path(row)), side)
        mask = imaging.resize_mask(self.data.native_mask(row), side)
        x = torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255
        y = torch.from_numpy(mask.copy())[None]
        for flip in (F.horizontal_flip, F.vertical_flip):
            if torch.rand(()) < 0.5:
                x, y = flip(x), flip(y)
        angle = float(torch.rand(()) * 360 - 180)
        x, y = F.rotate(x, angle, interpolation=F.InterpolationMode.BILINEAR), F.rotate(y, angle)
        for change in (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation):
            x = change(x, float(0.8 + 0.4 * torch.rand(())))
        return x, y  # both networks normalise, as ours do


def run_plain(
    recipe: Recipe, data: PreparedData, device: torch.device, *, watch: bool, warm_up: int, steps: int
) -> dict[str, Any]:
    """Some steps of the notebook's loop: images, seconds, and milliseconds per image by part."""
    clock = Clock(device, watch)
    teacher = _teacher_of(recipe).to(device).eval()
    student = build_model(recipe.student.arch).to(device).train()
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-3)
    supervised = functools.partial(supervised_terms, loss=LossSettings(bce=1.0))
    loader = DataLoader(
        PlainImages(data), recipe.data.batch_size, shuffle=True, drop_last=True,
        num_workers=2 if device.type == "cuda" else 0,
    )  # fmt: skip
    batches = _endless(loader)
    started = 0.0
    for step in range(warm_up + steps):
        if step == warm_up:
            torch.cuda.synchronize() if device.type == "cuda" else None
            clock.seconds.clear()
            started = clock.now()
        with clock.part("data"):
            image, mask = (tensor.to(device) for tensor in next(batches))
        with clock.part("teacher"), torch.no_grad():
            teacher_logits = teacher(image)
        with clock.part("student"):
            logits = student(image)
        with clock.part("losses"):
            terms = [value.mean() for value in supervised(logits, mask).values()]
            loss = torch.stack([*terms, bernoulli_kl_loss(logits, teacher_logits, 2.0)]).sum()
        with clock.part("backward"):
            optimizer.zero_grad()
            loss.backward()
        with clock.part("optimiser"):
            optimizer.step()
        with clock.part("logging"):
            loss.item()
    torch.cuda.synchronize() if device.type == "cuda" else None
    total, images = clock.now() - started, steps * recipe.data.batch_size
    parts = {name: 1e3 * clock.seconds.get(name, 0.0) / images for name in PARTS}
    parts["rest"] = 1e3 * total / images - sum(parts.values())
    return {"images_per_second": images / total, "ms_per_image": parts}


def _endless(loader: DataLoader[Any]) -> Iterator[Any]:
    while True:
        yield from loader


def _teacher_of(recipe: Recipe) -> torch.nn.Module:
    from dermdistill.models.torch_backend import load_run

    assert recipe.teacher.run is not None
    return load_run(recipe.teacher.run)[0]


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
        recipe = make_recipe(data, teacher, Path(folder), student, batch, **where)
        plain = functools.partial(run_plain, recipe, data, device, warm_up=warm_up, steps=steps)
        ours = functools.partial(run_ours, recipe, warm_up=warm_up, steps=steps, repeat=repeat)
        for number in range(rounds):
            found["plain loop"].append(plain(watch=False)["images_per_second"])
            for name, before in (("ours before", True), ("ours", False)):
                seen = ours(watch=False, before=before)
                found[name].append(seen.images / seen.total)
            say(f"round {number + 1}: " + ", ".join(f"{k} {v[-1]:.1f}" for k, v in found.items()))
        parts = {"plain loop": plain(watch=True)["ms_per_image"], "ours": ours(watch=True).table()}
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
    names = list(result["ms_per_image"])
    lines += ["", f"| ms per image | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for part in PARTS:
        cells = [f"{result['ms_per_image'][name][part]:.2f}" for name in names]
        lines.append(f"| {part} | {' | '.join(cells)} |")
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
