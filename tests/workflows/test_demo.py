"""The demo at a tiny size: everything that it says it made is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from dermdistill.core.errors import UsageError
from dermdistill.workflows.demo import run_demo


def test_the_demo_ends_with_a_table_and_the_places_of_what_it_made(tmp_path: Path) -> None:
    told = run_demo(tmp_path / "demo", count=12, size=32, epochs=1, progress=False)
    for arm, parameters in (("teacher", "1,942,577"), ("student alone", "122,093"), ("distilled", "122,093")):
        row = rf"^{arm} +{parameters} +\d+\.\d\d \(\d+\.\d\d to \d+\.\d\d\) +\d+\.\d\d$"
        assert re.search(row, told, flags=re.MULTILINE), told
    places = dict(re.findall(r"^(\w+): +(/\S+)$", told, flags=re.MULTILINE))
    assert {"report", "figures", "predictions", "student"} <= places.keys()
    assert all(Path(place).exists() for place in places.values())
    assert Path(places["student"]).name == "best_student_model.pth"
    torch.load(places["student"], weights_only=True)
    assert (Path(places["report"]) / "summary.json").is_file()
    assert list(Path(places["predictions"]).glob("*_mask.png"))


def test_the_demo_replaces_an_earlier_one_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(UsageError, match="other things"):
        run_demo(tmp_path, count=12, size=32, epochs=1, progress=False)
    assert (tmp_path / "thesis.txt").is_file()
