"""Cells of a study as `dermdistill train` and `evaluate` leave them: real masks and counts, made-up training.

Predictions are the truth, shifted at random.
"""

from __future__ import annotations

import csv
import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from dermdistill.artifacts.card import make_card
from dermdistill.config import load_recipe, to_tree
from dermdistill.data.dataset import PreparedData
from dermdistill.data.prepare.prepare import prepare_phantom
from dermdistill.metrics.intervals import mean_interval
from dermdistill.metrics.overlap import SCORES, Counts, count, scores

ARMS = {
    "teacher": ("teacher-phantom", 2),
    "alone": ("student-phantom", 6),
    "kl": ("phantom", 3),
    "kl-cw": ("phantom", 5),
}
"""Arm → recipe, and how far its masks are shifted, in pixels at most."""


def plain(values: np.ndarray) -> dict[str, Any]:
    """mean, low, high, n."""
    return asdict(mean_interval(np.asarray(values, float)))


class CellMaker:
    """Writes runs and their evaluations on prepared phantoms."""

    def __init__(
        self,
        root: Path,
        *,
        images: int = 40,
        seeds: int = 2,
        size: int = 48,
        name: str = "trial",
        arms: dict[str, tuple[str, int]] | None = None,
    ) -> None:
        self.root, self.seeds, self.size, self.name = root, seeds, size, name
        self.arms = arms or ARMS
        self.data: PreparedData = prepare_phantom(
            root / "data", count=images, size=size, seed=3, name="phantom", progress=False
        )
        self.rows = self.data.indices("test")
        self.folder = root / name
        self.dice: dict[str, np.ndarray] = {}

    def _cell(self, arm: str, seed: int) -> Counts:
        recipe_name, reach = self.arms[arm]
        folder = self.folder / "cells" / f"{arm}-seed{seed}"
        folder.mkdir(parents=True)
        overrides = {
            "name": re.sub(r"[^\w.-]", "_", folder.name),  # no other is trained
            "seed": seed,
            "data.root": str(self.root / "data"),
            "data.size": self.size,
        }
        recipe = load_recipe(recipe_name, overrides)
        (folder / "config.yaml").write_text(yaml.safe_dump(to_tree(recipe)), encoding="utf-8")
        weights = f"best_{recipe.role}_model.pth"
        (folder / weights).write_bytes(b"w" * 2000)
        make_card(
            role=recipe.role,
            model={"arch": "unet-nano"},
            input_size=self.size,
            mean=[0.5] * 3,
            std=[0.5] * 3,
            weights=weights,
            weights_sha256=f"{seed:x}" * 64,
            recipe=recipe.name,
            seed=seed,
            parameters=482_193,
            epoch=4,
            dataset={"name": "phantom", "fingerprint": self.data.fingerprint},
            teacher={"run": "teacher-seed0"} if recipe_name == "phantom" else None,
        ).write(folder / "card.json")
        curve = [
            "epoch,step,train_loss,val_loss,val_dice,val_jaccard,val_agreement,val_teacher_dice,lr,images_per_second,seconds"
        ]
        for epoch in range(1, 6):
            dice = 0.9 - 0.3 / epoch - 0.01 * seed
            agreement = dice if recipe_name == "phantom" else ""
            curve.append(
                f"{epoch},{20 * epoch},0.5,0.4,{dice},{dice / (2 - dice)},{agreement},,0.001,50,12.5"
            )
        (folder / "metrics.csv").write_text("\n".join(curve) + "\n", encoding="utf-8")
        (folder / "finished").touch()
        return self.evaluate(folder, reach, seed)

    def evaluate(self, folder: Path, reach: int, seed: int) -> Counts:
        """An evaluation folder like `dermdistill evaluate` makes it."""
        rng = np.random.default_rng([seed, reach])
        truth = np.asarray(self.data.masks[self.rows])
        predicted = np.stack([np.roll(mask, rng.integers(-reach, reach + 1, 2), (0, 1)) for mask in truth])
        counts = Counts(*np.array([count(p, t) for p, t in zip(predicted, truth, strict=True)]).T)
        table = scores(counts)
        out = folder / "evaluation" / "phantom-test"
        out.mkdir(parents=True, exist_ok=True)
        ids = [self.data.manifest[row].image_id for row in self.rows]
        with (out / "per_image.csv").open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["image_id", "diagnosis", "tp", "fp", "fn", "tn", *SCORES, "agreement_dice"])
            for i, name in enumerate(ids):
                numbers = [int(getattr(counts, key)[i]) for key in ("tp", "fp", "fn", "tn")]
                diagnosis = self.data.manifest[self.rows[i]].diagnosis
                writer.writerow([name, diagnosis, *numbers, *(f"{table[key][i]:.6f}" for key in SCORES), ""])
        np.savez_compressed(
            out / "masks.npz", image_id=np.array(ids), mask=np.packbits(predicted, axis=-1), size=self.size
        )
        summary = {
            "protocol": "per image, at native size",
            "split": "test",
            "images": len(ids),
            "run": folder.name,
            "data": {"name": "phantom", "fingerprint": self.data.fingerprint, "title": "phantoms"},
            "model": {"parameters": 482_193, "macs": 312_000_000, "bytes": 2000, "input_size": self.size},
            "scores": {f"{name}_per_image_mean": plain(values) for name, values in table.items()},
            "by_stratum": {
                "diagnosis": {
                    "label": "diagnosis",
                    "note": "",
                    "levels": [
                        {
                            "level": "melanoma",
                            "n": len(ids),
                            "small": True,
                            "dice_per_image_mean": plain(table["dice"]),
                        }
                    ],
                }
            },
            "calibration": calibration(),
            "agreement": None,
            "human": None,
            "versions": {"python": "3.11"},
            "failures": {"rule": "Jaccard < 0.65", "count": 0, "images": []},
        }
        (out / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
        return counts


def calibration() -> dict[str, Any]:
    """Three bins, the middle one empty."""
    bins = [(0.0, 0.33, 0.05, 0.08, 0.7), (0.33, 0.67, None, None, 0.0), (0.67, 1.0, 0.94, 0.9, 0.3)]
    names = ("low", "high", "confidence", "accuracy", "share")
    return {
        "ece": 0.033,
        "definition": "Guo et al. 2017",
        "bins": [dict(zip(names, b, strict=True)) for b in bins],
    }
