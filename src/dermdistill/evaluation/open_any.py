"""What a user may mean by a thing to score: the shipped student, a model file, a run, a folder of "
"predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dermdistill.core.errors import WeightsError
from dermdistill.inference.foreign_onnx import ForeignOnnx
from dermdistill.inference.predictor import Predictor

SHIPPED = "the shipped student"


def open_model(
    what: Path | None, foreign: dict[str, Any] | None = None, arch: str | None = None
) -> Predictor:
    """Open a model.

    Args:
        what: An ONNX file, a run folder, a weights file; None: the shipped student.
        foreign: What another maker's ONNX file needs to be told, as arguments of `ForeignOnnx`.
        arch: ``FILE.py:FACTORY`` of a run of a network of the user's own, which is run.

    Raises:
        WeightsError: There is no such model, or it cannot be used.
        MissingExtraError: It needs PyTorch, which is not installed.
    """
    if what is None or what.suffix.lower() != ".onnx":
        return Predictor(what, arch=arch)
    if not foreign:
        try:
            return Predictor(what)
        except WeightsError as error:
            if "no model card" not in error.found:
                raise
    backend = ForeignOnnx(what, **(foreign or {}))
    return Predictor.from_backend(backend.card, backend)


def title_of(what: Path | None) -> str:
    """Return the name that a model or a folder of predictions has in tables."""
    if what is None:
        return SHIPPED
    return what.resolve().name if what.is_dir() else what.stem


def is_run(what: Path) -> bool:
    """Whether a path is a run folder, or a weights file, which PyTorch opens."""
    return what.suffix == ".pth" or (what / "card.json").is_file()
