"""The report: nothing unescaped, in any format."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from dermdistill.core import markup
from dermdistill.core.files import hash_file
from dermdistill.data.dataset import open_dataset, write_manifest
from dermdistill.report import write_report
from htmlpage import Page
from reportfiles import StudyMaker, write_audit

HOSTILE = "<img src=x onerror=alert(1)>&\"'$x_1$ \\input{a} | # %"


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
    assert markup.latex(plain) == escaped


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
    assert markup.markdown(plain) == escaped
