"""The report: the same numbers in every format, nothing fetched, nothing unescaped, nothing made up."""

from __future__ import annotations

import csv
import html.parser
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dermdistill import cli
from dermdistill.data.dataset import open_dataset, write_manifest
from dermdistill.data.prepare import prepare_phantom
from dermdistill.errors import DataError, MismatchError, UsageError
from dermdistill.files import hash_file
from dermdistill.report import latex, markdown, write_report
from reportfiles import StudyMaker

HOSTILE = "<img src=x onerror=alert(1)>&\"'$x_1$ \\input{a} | # %"
VOID = {"meta", "img", "br", "link", "input"}


class Page(html.parser.HTMLParser):
    """What a browser would see: elements, what they fetch, ids, and the text."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.handlers: list[str] = []
        self.text = ""
        self.feed(source)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for key, value in attrs:
            if key in ("src", "href", "xlink:href", "action", "poster", "srcset"):
                self.links.append(value or "")
            elif key == "id":
                self.ids.append(value or "")
            elif key.startswith("on"):
                self.handlers.append(key)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "title"} & set(self.open):
            self.text += data


def write_audit(folder: Path, first: str, second: str) -> Path:
    """What `dermdistill audit` leaves: one pair that crosses, one official overlap."""
    folder.mkdir(parents=True)
    where = {
        "from": "phantom/train",
        "to": "phantom/test",
        "level": "near-duplicate",
        "leak": True,
        "pairs": 1,
    }
    overlap = {"set": "isic2017", "split": "train", "challenge": "isic2016", "official_split": "test"}
    found = {
        "leaks": 1,
        "images": [{"set": "phantom", "split": "train", "count": 900}],
        "table": [{**where, "pairs": 1}],
        "official": [{**overlap, "count": 305, "of": 379, "warning": True}],
    }
    (folder / "audit.json").write_text(json.dumps(found), encoding="utf-8")
    sides = {"a": (first, "phantom", "train"), "b": (second, "phantom", "test")}
    row = {
        f"{name}_{s}": v
        for s, values in sides.items()
        for name, v in zip(("image", "set", "split"), values, strict=True)
    }
    row |= {"crosses": "yes", "level": "near-duplicate", "kind": "features", "score": "41", "mirrored": "no"}
    with (folder / "audit.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(row))
        writer.writeheader()
        writer.writerow(row)
    Image.new("RGB", (1600, 800)).save(folder / "pairs.png")
    return folder


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return StudyMaker(tmp_path_factory.mktemp("report"), images=60).write()


@pytest.fixture(scope="module")
def written(study: Path) -> dict[str, Any]:
    """The report of the study: text by format, and JSON read again."""
    paths = write_report(study)
    found: dict[str, Any] = {
        path.suffix[1:]: path.read_text(encoding="utf-8") for path in paths if path.parent.name == "report"
    }
    return {**found, "data": json.loads(found["json"]), "paths": paths}


def cells(written: dict[str, Any], names: tuple[str, ...]) -> list[str]:
    return [
        cell
        for table in written["data"]["tables"]
        if table["name"] in names
        for row in table["rows"]
        for cell in row
    ]


def test_all_formats_print_the_same_numbers(written: dict[str, Any]) -> None:
    page = Page(written["html"])
    shown = cells(written, ("main", "comparisons", "scores", "strata"))
    assert len(shown) > 100
    for cell in shown:
        assert cell in page.text
        assert markdown.text(cell, inside=True) in written["md"]
        assert latex.text(cell) in written["tex"]
    for cell in cells(written, ("runs", "settings")):
        assert cell in page.text
        assert markdown.text(cell, inside=True) in written["md"]


def test_the_numbers_are_those_of_the_study(study: Path, written: dict[str, Any]) -> None:
    told = json.loads((study / "study.json").read_text(encoding="utf-8"))
    arms = {arm["name"]: arm for arm in written["data"]["arms"]}
    for arm in told["arms"]:
        for name, value in arm["scores"].items():
            assert arms[arm["arm"]]["scores"][name]["mean"] == value["mean"]
    kl = next(c for c in told["comparisons"] if c["arm"] == "kl")["metrics"]["dice"]
    assert arms["kl"]["differences"]["dice"]["low"] == kl["low"]
    sign = "−" if kl["mean"] < 0 else "+"
    row = next(row for row in written["data"]["tables"][0]["rows"] if row[0] == "kl")
    assert row[6].startswith(f"{sign}{abs(100 * kl['mean']):.2f} (")
    assert row[7] == ("< 0.001" if kl["p_holm"] < 0.001 else f"{kl['p_holm']:.3f}")
    assert row[1:4] == ["482,193", "312 M", "1.93 MB"]


def test_the_page_says_everything_it_should(written: dict[str, Any]) -> None:
    page = Page(written["html"])
    assert (
        page.text.index("Does distillation help?")
        < page.text.index(written["data"]["headline"])
        < page.text.index("Results")
    )
    for part in (
        "results",
        "figures",
        "pictures",
        "comparisons",
        "strata",
        "runs",
        "settings",
        "audit-result",
        "data",
        "repeat",
        "versions",
        "missing",
    ):
        assert part in page.ids, part
    for name in ("val-dice", "val-agreement", "distribution", "teacher-student", "reliability", "strata"):
        assert any(i.startswith(f"{name}-") for i in page.ids), name
    assert "human against human (other images)" in page.text
    assert "human–human 86.85" in page.text
    assert "dermdistill study phantom" in page.text
    assert "dermdistill prepare phantom" in page.text
    assert "say nothing about real lesions" in page.text
    assert "The leak audit" in page.text
    assert page.text.count("most gained over alone") == 1


def test_the_page_is_one_file_and_fetches_nothing(written: dict[str, Any]) -> None:
    source = written["html"]
    page = Page(source)
    assert "script" not in page.tags
    assert page.handlers == []
    assert "http:" not in source
    assert "https:" not in source
    assert "@import" not in source
    pictures = [link for link in page.links if link.startswith("data:image/webp;base64,")]
    assert len(pictures) >= 12
    inside = [link for link in page.links if link not in pictures]
    assert all(link.startswith("#") and link[1:] in page.ids for link in inside), inside
    assert len(page.ids) == len(set(page.ids))
    assert all(f'"{i}"' in source for i in re.findall(r"url\(#([^)]+)\)", source))
    assert sum(map(len, pictures)) < 600_000
    assert len(source) < 1_200_000


def test_light_dark_and_print_are_there(written: dict[str, Any]) -> None:
    source = written["html"]
    assert "@media screen and (prefers-color-scheme: dark)" in source
    assert "@media print" in source
    drawn = "".join(re.findall(r"<svg.*?</svg>", source, re.S))
    assert "var(--ink)" in drawn
    assert "var(--series-1)" in drawn
    assert "#fe0" not in drawn, "a placeholder colour was left"
    assert "DejaVu" not in drawn
    svg = next(path for path in written["paths"] if path.suffix == ".svg").read_text(encoding="utf-8")
    assert svg.startswith('<svg xmlns="http://www.w3.org/2000/svg"')
    assert "prefers-color-scheme: dark" in svg
    assert 'style="fill: var(--ground)"' in svg
    assert sum(path.suffix == ".pdf" for path in written["paths"]) == sum(
        p.suffix == ".svg" for p in written["paths"]
    )


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    maker = StudyMaker(
        tmp_path,
        images=60,
        seeds=1,
        name=HOSTILE,
        arms={"teacher": ("teacher-phantom", 2), "alone": ("student-phantom", 20), HOSTILE: ("phantom", 24)},
    )
    rows = [
        replace(row, image_id=f"{i}{HOSTILE}", diagnosis=HOSTILE) for i, row in enumerate(maker.data.manifest)
    ]
    folder = tmp_path / "data" / "phantom"
    write_manifest(folder / "manifest.csv", rows)
    info = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    info["manifest_sha256"] = hash_file(folder / "manifest.csv")
    (folder / "dataset.json").write_text(json.dumps(info), encoding="utf-8")
    maker.data = open_dataset("phantom", tmp_path / "data", maker.size)
    audit = write_audit(tmp_path / "audit", HOSTILE, HOSTILE)
    study = maker.write(
        question=HOSTILE, commands=[HOSTILE, "```"], versions={HOSTILE: HOSTILE}, missing=[HOSTILE]
    )
    write_report(study, audit=audit, out=tmp_path / "out")
    source = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    page = Page(source)
    assert page.handlers == []
    assert "script" not in page.tags
    assert "<img src=x" not in source
    assert page.text.count("<img src=x onerror=alert(1)>") > 30
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    outside = re.sub(r"(`{3,})sh\n.*?\n\1", "", text, flags=re.S)
    assert "<img" not in outside
    assert not re.search(r"(?<!\\)\$x", outside)
    for block in re.findall(r"(?:^\|.*\n)+", outside, re.M):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1, block
    tex = (tmp_path / "out" / "report.tex").read_text(encoding="utf-8")
    assert "\\input{a}" not in tex
    if shutil.which("pdflatex"):
        subprocess.run(
            ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "report.tex"],
            cwd=tmp_path / "out",
            check=True,
            capture_output=True,
        )


@pytest.mark.parametrize(
    ("plain", "escaped"),
    [
        ("a_b", "a\\_b"),
        ("50 % & more", "50 \\% \\& more"),
        ("\\input{/etc/passwd}", "\\textbackslash{}input\\{/etc/passwd\\}"),
        ("−1 ≥ x", "\\ensuremath{-}1 \\ensuremath{\\geq} x"),
        ("中", "[U+4E2D]"),
        ("two\nlines", "two lines"),
        ("é", "é"),
    ],
)
def test_latex_text(plain: str, escaped: str) -> None:
    assert latex.text(plain) == escaped


@pytest.mark.parametrize(
    ("plain", "escaped"),
    [
        ("a|b", "a\\|b"),
        ("<b>", "&lt;b&gt;"),
        ("[a](b)", "\\[a\\]\\(b)"),
        ("*x*", "\\*x\\*"),
        ("val_dice", "val_dice"),
        ("+0.42 (−0.10 to +0.94)", "\\+0.42 (−0.10 to +0.94)"),
        ("# x", "\\# x"),
    ],
)
def test_markdown_text(plain: str, escaped: str) -> None:
    assert markdown.text(plain) == escaped


def test_an_unfinished_study_compares_nothing(tmp_path: Path) -> None:
    study = StudyMaker(tmp_path, images=30, seeds=2).write(with_table=False)
    shutil.rmtree(study / "cells" / "kl-seed1" / "evaluation")
    write_report(study, formats=["json"])
    found = json.loads((study / "report" / "report.json").read_text(encoding="utf-8"))
    assert [arm["name"] for arm in found["arms"]] == ["teacher", "alone", "kl", "kl-cw"]
    assert all(not arm["differences"] for arm in found["arms"])
    assert any("kl-seed1" in line for line in found["missing"])
    assert any("study.json" in line for line in found["missing"])
    assert "comparisons" not in [table["name"] for table in found["tables"]]
    means = {arm["name"]: arm["scores"]["dice"] for arm in found["arms"]}
    assert means["alone"]["n"] == 6
    assert 0 < means["alone"]["low"] < means["alone"]["mean"] < means["alone"]["high"] <= 1


def test_a_run_has_its_teacher_beside_it(study: Path, tmp_path: Path) -> None:
    run = study / "cells" / "kl-seed0"
    write_report(run, out=tmp_path)
    found = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert found["kind"] == "run"
    assert [arm["name"] for arm in found["arms"]] == ["teacher-seed0", "kl-seed0"]
    assert found["headline"].startswith("kl-seed0 scores a Dice of ")
    assert any("trained alone" in line for line in found["missing"])
    source = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page(source)
    assert {"figures", "pictures", "strata"} <= set(page.ids)
    assert any(line.startswith("dermdistill distill ") for line in found["commands"])


def test_a_run_without_evaluation_names_what_is_missing(study: Path, tmp_path: Path) -> None:
    run = tmp_path / "lonely"
    shutil.copytree(
        study / "cells" / "alone-seed0", run, ignore=shutil.ignore_patterns("evaluation", "finished")
    )
    write_report(run, out=tmp_path / "out")
    found = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert found["headline"] == "Nothing has been evaluated yet."
    assert any(f"dermdistill evaluate {run}" in line for line in found["missing"])
    assert any("not finished" in line for line in found["missing"])
    page = Page((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    assert "pictures" not in page.ids
    assert "Validation Dice while learning" in page.text


def test_pictures_fall_back_to_the_sheet_and_say_so(study: Path, tmp_path: Path) -> None:
    run = tmp_path / "alone"
    shutil.copytree(study / "cells" / "alone-seed0", run)
    evaluation = run / "evaluation" / "phantom-test"
    (evaluation / "masks.npz").write_bytes(b"no archive")
    write_report(run, formats=["html"])
    text = Page((run / "report" / "report.html").read_text(encoding="utf-8")).text
    assert "masks.npz cannot be read" in text
    Image.new("RGB", (60, 40)).save(evaluation / "cases.png")
    write_report(run, formats=["html"])
    page = Page((run / "report" / "report.html").read_text(encoding="utf-8"))
    assert sum(link.startswith("data:image/webp") for link in page.links) == 1
    assert "single pictures" in page.text


def test_an_audit_is_found_beside_the_data_and_shown(study: Path, tmp_path: Path) -> None:
    folder = write_audit(study.parent / "data" / "phantom" / "audit", "A1", "B2")
    try:
        write_report(study, out=tmp_path, formats=["html", "json"])
    finally:
        shutil.rmtree(folder)
    text = Page((tmp_path / "report.html").read_text(encoding="utf-8")).text
    assert "1 pair among 900 images crosses from training into validation or test. Within phantom: 1." in text
    assert "A1 (phantom train)" in text
    assert "The first pairs, side by side." in text
    assert "hold 305 of the 379 isic2016 test images" in text
    missing = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["missing"]
    assert not any("audit" in line for line in missing)


def test_what_train_and_evaluate_really_write_is_read(tmp_path: Path) -> None:
    from dermdistill import evaluation, training
    from dermdistill.config import load_recipe

    prepare_phantom(tmp_path / "data", count=20, size=32, name="phantom", progress=False)
    overrides = {
        "name": "real",
        "runs_root": str(tmp_path / "runs"),
        "data.root": str(tmp_path / "data"),
        "data.size": 32,
        "trainer.epochs": 1,
        "trainer.accelerator": "cpu",
    }
    run = training.train(load_recipe("student-phantom", overrides), progress=False)
    summary = evaluation.evaluate(run, progress=False)
    write_report(run, formats=["html", "json"])
    found = json.loads((run / "report" / "report.json").read_text(encoding="utf-8"))
    assert found["arms"][0]["scores"]["dice"]["mean"] == summary.scores["dice_per_image_mean"].mean
    assert found["arms"][0]["macs"] > 0
    assert found["arms"][0]["size_bytes"] == (run / "best_student_model.pth").stat().st_size
    assert {s["name"] for s in found["strata"]} >= {"Diagnosis", "Lesion size"}
    page = Page((run / "report" / "report.html").read_text(encoding="utf-8"))
    assert sum(link.startswith("data:image/webp") for link in page.links) == 12
    assert any(i.startswith("reliability-") for i in page.ids)


def test_seeds_on_different_images_are_refused(study: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(study, copy)
    path = copy / "cells" / "kl-seed1" / "evaluation" / "phantom-test" / "per_image.csv"
    path.write_text(path.read_text(encoding="utf-8").replace("PHANTOM_", "OTHER_"), encoding="utf-8")
    with pytest.raises(MismatchError, match="different images"):
        write_report(copy)


def test_broken_files_are_named(study: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(study, copy)
    told = json.loads((copy / "study.json").read_text(encoding="utf-8"))
    told["arms"][1]["scores"]["dice"]["mean"] = "high"
    (copy / "study.json").write_text(json.dumps(told), encoding="utf-8")
    with pytest.raises(DataError, match=r"arms\.1\.scores\.dice\.mean"):
        write_report(copy)
    shutil.rmtree(copy / "cells" / "kl-seed0" / "evaluation")
    shutil.copy(study / "study.json", copy / "study.json")
    with pytest.raises(DataError, match=r"summary\.json"):
        write_report(copy)
    with pytest.raises(UsageError, match="neither a run nor a study"):
        write_report(tmp_path)


def test_the_verb(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", str(study), "--out", str(tmp_path), "--format", "md,json"]) == 0
    assert [Path(line).name for line in capsys.readouterr().out.splitlines()] == ["report.md", "report.json"]
    assert cli.main(["report", str(study), "--format", "docx"]) == 2
    assert "There is no format docx" in capsys.readouterr().err
    assert cli.main(["report", str(tmp_path / "nowhere")]) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert cli.main(["report", str(study / "cells" / "kl-seed0"), "--on", "isic-test"]) == 2
    assert "phantom-test" in capsys.readouterr().err


def test_no_network_library_is_imported(study: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from dermdistill.report import write_report;"
        f"write_report(Path({str(study)!r}), out=Path({str(tmp_path)!r}), formats=['html']);"
        "assert not {'torch', 'onnxruntime'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
