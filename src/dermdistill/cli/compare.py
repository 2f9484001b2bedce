"""``dermdistill compare``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dermdistill.cli.common import print_json, show_progress
from dermdistill.core.errors import UsageError

if TYPE_CHECKING:
    from dermdistill.evaluation.compare import Entry


def compare(
    things: list[str],
    /,
    images: Path | None = None,
    masks: Path | None = None,
    manifest: Path | None = None,
    out: Path = Path("comparison"),
    workers: int | None = None,
    json: bool = False,
) -> int:
    """Compare two or more on the same pictures, image by image; the others are held against the first.

    Args:
        things: Each an evaluation's folder; or, with --masks, a model (an ONNX file, a run folder, a weights
            file), a folder of predictions, or the word shipped for the student that is shipped.
        images: Folder of pictures, for what is still to be scored.
        masks: Folder of their true masks.
        manifest: CSV with an id column; its other columns become subgroups of each evaluation.
        out: Where the results go: index.html, comparison.json, .md, .tex, .csv.
        workers: Processes that score files (default: one per core).
        json: Print the comparison as JSON.
    """
    if len(things) < 2:
        raise UsageError(
            f"{len(things)} thing{'s' if len(things) != 1 else ''} to compare.",
            "two or more",
            "Name evaluations' folders, or models and folders of predictions with --images and --masks.",
        )
    from dermdistill.evaluation.compare import compare as stage
    from dermdistill.evaluation.compare_page import write

    entries = [_entry(thing, images, masks, manifest, out, workers) for thing in things]
    found = stage(entries)
    write(found, out)
    if json:
        print_json(found.to_json())
    else:
        print(found.to_text())
        print(f"written to {out} (index.html)")
    return 0


def _entry(
    thing: str, images: Path | None, masks: Path | None, manifest: Path | None, out: Path, workers: int | None
) -> Entry:
    from dermdistill.evaluation.compare import entry_of, is_evaluation, read_entry
    from dermdistill.evaluation.open_any import is_run, title_of

    path = Path(thing)
    if is_evaluation(path):
        return read_entry(path)
    if masks is None:
        within = sorted(found.parent for found in path.glob("evaluation/*/summary.json"))
        if len(within) == 1 and is_evaluation(within[0]):
            return read_entry(within[0])
        several = ", ".join(map(str, within)) or "no per_image.csv and summary.json"
        raise UsageError(
            f"{thing} is not an evaluation ({several}).",
            "a folder that dermdistill evaluate wrote, or --images and --masks",
            "Name that folder, or the pictures to score it on.",
        )
    from dermdistill.evaluation.score_anything import score_anything

    made = path.is_dir() and not is_run(path)
    what = None if thing == "shipped" and not path.exists() else path
    title = title_of(what)
    return entry_of(
        score_anything(
            None if made else what,
            images=images,
            masks=masks,
            predictions=path if made else None,
            manifest=manifest,
            out=out / title.replace(" ", "-"),
            workers=workers,
            progress=show_progress(),
        )
    )
