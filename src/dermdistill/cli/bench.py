"""``dermdistill bench``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from dermdistill.cli.common import print_json, show_progress
from dermdistill.core.errors import UsageError


def bench(
    models: tuple[str, ...] = (),
    /,
    size: int | None = None,
    data: str | None = None,
    root: Path = Path("data"),
    split: Literal["train", "val", "test"] = "val",
    limit: int | None = None,
    rounds: int = 15,
    repeats: int = 3,
    out: Path = Path("bench"),
    json: bool = False,
) -> int:
    """Networks side by side, interleaved: parameters, MACs, file, cold start, latency, peak memory.

    Args:
        models: ONNX files; with dermdistill[train] also run folders and file.py:factory (a function that
            returns a torch module; the file is run). None: the shipped student. Ratios are to the first.
        size: Side of the images in pixels (default: what each network says).
        data: Prepared data set to score them on, for the figure of Dice against latency.
        root: Folder that holds it.
        split: Which of its splits.
        limit: Score only the first so many images.
        rounds: Turns per setting; each opens the network, warms it up twice and times two calls.
        repeats: Fresh processes for cold start and memory.
        out: Folder for bench.json and dice_latency.png.
        json: Print JSON instead of the table.
    """
    for name, value in (
        ("--rounds", rounds),
        ("--repeats", repeats),
        ("--size", size),
        ("--limit", limit),
    ):
        if value is not None and value < 1:
            raise UsageError(f"{name} is {value}.", "1 or more", f"Set {name} to 1 or more, or leave it out.")
    from dermdistill.benchmark import benchmark as stage
    from dermdistill.benchmark.results import to_text

    rows = stage.bench_models(
        models, size=size, data=data, root=root, split=split, limit=limit, rounds=rounds, repeats=repeats,
        out=out, progress=show_progress(),
    )  # fmt: skip
    if json:
        print_json([row.to_json() for row in rows])
    else:
        print(to_text(rows))
        print(out / "bench.json")
    return 0
