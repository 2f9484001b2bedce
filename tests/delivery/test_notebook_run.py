"""The notebook: run from top to bottom offline, its Colab cells run with a stand-in for Colab."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import torch
from PIL import Image
from tools import render_notebook

import dermdistill as dd
from dermdistill.evaluation.per_image import read_per_image
from dermdistill.metrics.overlap import scores as derive
from notebookfile import cells

WARNINGS_ARE_ERRORS = "import warnings\nwarnings.filterwarnings('error', module=r'dermdistill(\\.|$)')"
pytestmark = pytest.mark.timeout(1800)  # minutes alone, more beside others


# -- run from top to bottom -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """The notebook, executed offline in a folder of its own, its trainings cut short.

    `make notebook` runs all epochs; here they were half of the time, and showed nothing more.
    """
    folder = tmp_path_factory.mktemp("notebook")
    notebook = render_notebook.read()
    plan = next(cell for cell in notebook.cells if cell.id == "plan")
    assert plan.source.count("\nPHANTOMS = ") == 1
    plan.source = plan.source.replace("\nPHANTOMS = ", "\nTEACHER_EPOCHS = STUDENT_EPOCHS = 2\nPHANTOMS = ")
    render_notebook.execute(notebook, folder, before=WARNINGS_ARE_ERRORS)
    return notebook, folder / "dermdistill-notebook"


def printed(notebook: Any, name: str) -> str:
    cell = next(cell for cell in notebook.cells if cell.id == name)
    return "".join(o.text for o in cell.outputs if o.output_type == "stream" and o.name == "stdout")


@pytest.mark.slow
def test_it_says_what_it_chose(ran: tuple[Any, Path]) -> None:
    told = printed(ran[0], "setting")
    assert "Setting: OFFLINE" in told
    assert "it was asked for" in told
    assert "NOTHING about real lesions" in told
    assert re.search(r"weights +(none|ImageNet for EfficientNet-Lite0)", told)
    assert "says nothing about real lesions" in printed(ran[0], "compare")


@pytest.mark.slow
def test_it_makes_what_it_promises(ran: tuple[Any, Path]) -> None:
    notebook, folder = ran
    assert [cell.id for cell in notebook.cells if cell.cell_type == "code"] == list(cells())
    assert all(c.execution_count for c in notebook.cells if c.cell_type == "code"), "every cell has run"
    kept = folder / "kept"
    assert {path.name for path in kept.iterdir()} == {"best_student_model.pth", "card.json", "student.onnx"}
    card = dd.ModelCard.read(kept / "card.json")
    state = torch.load(kept / "best_student_model.pth", weights_only=True)
    net = dd.build_model(card.model["arch"])
    net.net.load_state_dict(state)
    assert dd.count_parameters(net) == card.parameters
    assert card.teacher is not None
    assert card.teacher.fine_tuned
    # The file without PyTorch answers as the network does.
    picture = (np.random.default_rng(0).random((96, 96, 3)) * 255).astype(np.uint8)
    answer = dd.Predictor(kept / "student.onnx")(picture)
    from_run = dd.Predictor(folder / "runs" / "student-distilled")(picture)
    np.testing.assert_allclose(answer.prob, from_run.prob, atol=1e-4)
    assert list((folder / "runs" / "teacher").rglob("events.out.tfevents*"))


@pytest.mark.slow
def test_what_it_prints_is_what_was_measured(ran: tuple[Any, Path]) -> None:
    notebook, folder = ran
    table = printed(notebook, "evaluation")
    for name, run in (("teacher", "teacher"), ("alone", "student-alone"), ("distilled", "student-distilled")):
        images = read_per_image(folder / "runs" / run / "evaluation" / "phantom-test" / "per_image.csv")
        dice, jaccard = (100 * derive(images.counts)[score].mean() for score in ("dice", "jaccard"))
        assert re.search(rf"^{name} +{dice:.2f} +[\d.]+ to [\d.]+ +{jaccard:.2f} ", table, flags=re.MULTILINE)
    compared = printed(notebook, "compare")
    points = r"[+−]\d+\.\d\d"
    row = rf"^distilled +1 .+ to .+{points} \({points} to {points}\) +[\d.]+ "
    assert re.search(row, compared, flags=re.MULTILINE), compared
    assert "Holm p" in compared
    assert "would have found" in compared or "against alone" in compared
    own = printed(notebook, "mine")
    row = rf"^mine +1 .+ to .+{points} \({points} to {points}\) +[\d.]+ "
    assert re.search(row, own, flags=re.MULTILINE), own
    assert dd.ModelCard.read(folder / "runs" / "mine" / "card.json").model["arch"] == "my_net.py:my_net"
    kl = printed(notebook, "bernoulli")
    assert re.search(r"softmax over one channel: +\[1\.0\]", kl)
    assert re.search(r"categorical +0\.0000 +0\.0e\+00", kl)
    assert all(float(value) > 0 for value in re.findall(r"Bernoulli, T = \d +([\d.]+)", kl))
    timing = printed(notebook, "timing")
    assert re.search(r"^student .+ ms +[\d.]+$", timing, flags=re.MULTILINE)
    assert "tensorboard" in str([c.outputs for c in notebook.cells if c.id == "tensorboard"])


@pytest.mark.slow
def test_the_page_is_written_from_it(ran: tuple[Any, Path], tmp_path: Path) -> None:
    page = tmp_path / "notebook.md"
    render_notebook.write_page(ran[0], page)
    text = page.read_text(encoding="utf-8")
    figures = re.findall(r"\]\((notebook_files/[\w.-]+)\)", text)
    assert len(figures) == len(render_notebook.ALT)
    for path in figures:
        with Image.open(tmp_path / path) as picture:
            assert np.asarray(picture.convert("L")).std() > 5, f"{path} is empty"
    assert render_notebook.BOARD in text
    assert "$$" not in text
    assert "<math" in text
    assert "```math" in text


# -- on Colab ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_on_colab_an_image_is_uploaded_and_the_result_goes_to_drive(
    ran: tuple[Any, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = ran[1] / "runs"
    mounted: list[str] = []
    colab = types.ModuleType("google.colab")
    colab.files = types.SimpleNamespace(upload=lambda: {"mine.png": b""})  # type: ignore[attr-defined]
    colab.drive = types.SimpleNamespace(mount=mounted.append)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "google", types.ModuleType("google"))
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    monkeypatch.chdir(tmp_path)
    mpl.use("agg")
    Image.fromarray((np.random.default_rng(0).random((80, 120, 3)) * 255).astype(np.uint8)).save("mine.png")
    exported = types.SimpleNamespace(files={"fp32": runs / "student-distilled" / "export" / "student.onnx"})
    import matplotlib.pyplot as plt

    monkeypatch.setattr(plt, "show", lambda: None)
    names = {
        "setting": types.SimpleNamespace(colab=True), "dd": dd, "plt": plt, "Path": Path, "data": None,
        "exported": exported, "STUDENT_COLOUR": (0, 0, 255), "FOLDER": "x",
        "distilled_run": runs / "student-distilled",
    }  # fmt: skip
    exec(cells()["own"].source, names)
    plt.close("all")
    assert names["OWN_IMAGE"] == "mine.png"
    assert names["answer"].mask.shape == (80, 120)
    exec(cells()["keep"].source.replace("/content/drive", str(tmp_path / "drive")), names)
    assert mounted == [str(tmp_path / "drive")]
    there = tmp_path / "drive" / "MyDrive" / "dermdistill"
    assert {path.name for path in there.iterdir()} == {"best_student_model.pth", "card.json", "student.onnx"}
    assert "no Drive" not in capsys.readouterr().out
