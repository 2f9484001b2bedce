"""The report of what is there: unfinished studies, single runs, audits; broken files are named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from dermdistill.core.errors import DataError, MismatchError, UsageError
from dermdistill.data.prepare.prepare import prepare_phantom
from dermdistill.report import write_report
from htmlpage import Page
from reportfiles import StudyMaker, write_audit


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
    assert {"figures", "pictures", "subgroups"} <= set(page.ids)
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
    from dermdistill.config import load_recipe
    from dermdistill.evaluation import evaluate as evaluation
    from dermdistill.training import run as training

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
    assert {s["name"] for s in found["subgroups"]} >= {"Diagnosis", "Lesion size"}
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
