"""The notebook: kept clean, copied into the documentation, its setting chosen by what is at hand."""

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

import nbformat
import pytest
import torch
from PIL import Image
from tools import render_notebook

import dermdistill as dd
from dermdistill.cli import notebook as surroundings
from dermdistill.core.errors import UsageError
from notebookfile import PATH, cells

PAGE = Path(__file__).parents[2] / "docs" / "notebook.md"
pytestmark = pytest.mark.timeout(1800)  # minutes alone, more beside others


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
    headings = re.findall(r"^## (\d+\. .+)$", told, flags=re.MULTILINE)
    contents = re.findall(r"^\d+\. .+$", cells("markdown")["title"].source, flags=re.MULTILINE)
    assert len(headings) == 10
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


# -- the installation ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("working", "tried", "told"),
    [
        (["dermdistill[train]"], 1, "Installed the published package."),
        (["dermdistill[train] @ git+R"], 2, "Installed from R."),
        (["./dermdistill-1-py3-none-any.whl[train]"], 3, "Installed dermdistill-1-py3-none-any.whl."),
        ([], 3, "all three ways failed"),
    ],
)
def test_on_colab_it_is_installed_in_one_of_three_ways_and_says_which(
    working: list[str], tried: int, told: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    asked: list[str] = []

    def pip(command: list[str], **_: Any) -> Any:
        asked.append(command[-1])
        assert command[:4] == [sys.executable, "-m", "pip", "install"]
        return types.SimpleNamespace(returncode=command[-1] not in working, stderr="a\nERROR: not there\n")

    colab = types.ModuleType("google.colab")
    colab.files = types.SimpleNamespace(upload=lambda: {"dermdistill-1-py3-none-any.whl": b""})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "google", types.ModuleType("google"))
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("subprocess.run", pip)
    try:
        exec(cells()["install"].source, {"REPOSITORY": "R"})
        end = ""
    except RuntimeError as error:
        end = str(error)
    printed = capsys.readouterr().out
    assert len(asked) == tried
    assert told in printed + end
    assert printed.count("ERROR: not there") == tried - len(working)


def test_elsewhere_nothing_is_installed_unasked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("subprocess.run", None)  # would be called to install
    exec(cells()["install"].source, {})
    assert "nothing to do" in capsys.readouterr().out
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match="Install it first"):
        exec(cells()["install"].source, {})


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
