"""Every fenced block of the documentation is tried: by its language, in a copy of a small laboratory.

========  ==================================================================================================
sh        each command: run, or held against the real parser (``commands.HOW``, and ``HOW`` below)
python    run, page by page; a text block that follows it directly is its output, and is compared;
          with title="FILE" it is written to that file, which the commands after it name
yaml      read as a recipe or a study, with ranges
js        read by node (``--check``), where there is one
math      converted when the site is built (test_docs_site.py)
text      not tried: output, files, trees
========  ==================================================================================================
"""

from __future__ import annotations

import argparse
import contextlib
import io
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from fastapi.testclient import TestClient

from commands import HOW as README
from commands import (
    REPOSITORY,
    SMALL,
    STUDENT,
    Block,
    Elsewhere,
    How,
    Parse,
    Run,
    blocks,
    commands,
    make_lab,
    try_command,
)
from dermdistill import cli
from dermdistill.config import parse_recipe
from dermdistill.core.errors import ConfigError
from dermdistill.core.files import write_csv
from dermdistill.data.prepare.phantom import make_phantom, write_phantoms
from dermdistill.inference.predictor import Predictor
from dermdistill.serve.app import make_app
from dermdistill.study.settings import parse_study
from dicomfiles import write_dicom

DOCS = REPOSITORY / "docs"
NOTEBOOK = DOCS / "notebook.md"  # executed as a whole by tests/test_notebook_run.py
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md") if path != NOTEBOOK)
LANGUAGES = ("sh", "python", "yaml", "js", "math", "text")


def _curl(words: list[str]) -> None:
    """Ask the app itself what the command would ask a server."""
    parser = argparse.ArgumentParser()
    for flags in (["--data-binary"], ["-o"], ["-F"]):
        parser.add_argument(*flags, dest=flags[0].strip("-").replace("-", "_"))
    parser.add_argument("-H", action="append", default=[])
    parser.add_argument("url")
    asked = parser.parse_args(words[1:])
    headers = dict(header.split(": ", 1) for header in asked.H)
    url = urlsplit(asked.url)
    with TestClient(make_app(Predictor()), base_url=f"{url.scheme}://{url.netloc}") as client:
        target = f"{url.path}?{url.query}"
        if asked.F:
            name, file = asked.F.split("=@")
            answer = client.post(target, files={name: Path(file).read_bytes()}, headers=headers)
        else:
            data = Path(asked.data_binary.removeprefix("@")).read_bytes()
            answer = client.post(target, content=data, headers=headers)
    assert answer.status_code == 200, answer.text


README_DOES = "the README's test runs it"
HOW: dict[str, How] = {
    **README,
    "curl": Elsewhere(_curl),
    # The shipped student calls a generated lesion strange, as it should: --strict then answers 1.
    "dermdistill predict new-pictures": Parse("with the file that calibrate would have written"),
    "dermdistill train student-alone --data.name ours --name ours-styles": Parse("as the next"),
    "dermdistill predict photo.jpg --model runs/ours-styles": Parse(
        "tests/training/test_style_training.py runs it"
    ),
    "dermdistill export runs/ours-styles": Parse("tests/training/test_style_training.py runs it"),
    "dermdistill predict /data/pictures --engine ray": Parse("its own tests run it"),
    "dermdistill predict photo.jpg --strict": Parse("a generated lesion is warned of"),
    "dermdistill predict photo.jpg --model runs/study": Parse("its own tests run it"),
    "dermdistill train": Parse(README_DOES),
    "dermdistill train student-alone --student.encoder-weights package:": Run(SMALL),
    "dermdistill distill": Parse(README_DOES),
    "dermdistill distill isic2016 --data.name ours --name ours-distilled": Run(
        (*SMALL, *STUDENT, "--teacher.recipe", "teacher-phantom")
    ),
    "dermdistill evaluate": Parse(README_DOES),
    "dermdistill evaluate --images": Run(),
    "dermdistill evaluate --predictions": Parse("its own tests run it"),
    "dermdistill compare": Parse("its own tests run it"),
    "dermdistill evaluate runs/ours-distilled": Run(),
    "dermdistill export runs/ours-distilled": Run(("--precisions", "fp32")),
    "dermdistill export runs/isic2016-student-distilled": Run(("--precisions", "fp32")),
    "dermdistill export runs/isic2016-student-distilled --targets": Parse("large optional libraries"),
    "dermdistill export runs/isic2016-student-distilled --precisions": Parse("run on another page"),
    "dermdistill train student-alone --student.arch my_net.py:": Run(SMALL),
    **{
        f"dermdistill distill isic2016 --{flag}": Run((*SMALL, *more, "--teacher.recipe", "teacher-phantom"))
        for flag, more in {
            "student.arch my_net.py:": (),
            "teacher.onnx": STUDENT,
            "teacher.transformers": STUDENT,
            "teacher.maps": STUDENT,
            "kd.extra": STUDENT,
        }.items()
    },
    "dermdistill train teacher-cpu --teacher.arch my_net.py:": Run(SMALL),
    "dermdistill distill isic2016 --teacher runs/my-teacher": Run((*SMALL, *STUDENT)),
    "dermdistill evaluate runs/mine": Run(),
    "dermdistill export runs/mine": Run(("--precisions", "fp32")),
    "dermdistill bench my_net.py:TinyNet": Run(("--rounds", "1", "--repeats", "1")),
    "dermdistill audit isic2016 isic2017 --out audit": Run(),
    "dermdistill prepare own --images images --masks masks --test-images test-images --test-masks test-masks "
    "--name ours-clean": Parse("it leaves out what an audit found; its own tests run it"),
    "tensorboard": Elsewhere(lambda words: None),  # the README's test looks for the events
    "mlflow ui": Elsewhere(lambda words: None),  # a page of MLflow's full package
    "wandb sync": Elsewhere(lambda words: None),  # to an account
    "docker": Elsewhere(lambda words: None),  # test_delivery_image.py reads them
}


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages take for granted: data, folders, tables, a student's run."""
    folder = tmp_path_factory.mktemp("laboratory")
    make_lab(folder)
    write_phantoms(folder / "unseen", 4, 64, seed=13)
    write_dicom(folder / "lesion.dcm", make_phantom(13, 0, 64).image, PixelSpacing=[0.05, 0.05])
    for kind in ("images", "masks"):
        shutil.copytree(folder / "unseen" / kind, folder / f"test-{kind}")
    for mask in sorted((folder / "masks").iterdir())[:3]:
        for person in (1, 2):
            target = folder / "annotators" / f"{mask.stem.partition('_Seg')[0]}_Segmentation_{person}.png"
            target.parent.mkdir(exist_ok=True)
            shutil.copy(mask, target)
    ids = [path.stem for path in sorted((folder / "images").glob("*.jpg"))]
    rows = [
        {"image_id": name, "patient_id": f"p{place // 2}", "split": "test" if place > 5 else "train",
         "diagnosis": "nevus"}
        for place, name in enumerate(ids)
    ]  # fmt: skip
    write_csv(folder / "manifest.csv", rows, ["image_id", "patient_id", "split", "diagnosis"])
    with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()):
        small = [*SMALL, *STUDENT, "--name", "isic2016-student-distilled"]
        assert cli.main(["train", "student-alone", *small]) == 0
    return folder


