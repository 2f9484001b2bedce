"""The notebook: kept clean, run from top to bottom offline, its Colab cells run with a stand-in for Colab."""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import json
import re
import sys
import types
from pathlib import Path
from typing import Any

import matplotlib as mpl
import nbformat
import numpy as np
import pytest
import torch
from PIL import Image

import dermdistill as dd
from dermdistill import notebook as surroundings
from dermdistill.errors import UsageError
from dermdistill.metrics import scores as derive
from dermdistill.per_image import read_per_image

REPOSITORY = Path(__file__).parents[1]
PATH = REPOSITORY / "notebooks" / "dermdistill_colab.ipynb"
PAGE = REPOSITORY / "docs" / "notebook.md"
WARNINGS_ARE_ERRORS = "import warnings\nwarnings.filterwarnings('error', module=r'dermdistill(\\.|$)')"

sys.path.insert(0, str(REPOSITORY))
from tools import render_notebook  # noqa: E402

sys.path.pop(0)
pytestmark = pytest.mark.timeout(1800)  # minutes alone, more beside others


def cells(kind: str = "code") -> dict[str, Any]:
    return {c.id: c for c in nbformat.read(PATH, as_version=4).cells if c.cell_type == kind}


# -- the file ---------------------------------------------------------------------------------------------


def test_the_file_is_kept_clean() -> None:
    text = PATH.read_text(encoding="utf-8")
    tree = json.loads(text)
    nbformat.validate(nbformat.from_dict(tree))
    assert (tree["nbformat"], tree["nbformat_minor"]) == (4, 5)
    assert tree["metadata"].keys() == {"accelerator", "colab", "kernelspec", "language_info"}
    ids = [cell["id"] for cell in tree["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in tree["cells"]:
        # Named by hand: an editor's random id would change the file, and links into it, at every save.
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", cell["id"]), cell["id"]
        assert cell["metadata"].keys() <= {"tags"}, f"{cell['id']}: metadata of an editor"
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [], f"{cell['id']}: outputs are not kept in the repository"
            assert cell["execution_count"] is None, cell["id"]
    assert json.dumps(tree, indent=1, ensure_ascii=False) + "\n" == text, "not in nbformat's own layout"


def test_it_has_the_sections_that_it_promises() -> None:
    told = "\n".join(cell.source for cell in cells("markdown").values())
    headings = re.findall(r"^## (\d\. .+)$", told, flags=re.MULTILINE)
    contents = re.findall(r"^\d\. .+$", cells("markdown")["title"].source, flags=re.MULTILINE)
    assert len(headings) == 9
    for heading, promised in zip(headings, contents, strict=True):
        assert promised.startswith(heading)
    assert cells()["switch"].source.startswith('MODE = "auto"')


def test_every_name_it_takes_from_the_package_is_public() -> None:
    used = set()
    for cell in cells().values():
        python = re.sub(r"^(\s*)%.*$", r"\1pass", cell.source, flags=re.MULTILINE)
        for node in ast.walk(ast.parse(python)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "dd":
                used.add(node.attr)
    assert len(used) > 12
    assert used <= set(dd.__all__)


def test_the_page_in_the_docs_is_a_copy_of_this_notebook() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for cell in nbformat.read(PATH, as_version=4).cells:
        for line in cell.source.splitlines():
            if line.startswith('MODE = "auto"'):
                line = line.replace("auto", "offline", 1)
            assert "$" in line or line in page, f"docs/notebook.md is out of date: make notebook\n{line}"
    figures = re.findall(r"!\[([^\]]+)\]\((notebook_files/[\w.-]+)\)", page)
    assert len(figures) == len(render_notebook.ALT)
    assert {alt for alt, _ in figures} == set(render_notebook.ALT.values())
    sizes = [(PAGE.parent / path).stat().st_size for _, path in figures]
    assert sum(sizes) < 600_000
    assert {PAGE.parent / path for _, path in figures} == set((PAGE.parent / "notebook_files").iterdir())
    assert "Executed in the offline setting" in page
    assert "NOTHING about real lesions" in page


def test_a_page_from_a_notebook_made_by_hand(tmp_path: Path) -> None:
    picture = io.BytesIO()
    Image.new("RGB", (2000, 500), (200, 30, 30)).save(picture, "PNG")
    board = "<iframe id='tensorboard-frame-1'></iframe>"
    outputs = [
        nbformat.v4.new_output("stream", name="stderr", text="a bar"),
        nbformat.v4.new_output("stream", name="stdout", text=f"one {sys.prefix}/lib\n"),
        nbformat.v4.new_output("display_data", {"text/html": board}),
        nbformat.v4.new_output("display_data", {"image/png": base64.b64encode(picture.getvalue()).decode()}),
        nbformat.v4.new_output("stream", name="stdout", text="two"),
    ]
    told = "# T\n\nHere $z > 0$, not `$HOME`.\n\n$$ x^2 $$"
    made = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_markdown_cell(told, id="title"),
            nbformat.v4.new_code_cell("f()", id="curves", outputs=outputs),
        ]
    )
    (tmp_path / "notebook_files").mkdir()
    (tmp_path / "notebook_files" / "old.webp").touch()
    render_notebook.write_page(made, tmp_path / "notebook.md")
    text = (tmp_path / "notebook.md").read_text(encoding="utf-8")
    assert "Here <span><math" in text
    assert "`$HOME`" in text
    assert "```math\nx^2\n```" in text
    assert text.index("# T") < text.index(render_notebook.HEAD) < text.index("```python\nf()\n```")
    assert "```text\none …/lib\ntwo\n```" in text
    assert "a bar" not in text
    assert render_notebook.BOARD in text
    assert f"![{render_notebook.ALT['curves']}](notebook_files/curves.webp)" in text
    assert [path.name for path in (tmp_path / "notebook_files").iterdir()] == ["curves.webp"]
    with Image.open(tmp_path / "notebook_files" / "curves.webp") as written:
        assert written.size == (1200, 300)


def test_a_notebook_without_its_switch_is_refused(tmp_path: Path) -> None:
    text = PATH.read_text(encoding="utf-8").replace('MODE = \\"auto\\"', "MODE = mode")
    (tmp_path / "other.ipynb").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="must set MODE once"):
        render_notebook.read(tmp_path / "other.ipynb")


