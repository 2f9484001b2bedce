"""The lines of JSON in a folder of results: what an earlier call left there, and the tables made of them."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from dermdistill.core.errors import UsageError
from dermdistill.core.files import atomic_path, parse_json, to_json_line, write_csv
from dermdistill.imaging.find import LINES
from dermdistill.inference import formats
from dermdistill.inference.predictor import Predictor
from dermdistill.inference.writers import COCO, FILES, TABLE, Kind, OutputWriter, write_compact

COCO_LINES = "coco.jsonl"  # what coco.json is made of: an image a line


def open_lines(path: Path, resume: bool) -> Any:
    """Open a file of JSON lines for writing, behind what it holds with ``resume``; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # What is no text in a name is written as JSON escapes it.
    return path.open("a" if resume else "w", encoding="utf-8", errors="backslashreplace", newline="")


def resumed(writer: OutputWriter, predictor: Predictor) -> dict[str, dict[str, Any]]:
    """The lines of an earlier call that stay, by path; all others leave ``predictions.jsonl``."""
    coco = {part["path"] for part in read_lines(writer.folder / COCO_LINES)}
    kept: dict[str, dict[str, Any]] = {}
    for line in read_lines(writer.folder / LINES):
        if not {"path", "model", "threshold", "mm_per_pixel"} <= line.keys():
            continue
        made_by = line["model"]["weights_sha256"], line["threshold"]
        if made_by != (predictor.model["weights_sha256"], predictor.threshold):
            raise UsageError(
                f"{writer.folder} holds predictions of another model or outline "
                f"(SHA-256 {made_by[0][:16]}…, threshold {made_by[1]:.3f}).",
                "results of the model and the outline that go on",
                "Name that model and outline, choose another --out, or leave --resume out to begin again.",
            )
        keys = [key for key, (kind, _) in FILES.items() if kind in writer.outputs]
        whole = all(key in line and Path(line[key]).is_file() for key in keys)
        in_coco = "coco" not in writer.outputs or line["path"] in coco
        of_file = line.get("dicom", {}).get("mm_per_pixel")
        scale = of_file if writer.mm_per_pixel is None else writer.mm_per_pixel
        if whole and in_coco and line["mm_per_pixel"] == scale:
            kept[line["path"]] = line
    if (writer.folder / LINES).is_file():
        _rewrite(writer.folder / LINES, kept.values())
    if (writer.folder / COCO_LINES).is_file():
        parts = {part["path"]: part for part in read_lines(writer.folder / COCO_LINES)}
        _rewrite(writer.folder / COCO_LINES, (part for path, part in parts.items() if path in kept))
    return kept


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file of JSON lines; a line that a stop cut off is left out."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as stream:
        for text in stream:
            with contextlib.suppress(ValueError):
                if isinstance(line := parse_json(text), dict) and "path" in line:
                    yield line


def _rewrite(path: Path, lines: Iterable[dict[str, Any]]) -> None:
    with atomic_path(path) as temporary, open_lines(temporary, resume=False) as stream:
        stream.writelines(to_json_line(line) + "\n" for line in lines)


def write_tables(folder: Path, outputs: Collection[Kind]) -> None:
    """The files of a whole call, from the lines that it wrote."""
    if "csv" in outputs:
        write_csv(folder / TABLE, map(formats.row, read_lines(folder / LINES)), formats.COLUMNS)
    if "coco" in outputs:
        write_compact(folder / COCO, formats.coco(_coco_images(folder / COCO_LINES)))


def _coco_images(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of ``coco.jsonl``, each image named by its path below the folder that all of them lie in.

    That folder is known only at the end: a call that goes on with ``resume`` may have been given more inputs.
    """
    common = formats.find_common_folder(Path(part["path"]) for part in read_lines(path))
    for part in read_lines(path):
        name = formats.relative_name(Path(part["path"]), common)
        yield {**part, "image": {**part["image"], "file_name": name}}