def try_shell(block: Block) -> None:
    for command in commands(block.text):
        errors = io.StringIO()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(errors):
            code = try_command(command, HOW)
        assert code == 0, f"line {block.line}: {command}\n{errors.getvalue()}"


def try_python(page: str, block: Block, names: dict[str, Any], output: str | None) -> None:
    told = io.StringIO()
    # Line numbers of the page, so that a traceback points into it.
    code = compile("\n" * block.line + block.text, f"docs/{page}", "exec")
    with contextlib.redirect_stdout(told):
        exec(code, names)
    if output is not None:
        assert told.getvalue() == output, f"{page}, line {block.line}: another output than the page shows"


def try_yaml(block: Block) -> None:
    tree = yaml.safe_load(block.text)
    (parse_study if "arms" in tree else parse_recipe)(tree, f"line {block.line}")


def try_javascript(block: Block, folder: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("NO NODE: the JavaScript of this page was NOT read")
    file = folder / "block.mjs"
    file.write_text(block.text, encoding="utf-8")
    done = subprocess.run([node, "--check", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"line {block.line}:\n{done.stderr}"


def test_every_page_is_looked_at() -> None:
    assert len(PAGES) > 20
    held = {block.language for page in PAGES for block in blocks((DOCS / page).read_text(encoding="utf-8"))}
    assert held == set(LANGUAGES), "a block of a language that nobody tries, or none of one"


@pytest.mark.parametrize(
    "page", [page for page in PAGES if "```" in (DOCS / page).read_text(encoding="utf-8")]
)
def test_every_block_of_the_page(
    page: str, laboratory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = list(blocks((DOCS / page).read_text(encoding="utf-8")))
    if {block.language for block in found} - {"text", "math"}:
        shutil.copytree(laboratory, tmp_path / "lab")
        monkeypatch.chdir(tmp_path / "lab")
    names: dict[str, Any] = {"__name__": "page"}
    for block, after in zip(found, [*found[1:], None], strict=True):
        match block.language:
            case "sh":
                try_shell(block)
            case "python" if block.title:
                Path(block.title).write_text(block.text, encoding="utf-8")
            case "python":
                shown = after is not None and after.language == "text" and not after.follows
                try_python(page, block, names, after.text if shown and after else None)
            case "yaml":
                try_yaml(block)
            case "js":
                try_javascript(block, tmp_path)


@pytest.mark.parametrize(
    ("block", "problem"),
    [
        ("```sh\ndermdistill predict photo.jpg --colour red\n```\n", "2"),
        ("```sh\ndermdistill predict no-such-photo.jpg\n```\n", "names no image"),
        ("```python\nprint(1 + 1)\n```\n\n```text\n3\n```\n", "another output"),
        ("```yaml\nname: x\nkd: {temperature: 0}\n```\n", "greater than 0"),
    ],
)
def test_a_wrong_block_is_found(block: str, problem: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo.jpg").write_bytes(b"")
    first, *after = blocks(block)
    tries = {
        "sh": lambda: try_shell(first),
        "python": lambda: try_python("x.md", first, {}, after[0].text),
        "yaml": lambda: try_yaml(first),
    }
    with pytest.raises((AssertionError, ConfigError, SystemExit), match=problem):
        tries[first.language]()
