"""Run the notebook in its offline setting and write what it showed as a page: docs/notebook.md.

    python -m tools.render_notebook            (or: make notebook)

The notebook itself stays without outputs; this page is the copy that was executed. Figures become small files
in docs/notebook_files/, named after their cells.
"""

from __future__ import annotations

import argparse
import base64
import io
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import psutil
from latex2mathml.converter import convert
from nbclient import NotebookClient
from PIL import Image

REPOSITORY = Path(__file__).parents[1]
NOTEBOOK = REPOSITORY / "notebooks" / "dermdistill_colab.ipynb"
PAGE = REPOSITORY / "docs" / "notebook.md"
WIDEST = 1200
"""Pixels: wider figures are shrunk."""
HEAD = """\
!!! warning "Executed in the offline setting, on phantoms"

    This is an executed copy of `notebooks/dermdistill_colab.ipynb`, run on a CPU without the network, on generated
    lesions, for a few epochs. **Its scores mean nothing for real lesions.** `make notebook` makes it anew.
"""  # noqa: E501
BOARD = "*(In a running notebook, TensorBoard appears here.)*"
ALT = {
    "data-grid": "Twelve images of the data set, their lesions outlined in yellow",
    "before-after": "An image, and the teacher's probability map before and after fine-tuning",
    "soft-targets": "The teacher's probability maps at temperatures 1, 2 and 4, and along a line",
    "curves": "Validation Dice per epoch: student alone, distilled, and the teacher's best as a line",
    "pictures": "Test images with the true mask, the distilled student's and the teacher's",
    "cases": "The distilled student's best, median and worst test images with outlines",
    "compare-plot": "Dice distilled against alone per image, and the histogram of the paired differences",
    "own": "A photograph, the student's outline on it, and its probability map",
}
"""What each cell's figure shows, for those who cannot see it."""


def read(path: Path = NOTEBOOK, *, mode: str = "offline") -> Any:
    """The notebook with its switch set to ``mode``."""
    notebook = nbformat.read(path, as_version=4)
    switch = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    switch.source, found = re.subn(r'(?m)^MODE = "\w+"', f'MODE = "{mode}"', switch.source)
    if found != 1:
        raise ValueError(f"{path}: the cell tagged parameters must set MODE once")
    return notebook


def execute(notebook: Any, folder: Path, *, timeout: int = 1800, before: str = "") -> None:
    """Run every cell in ``folder``, in place; nothing that it started lives on.

    Args:
        notebook: As `read` answers; gets its outputs.
        folder: Working folder; whatever the kernel and TensorBoard write goes there too.
        timeout: Seconds for a cell.
        before: Code for a first cell of its own, which is not kept.

    Raises:
        nbclient.exceptions.CellExecutionError: A cell failed.
    """
    private = folder / ".session"  # through such files TensorBoard finds the servers of other sessions
    private.mkdir(parents=True)
    places = ("TMPDIR", "TEMP", "TMP", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "MPLCONFIGDIR")
    started: dict[int, psutil.Process] = {}

    def remember(**_: Any) -> None:
        started.update((child.pid, child) for child in psutil.Process().children(recursive=True))

    if before:
        notebook.cells.insert(0, nbformat.v4.new_code_cell(before, id="before"))
    client = NotebookClient(
        notebook,
        timeout=timeout,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        on_cell_executed=remember,
    )
    others = set(psutil.Process().children(recursive=True))
    try:
        # %tensorboard starts a program that lies beside this Python and may not be on the PATH.
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        client.execute(env={**os.environ, "PATH": path, **dict.fromkeys(places, str(private))})
    finally:
        for child in set(started.values()) - others:
            if child.is_running():
                child.terminate()
        if before:
            del notebook.cells[0]


def to_markdown(notebook: Any, save: Callable[[str, bytes], str]) -> str:
    """The page; ``save`` is given a figure's name and PNG bytes, and answers where it lies."""
    parts = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(_formulas(cell.source))
        else:
            parts += [f"```python\n{cell.source}\n```", *_shown(cell, save)]
        if cell.id == "title":
            parts.append(HEAD)
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _shown(cell: Any, save: Callable[[str, bytes], str]) -> Iterator[str]:
    """A cell's outputs: figures, what was printed, and a word where TensorBoard would be."""
    printed, figures = "", 0
    for output in cell.outputs:
        data = output.get("data", {})
        if "image/png" in data:
            name = cell.id if figures == 0 else f"{cell.id}-{figures + 1}"
            where, figures = save(name, base64.b64decode(data["image/png"])), figures + 1
            yield f"![{ALT[cell.id]}]({where})"
        elif "text/html" in data and "tensorboard" in data["text/html"]:
            yield BOARD
        elif output.output_type == "stream" and output.name == "stdout":
            printed += output.text
    if printed.strip():
        yield f"```text\n{printed.replace(sys.prefix, '…').rstrip()}\n```"


def _formulas(text: str) -> str:
    """``$$…$$`` becomes a ``math`` block of the documentation, ``$…$`` MathML in the line."""
    text = re.sub(r"\$\$(.+?)\$\$", lambda found: f"```math\n{found[1].strip()}\n```", text, flags=re.DOTALL)
    # In a span: Markdown takes a line that begins with <math> for a block, and breaks the paragraph there.
    pieces = re.split(r"(```.*?```|`[^`]*`)", text, flags=re.DOTALL)
    return "".join(
        piece
        if place % 2
        else re.sub(r"\$([^$\n]+)\$", lambda found: f"<span>{convert(found[1])}</span>", piece)
        for place, piece in enumerate(pieces)
    )


def write_page(notebook: Any, page: Path) -> None:
    """Write an executed notebook as ``page``, its figures beside it; earlier figures go."""
    folder = page.with_name(f"{page.stem}_files")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)

    def save(name: str, png: bytes) -> str:
        picture = Image.open(io.BytesIO(png)).convert("RGB")
        if picture.width > WIDEST:
            picture = picture.resize(
                (WIDEST, round(picture.height * WIDEST / picture.width)), Image.Resampling.LANCZOS
            )
        path = folder / f"{name}.webp"
        picture.save(path, quality=82, method=6)
        return f"{folder.name}/{path.name}"

    page.write_text(to_markdown(notebook, save), encoding="utf-8")


def main() -> None:
    """Execute and write."""
    parser = argparse.ArgumentParser(description="Run the notebook offline and write docs/notebook.md.")
    parser.add_argument("--page", type=Path, default=PAGE, help="where to write")
    page = parser.parse_args().page
    notebook = read()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        execute(notebook, Path(folder))
    write_page(notebook, page)
    print(page)


if __name__ == "__main__":
    main()
