"""``dermdistill calibrate``."""

from __future__ import annotations

from pathlib import Path

from dermdistill.cli.common import show_progress


def calibrate(images: Path, masks: Path, out: Path, model: Path | None = None) -> int:
    """Fit the student's outline to masks of one's own: from 5, as a rule 20. No training, no PyTorch.

    Dice before and after is told, by leaving out each picture in turn. A gain that cannot be told from 0
    is refused, and nothing is written.

    Args:
        images: Folder of pictures, as they come.
        masks: Folder of their masks, called like their picture or with _Segmentation, _mask or _lesion
            after it.
        out: The ONNX file to write, for predict --model, serve and evaluate.
        model: An ONNX file of dermdistill export (default: the student that is shipped).
    """
    from dermdistill.workflows.calibrate import calibrate as fit_to_masks
    from dermdistill.workflows.calibrate import describe

    calibration = fit_to_masks(images, masks, out=out, model=model, progress=show_progress())
    print(describe(calibration))
    print(f"Written: {out}")
    return 0
