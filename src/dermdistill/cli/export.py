"""``dermdistill export``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from dermdistill.cli.common import need_train_extra, show_progress
from dermdistill.core.errors import UsageError


def export(
    run: Path,
    /,
    out: Path | None = None,
    arch: str | None = None,
    style: str | None = None,
    data: str | None = None,
    root: Path | None = None,
    precisions: tuple[Literal["fp32", "int8", "fp16"], ...] = ("fp32", "int8", "fp16"),
    targets: tuple[Literal["openvino", "executorch", "coreml", "monai"], ...] = (),
    dynamic_size: bool = False,
    calibration: int = 128,
    seed: int = 0,
    release: Path | None = None,
    bench: Path | None = None,
    licence: str | None = None,
    remark: tuple[str, ...] = (),
) -> int:
    """Write a run as ONNX files that need no PyTorch, each held against PyTorch on validation images.

    Args:
        run: Run folder, or a weights file with its card.json beside it.
        out: Where to write (default: RUN/export, with a style RUN/export-STYLE).
        arch: Of a run of a network of your own: its file and factory, my_net.py:factory. The file is run.
        style: Write files that draw masks in one of the styles that the run was told, and know no other
            (default: not told; the float32 file then knows all of them).
        data: Prepared data set to calibrate and compare on (default: the one it was trained on).
        root: Folder that holds prepared data sets (default: the run's).
        precisions: Which ONNX files; fp32 is always written.
        targets: Other formats too, where their libraries are installed.
        dynamic_size: Leave height and width open (multiples of the network's stride).
        calibration: Training images to calibrate int8 on.
        seed: Of their choice.
        release: Score the run on its test split, and write student.onnx and MODEL_CARD.md into this
            folder too (src/dermdistill/weights for the student that comes with the package).
        bench: A bench.json whose latencies the model card shows.
        licence: Of the training images, for the model card, where the data set does not know it.
        remark: Sentences for the top of the model card.
    """
    if calibration < 1:
        raise UsageError(
            f"--calibration is {calibration}.",
            "at least 1 training image",
            "Set --calibration to 1 or more (128 is the default).",
        )
    need_train_extra("export")
    if release is not None:
        _check_release(out, data, precisions, targets, dynamic_size, style)
        from dermdistill.workflows.release import release as make

        exported = make(
            run,
            release,
            root=root,
            bench=bench,
            licence=licence,
            remarks=remark,
            seed=seed,
            calibration=calibration,
            progress=show_progress(),
        )
        print(exported.to_text())
        print(release / "MODEL_CARD.md")
        return 0
    from dermdistill.export.export import export_run

    exported = export_run(
        run,
        out=out,
        arch=arch,
        style=style,
        data=data,
        root=root,
        precisions=precisions,
        also=targets,
        dynamic_size=dynamic_size,
        calibration=calibration,
        seed=seed,
        progress=show_progress(),
    )
    print(exported.to_text())
    return 0


def _check_release(out: Path | None, data: str | None, *others: object) -> None:
    if out is not None or data is not None or others != (("fp32", "int8", "fp16"), (), False, None):
        raise UsageError(
            "--release goes with none of --out, --data, --precisions, --targets, --dynamic-size and --style.",
            "a release is always made in the same way, from the run's own data",
            "Leave these out, or leave --release out.",
        )
