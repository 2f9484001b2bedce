"""Training images per second: the data path alone, student training, distillation; beside a plain DataLoader.

The plain loader is what the original notebook stands for: each item opens its JPEG and PNG, decodes, resizes
and converts, one image at a time. Everything is timed in one process and one run, in turns, so that ratios
hold where absolute figures do not.

    python benchmarks/speed.py --data.name NAME [--rounds 3] [--out benchmarks/speed.json]
"""

from __future__ import annotations

import argparse
import functools
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from plain import PlainImages, endless
from torch.utils.data import DataLoader

from dermdistill.config.settings import AugmentSettings, KDSettings, LossSettings
from dermdistill.data.prepare.prepare import ensure_prepared
from dermdistill.models.build import build_model
from dermdistill.training.distillation_task import FrozenTeacher
from dermdistill.training.feed.augmentation import Augment
from dermdistill.training.feed.loader import EpochBatches, PackDataset, make_loader
from dermdistill.training.objective import distilled_losses, supervised_losses


def rate(step: Callable[[], int], seconds: float, device: torch.device) -> float:
    """Images per second of ``step``, which answers how many it took."""
    step()
    images, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        images += step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return images / (time.perf_counter() - start)


def main() -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data.name", dest="name", default="phantom")
    parser.add_argument("--data.root", dest="root", type=Path, default=Path("data"))
    parser.add_argument("--data.size", dest="size", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--student", default="unet-w8")
    parser.add_argument("--teacher", default="DeepLabV3Plus")
    parser.add_argument(
        "--encoder", default="tu-tf_efficientnet_lite0", help="its weights do not matter to speed"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="per measurement")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    data = ensure_prepared(options.name, options.root, options.size)
    rows = data.indices("train")
    sampler = EpochBatches(len(rows), options.batch_size, shuffle=True)
    pack = endless(make_loader(PackDataset(data, rows), sampler))
    plain = endless(DataLoader(PlainImages(data, views=False), options.batch_size, shuffle=True))
    views = AugmentSettings().model_dump()
    views.pop("enabled")
    augment = Augment(**views)
    student = build_model(options.student).to(device, memory_format=torch.channels_last).train()
    teacher = FrozenTeacher(build_model(options.teacher, options.encoder)).to(
        device, memory_format=torch.channels_last
    )
    optimizer = torch.optim.Adam(student.parameters())
    supervised = functools.partial(supervised_losses, loss=LossSettings(bce=1.0))
    distilled = functools.partial(distilled_losses, kd=KDSettings())

    def feed_plain() -> int:
        return len(next(plain)[0])

    def feed_pack() -> int:
        return len(next(pack))

    def augmented() -> tuple[torch.Tensor, torch.Tensor]:
        batch = next(pack)
        batch = batch.to(device).as_float()
        views = augment(batch.image, batch.mask)
        return views.image, views.mask

    def feed_and_augment() -> int:
        return len(augmented()[0])

    def learn(with_teacher: bool) -> int:
        image, mask = augmented()
        logits, has_mask = student(image), mask.new_ones(len(mask), dtype=torch.bool)
        losses = supervised(logits, mask, has_mask)
        if with_teacher:
            losses |= distilled(logits, teacher(image), mask, has_mask)
        torch.stack([loss.mean() for loss in losses.values()]).sum().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return len(image)

    steps: dict[str, Callable[[], int]] = {
        "plain DataLoader, JPEG per item": feed_plain,
        "pack": feed_pack,
        "pack + augmentation": feed_and_augment,
        "student training": lambda: learn(False),
        "distillation": lambda: learn(True),
    }
    found: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(options.rounds):  # in turns: noise falls on all alike
        for name, step in steps.items():
            found[name].append(rate(step, options.seconds, device))
    medians = {name: statistics.median(values) for name, values in found.items()}
    shares = {
        "pack over plain loader": medians["pack"] / medians["plain DataLoader, JPEG per item"],
        "pack's share of a distillation step": medians["distillation"] / medians["pack"],
        "pack and augmentation's share": medians["distillation"] / medians["pack + augmentation"],
    }
    side = f"{options.size}×{options.size}"
    print(f"{data.name}, {side}, batch {options.batch_size}, {device}, torch {torch.__version__}")
    for name, value in medians.items():
        print(f"  {name:<34}{value:>12,.1f} images/s")
    for name, value in shares.items():
        print(f"  {name:<38}{value:>8.3f}")
    if options.out:
        report = {
            "images_per_second": found,
            "median": medians,
            "ratios": shares,
            "device": str(device),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "machine": platform.machine(),
            "settings": {k: str(v) for k, v in vars(options).items()},
        }
        options.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