# -- run from top to bottom -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """The notebook, executed offline in a folder of its own."""
    folder = tmp_path_factory.mktemp("notebook")
    notebook = render_notebook.read()
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
    assert card.teacher["fine_tuned"]
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


# -- the choice of the setting ----------------------------------------------------------------------------


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surroundings, "_gpu", lambda: "NVIDIA T4")


def refuse(*_: Any, **__: Any) -> Any:
    raise OSError("Name or service not known")


def test_without_a_gpu_it_stays_offline_and_asks_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(surroundings, "_gpu", lambda: None)
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: pytest.fail("the network was asked"))
    found = surroundings.set_up("auto", root=tmp_path)
    assert not found.real
    assert "there is no GPU" in found.to_text()


@pytest.mark.usefixtures("gpu")
def test_with_a_gpu_it_depends_on_the_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def answer(request: Any, **_: Any) -> Any:
        asked.append(request.full_url)
        assert request.get_method() == "HEAD"
        return contextlib.nullcontext()

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    found = surroundings.set_up("auto", root=tmp_path)
    assert not found.real
    assert "cannot be reached (Name or service not known)" in found.to_text()
    monkeypatch.setattr("urllib.request.urlopen", answer)
    found = surroundings.set_up("auto", root=tmp_path)
    assert found.real
    assert asked[0].endswith("ISBI2016_ISIC_Part1_Training_GroundTruth.zip")
    assert "Setting: REAL" in found.to_text()
    assert found.encoder_weights == "imagenet"
    monkeypatch.setattr("urllib.request.urlopen", refuse)
    (tmp_path / "isic2016").mkdir()
    (tmp_path / "isic2016" / "dataset.json").touch()
    found = surroundings.set_up("auto", root=tmp_path)
    assert found.real
    assert "lies prepared" in found.because


def test_a_mode_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UsageError, match="MODE is 'on'"):
        surroundings.set_up("on")  # type: ignore[arg-type]
    assert surroundings.set_up("real").real
    assert not surroundings.is_colab()


def test_the_plan_of_the_real_setting_holds(capsys: pytest.CaptureFixture[str]) -> None:
    setting = types.SimpleNamespace(real=True, encoder_weights="none")
    names = {"setting": setting, "dd": dd, "torch": torch, "RUNS": Path("runs"), "ROOT": Path("data")}
    exec(cells()["plan"].source, names)
    exec(cells()["networks"].source, names)
    assert names["DATA"] == "isic2016"
    told = capsys.readouterr().out
    assert re.search(r"teacher +DeepLabV3Plus, resnet101 +45\.67 M", told), told
    recipe = names["student_recipe"]
    assert (recipe.data.name, recipe.data.size, recipe.student.arch) == ("isic2016", 256, "small")
