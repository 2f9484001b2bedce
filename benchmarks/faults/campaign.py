"""The kinds of faults, how many of each, and one seeded walk over them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from benchmarks.faults import archives, disks, kills, models, onnx_files, pictures, recipes, running
from benchmarks.faults.material import Material, make_material
from benchmarks.faults.trial import Product, Trial

Try = Callable[[Material, Path, np.random.Generator, int], Iterator[Trial]]

KINDS: dict[str, tuple[Try, int, int]] = {
    "predict": (pictures.predict_folders, 900, 96),
    "pairs": (pictures.prepare_folders, 300, 24),
    "names": (pictures.odd_names, 150, 73),
    "archives": (archives.bad_archives, 26, 2),
    "checkpoints": (models.bad_checkpoints, 22, 0),
    "cards": (models.bad_cards, 40, 0),
    "onnx": (onnx_files.bad_onnx, 35, 2),
    "recipes": (recipes.bad_recipes, 32, 2),
    "configs": (recipes.bad_configs, 6, 0),
    "kills": (kills.killed, 31, 0),
    "running": (running.while_training, 6, 0),
    "full": (disks.full_disks, 18, 0),
    "read-only": (disks.read_only, 13, 0),
}
"""What tries a kind, how often in the whole campaign, and how often in the quick piece."""
TRAINED = ("checkpoints", "cards", "configs", "kills", "running", "full", "read-only")
"""Kinds that need trained networks."""


def campaign(
    product: Product, work: Path, seed: int, quick: bool, only: Sequence[str] | None
) -> Iterator[Trial]:
    """Try the kinds one after the other; each has a seed of its own, so one can be tried alone."""
    work.mkdir(parents=True, exist_ok=True)
    counts = {kind: brief if quick else whole for kind, (_, whole, brief) in KINDS.items()}
    kinds = [kind for kind in only or KINDS if counts[kind]]
    material = make_material(product, work / "material", trained=any(kind in TRAINED for kind in kinds))
    for kind in kinds:
        rng = np.random.default_rng([seed, sorted(KINDS).index(kind)])
        yield from KINDS[kind][0](material, work / kind, rng, counts[kind])
