"""benchmarks/frontier.py, tiny: what it writes, what it refuses, and that Dice is that of ``evaluate``."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from dermdistill.data.prepare import prepare_phantom

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
PEER = """
import torch


class Peer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 1, 3, stride=2, padding=1)

    def forward(self, image):
        return [self.layer(image), "auxiliary"]


class TwoClasses(torch.nn.Conv2d):
    def __init__(self):
        super().__init__(3, 2, 1)
"""


@pytest.fixture
def frontier(monkeypatch, tmp_path):
    """Its ``main`` with arguments, in an empty folder."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.chdir(tmp_path)
    Path("peer.py").write_text(PEER, encoding="utf-8")
    import frontier as module

    def call(*arguments: str) -> int:
        quick = ["--size", "64", "--threads", "1", "--rounds", "2", "--repeats", "2"]
        monkeypatch.setattr(sys, "argv", ["frontier", *quick, *arguments])
        return module.main()

    return call


def test_table_and_figure(frontier, tiny_run, tmp_path):
    from dermdistill.evaluation import evaluate

    prepare_phantom(tmp_path, count=20, size=64, name="few", progress=False)
    code = frontier(
        "--model", "nano", "--module", "peer.py:Peer", "--run", str(tiny_run), "--baseline", "nano",
        "--data.name", "few", "--data.root", str(tmp_path), "--out", "out/found",
    )  # fmt: skip
    assert code == 0
    report = json.loads(Path("out/found.json").read_text(encoding="utf-8"))
    rows = {row["name"]: row for row in report["rows"]}
    assert list(rows) == ["nano", "Peer", "tiny"]
    assert rows["nano"]["ratio"] == 1.0
    assert rows["Peer"]["parameters"] == 3 * 9 + 1
    assert rows["Peer"]["macs"] == 3 * 9 * 32 * 32
    assert rows["Peer"]["median_ms"] < rows["nano"]["median_ms"]
    assert rows["nano"]["dice"] is None
    assert rows["Peer"]["dice"] is None
    own = shutil.copytree(tiny_run, tmp_path / "own")  # its card will hold the scores
    summary = evaluate(own, data="few", root=tmp_path, out=tmp_path / "scored", progress=False)
    assert rows["tiny"]["dice"] == pytest.approx(100 * summary.scores["dice_per_image_mean"].mean, abs=1e-6)
    assert rows["tiny"]["images"] == 4
    assert report["pareto"] == ["tiny"]
    assert Path("out/found.md").read_text(encoding="utf-8").count("\n") == 5
    assert Path("out/found.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--module", "nowhere.py:Peer"], "no file 'nowhere.py'"),
        (["--module", "peer.py:Pear"], "one of Peer, TwoClasses"),
        (["--module", "peer.py:TwoClasses"], "one logit per pixel"),
        (["--model", "nano", "--model", "nano"], "names are not unique"),
        (["--model", "nanno"], "perhaps you meant nano"),
    ],
)
def test_wrong_arguments(frontier, arguments, message, capsys):
    assert frontier(*arguments) == 2
    assert message in capsys.readouterr().err


def test_another_input_size_is_refused(frontier, tiny_run, capsys):
    assert frontier("--run", str(tiny_run), "--size", "96") == 1
    assert "give --size 64" in capsys.readouterr().err


def test_frontier_is_what_nothing_beats(frontier):
    import frontier as module

    def row(name: str, ms: float, dice: float | None) -> module.Row:
        return module.Row(name, "run", 1, 1, ms, ms, ms, 1.0, dice)

    rows = [
        row("slow, good", 3, 92),
        row("quick", 1, 90),
        row("worse and slower", 2, 89),
        row("no Dice", 0, None),
    ]
    assert [found.name for found in module.pareto(rows)] == ["quick", "slow, good"]
