"""The report: the same numbers in every format, nothing fetched, nothing made up."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dermdistill import cli
from dermdistill.core import markup
from dermdistill.report import write_report
from htmlpage import Page


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
    shown = cells(written, ("main", "comparisons", "scores", "subgroups"))
    assert len(shown) > 100
    for cell in shown:
        assert cell in page.text
        assert markup.markdown(cell, inside=True) in written["md"]
        assert markup.latex(cell) in written["tex"]
    for cell in cells(written, ("runs", "settings")):
        assert cell in page.text
        assert markup.markdown(cell, inside=True) in written["md"]


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
        "subgroups",
        "runs",
        "settings",
        "audit-result",
        "data",
        "repeat",
        "versions",
        "missing",
    ):
        assert part in page.ids, part
    for name in ("val-dice", "val-agreement", "distribution", "teacher-student", "reliability", "subgroups"):
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


def test_a_difference_is_bold_where_it_is_told_from_zero(study: Path, tmp_path: Path) -> None:
    copy = tmp_path / "study"
    shutil.copytree(study, copy)
    path = copy / "study.json"
    stated = json.loads(path.read_text(encoding="utf-8"))
    for comparison in stated["comparisons"]:
        clear = comparison["arm"] == "kl"
        comparison["metrics"]["dice"] |= {
            "mean": 0.0123, "low": 0.0101 if clear else -0.01, "high": 0.02, "p_holm": 0.001,
        }  # fmt: skip
    path.write_text(json.dumps(stated), encoding="utf-8")
    write_report(copy, out=tmp_path / "out", formats=("html", "md", "tex"))
    shown = {form: (tmp_path / "out" / f"report.{form}").read_text("utf-8") for form in ("html", "md", "tex")}
    told, not_told = "+1.23 (+1.01 to +2.00)", "+1.23 (−1.00 to +2.00)"
    for form, bold in (("html", "<b>{}</b>"), ("md", "**{}**"), ("tex", r"\textbf{{{}}}")):
        assert bold.format(told) in shown[form]
        assert (
            bold.format(not_told.replace("−", r"\ensuremath{-}" if form == "tex" else "−")) not in shown[form]
        )
