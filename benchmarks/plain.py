"""The plain loop that the original notebook stands for: item by item, fp32, ``loss.item()`` each step."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import torch
from clock import PARTS, Clock, usage
from torch.utils.data import DataLoader, Dataset

from dermdistill import imaging
from dermdistill.config import Recipe
from dermdistill.config.settings import LossSettings
from dermdistill.data.dataset import PreparedData
from dermdistill.losses import bernoulli_kl_loss
from dermdistill.models.build import build_model
from dermdistill.training.objective import supervised_losses


class PlainImages(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Decode an image and its mask when they are asked for, and (``views``) transform them there."""

    def __init__(self, data: PreparedData, *, views: bool) -> None:
        self.data, self.rows, self.views = data, data.indices("train"), views

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: int) -> tuple[torch.Tensor, torch.Tensor]:
        row, side = int(self.rows[position]), self.data.size
        image = imaging.resize_image(imaging.read_image(self.data.image_path(row)), side)
        mask = imaging.resize_mask(self.data.native_mask(row), side)
        x = torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255
        y = torch.from_numpy(mask.copy())[None]
        return self.view(x, y) if self.views else (x, y)

    @staticmethod
    def view(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Flips, a turn, and changes of brightness, contrast and saturation."""
        from torchvision.transforms.v2 import functional as F

        for flip in (F.horizontal_flip, F.vertical_flip):
            if torch.rand(()) < 0.5:
                x, y = flip(x), flip(y)
        angle = float(torch.rand(()) * 360 - 180)
        x, y = F.rotate(x, angle, interpolation=F.InterpolationMode.BILINEAR), F.rotate(y, angle)
        for change in (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation):
            x = change(x, float(0.8 + 0.4 * torch.rand(())))
        return x, y  # both networks normalise, as ours do


def run_plain(
    recipe: Recipe, data: PreparedData, device: torch.device, *,
    watch: bool, warm_up: int, steps: int, wall: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Some steps of the notebook's loop: images a second, ms per image by part, `usage` around them.

    Without ``teacher.run`` the student learns alone. ``wall`` is the `Clock`'s.
    """
    clock = Clock(device, watch, wall)
    teacher = _teacher_of(recipe).to(device).eval() if recipe.teacher.run is not None else None
    student = build_model(recipe.student.arch).to(device).train()
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-3)
    supervised = functools.partial(supervised_losses, loss=LossSettings(bce=1.0))
    loader = DataLoader(
        PlainImages(data, views=True), recipe.data.batch_size, shuffle=True, drop_last=True,
        num_workers=2 if device.type == "cuda" else 0,
    )  # fmt: skip
    batches = endless(loader)
    started, used = 0.0, usage()
    for step in range(warm_up + steps):
        if step == warm_up:
            torch.cuda.synchronize() if device.type == "cuda" else None
            clock.seconds.clear()
            started, used = clock.now(), usage()
        with clock.part("data"):
            image, mask = (tensor.to(device) for tensor in next(batches))
        with clock.part("teacher"), torch.no_grad():
            teacher_logits = teacher(image) if teacher is not None else None
        with clock.part("student"):
            logits = student(image)
        with clock.part("losses"):
            has_mask = mask.new_ones(len(mask), dtype=torch.bool)
            losses = [value.mean() for value in supervised(logits, mask, has_mask).values()]
            if teacher_logits is not None:
                losses.append(bernoulli_kl_loss(logits, teacher_logits, 2.0))
            loss = torch.stack(losses).sum()
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
    return {"images_per_second": images / total, "ms_per_image": parts, "usage": (used, usage())}


def endless(loader: DataLoader[Any]) -> Iterator[Any]:
    """Batches without end."""
    while True:
        yield from loader


def _teacher_of(recipe: Recipe) -> torch.nn.Module:
    from dermdistill.models.torch_backend import load_run

    assert recipe.teacher.run is not None
    return load_run(recipe.teacher.run)[0]
