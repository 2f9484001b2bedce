"""Recipes and generated lesions small enough for a test to train on."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import onnx
import torch

from dermdistill.artifacts.card import make_card
from dermdistill.config import Recipe, load_recipe
from dermdistill.data.prepare.phantom import make_phantom
from dermdistill.data.prepare.prepare import prepare_phantom
from dermdistill.models.build import build_model
from dermdistill.models.complexity import count_parameters
from dermdistill.models.torch_backend import load_run

SIZE = 48


def make_phantoms(root: Path) -> Path:
    """22 prepared phantoms of 48×48 below ``root``."""
    prepare_phantom(root, count=22, size=SIZE, seed=0, name="phantom", progress=False)
    return root


def tiny(recipe: str, root: Path, runs_root: Path, **more: Any) -> Recipe:
    """A shipped recipe cut to two epochs on `make_phantoms`, with further overrides."""
    overrides = {
        "runs_root": str(runs_root),
        "data.root": str(root),
        "data.size": SIZE,
        "data.batch_size": 4,
        "trainer.epochs": 2,
        "trainer.accelerator": "cpu",
    }
    return load_recipe(recipe, overrides | more)


def state_of(run: Path) -> dict[str, torch.Tensor]:
    """The task's state at the end of a run."""
    return torch.load(run / "last.ckpt", map_location="cpu", weights_only=True)["state_dict"]


def make_student(folder: Path) -> None:
    """A run folder as training leaves it: ``unet-w4``, a few steps on phantoms of 64×64."""
    folder.mkdir()
    torch.manual_seed(0)
    phantoms = [make_phantom(7, index, 64) for index in range(16)]
    images = torch.stack([torch.tensor(p.image).permute(2, 0, 1) / 255 for p in phantoms])
    masks = torch.stack([torch.tensor(p.mask)[None].float() for p in phantoms])
    net = build_model("unet-w4").train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    for _ in range(40):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(net(images), masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.save(net.net.state_dict(), folder / "best_student_model.pth")
    make_card(
        role="student", model=net.spec.to_dict(), input_size=64, mean=net.mean.flatten().tolist(),
        std=net.std.flatten().tolist(), weights="best_student_model.pth", recipe="tiny", seed=0,
        dataset={"name": "phantom", "fingerprint": "none"}, parameters=count_parameters(net),
    ).with_scores(folder / "best_student_model.pth", 1, {}).write(folder / "card.json")  # fmt: skip


def write_onnx(run: Path, path: Path) -> None:
    """The student of a run as an ONNX file that carries its card, made with torch and onnx alone."""
    net, card = load_run(run)
    path.parent.mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's exporter uses what Python and torch deprecate
        torch.onnx.export(
            net, (torch.zeros(2, 3, 64, 64),), path, input_names=["image"], output_names=["logits"],
            dynamic_shapes={"image": {0: torch.export.Dim("n", min=1, max=64)}}, opset_version=18,
            dynamo=True, external_data=False, verbose=False,
        )  # fmt: skip
    model = onnx.load(path)
    for key, value in card.to_metadata().items():
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, path)
