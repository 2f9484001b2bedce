"""The headline claims a gain for the method only where the trainings agree on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from dermdistill.report import write_report
from reportfiles import StudyMaker


@pytest.mark.parametrize(
    ("over_seeds", "begins"),
    [
        (None, "Distillation helped with this one seed: "),
        ({"low": -0.008, "high": 0.014, "df": 2.0}, "Distillation helped in these trainings, and more seeds"),
        ({"low": 0.001, "high": 0.014, "df": 9.0}, "Distillation helped: "),
    ],
)
def test_a_gain_is_of_the_trainings_or_of_the_method(
    over_seeds: dict[str, float] | None, begins: str, tmp_path: Path
) -> None:
    folder = StudyMaker(tmp_path / "study", images=20).write()
    path = folder / "study.json"
    told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for entry in told["comparisons"]:
        entry["verdict"] = "gain"
        entry["metrics"]["dice"]["over_seeds"] = over_seeds
    path.write_text(json.dumps(told), encoding="utf-8")
    write_report(folder, out=tmp_path / "out", formats=("json",))
    found = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert found["headline"].startswith(begins)


def test_the_lead_of_another_network_is_not_distillations(tmp_path: Path) -> None:
    folder = StudyMaker(tmp_path / "study", images=20).write()
    path = folder / "study.json"
    told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for entry in told["comparisons"]:
        entry["verdict"] = "gain" if entry["arm"] == "kl" else "no gain"
    path.write_text(json.dumps(told), encoding="utf-8")

    def headline() -> str:
        write_report(folder, out=tmp_path / "out", formats=("json",))
        found = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
        return str(found["headline"])

    assert headline().startswith("Distillation helped")
    for config in (folder / "cells").glob("kl-seed*/config.yaml"):
        values = yaml.safe_load(config.read_text(encoding="utf-8"))
        values["student"]["arch"] = "base"
        config.write_text(yaml.safe_dump(values), encoding="utf-8")
    assert (
        headline()
        == "No gain was measured: no distilled arm of the same network scored above alone beyond chance."
    )
