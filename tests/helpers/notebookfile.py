"""The notebook, as the repository keeps it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat

PATH = Path(__file__).parents[2] / "notebooks" / "dermdistill_colab.ipynb"


def cells(kind: str = "code") -> dict[str, Any]:
    """Cells of one kind, by their names."""
    return {c.id: c for c in nbformat.read(PATH, as_version=4).cells if c.cell_type == kind}
