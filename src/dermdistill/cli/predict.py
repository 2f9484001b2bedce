"""``dermdistill predict``."""

# No `from __future__ import annotations` here: tyro reads the annotations, which name its own types; it is
# imported inside the verb, so that `dermdistill --help` stays quick.

import json
import sys
from pathlib import Path

from dermdistill.cli.common import need_positive, show_progress
from dermdistill.errors import DataError, UsageError


def run(arguments: list[str]) -> int:
    """Parse the verb's arguments and do it; the exit code is returned."""
    import tyro
    from tyro.conf import Positional

    def predict(
        paths: Positional[list[str]],
        /,
        model: Path | None = None,
        out: Path = Path("predictions"),
        batch_size: int = 8,
        threads: int | None = None,
        tta: bool = False,
    ) -> int:
        """Segment images: a mask and an overlay for each, and one JSON line on standard output.

        Args:
            paths: Files, folders or globs.
            model: An ONNX file; with dermdistill[train], a run folder or a .pth file with its card.json
                beside it (default: the student that is shipped).
            out: Folder for masks, overlays and predictions.jsonl.
            batch_size: Images at once.
            threads: For the network (default: one per core).
            tta: Mean over the image and its three mirror images, at four times the cost.
        """
        from dermdistill.predict import Predictor, find_images, write_outputs

        need_positive("--batch-size", batch_size)
        if not paths:
            raise UsageError("No image was named.", "dermdistill predict PATH…")
        found = find_images(paths)
        predictor = Predictor(model, threads=threads, tta=tta)
        failed = 0
        for line in write_outputs(
            out, predictor.predict_many(found, batch_size), total=len(found), progress=show_progress()
        ):
            if isinstance(line, DataError):
                failed += 1
                print(f"dermdistill: {line}", file=sys.stderr)
            else:
                print(json.dumps(line, ensure_ascii=False))
        print(f"{len(found) - failed} of {len(found)} images segmented into {out}", file=sys.stderr)
        return 1 if failed else 0

    return tyro.cli(predict, prog="dermdistill predict", args=arguments)
