"""Recipes and generated lesions small enough for a test to train on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from dermdistill.config import Recipe, load_recipe
from dermdistill.data.prepare.prepare import prepare_phantom

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
