"""benchmarks/frontier.py, tiny: what it writes, what it refuses, and that Dice is that of ``evaluate``."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from dermdistill.benchmark.latency import Latency
from dermdistill.data.prepare.prepare import prepare_phantom
from dermdistill.metrics.intervals import Interval

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
PEER = """
import torch
from neighbour import CHANNELS


class Peer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        print("what a factory prints is no result")
        self.layer = torch.nn.Conv2d(CHANNELS, 1, 3, stride=2, padding=1)

    def forward(self, image):
        return [self.layer(image), "auxiliary"]


class TwoClasses(torch.nn.Conv2d):
    def __init__(self):
        super().__init__(3, 2, 1)
"""
# As the published files are: they import what is not there, and answer probabilities.
PUBLISHED = """
import torch
from einops import rearrange
from mmcv.cnn import ConvModule
from utils import *


class MALUNet(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.final = torch.nn.Conv2d(3, 1, 3, stride=2, padding=1)

    def forward(self, x):
        out = self.final(x)
        out = torch.nn.functional.interpolate(out, scale_factor=2, mode="bilinear", align_corners=True)
        return (torch.sigmoid(3 * out),), torch.sigmoid(out)
"""


@pytest.fixture
def frontier(monkeypatch, tmp_path):
    """Its ``main`` with arguments, in an empty folder."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.chdir(tmp_path)
    Path("peer.py").write_text(PEER, encoding="utf-8")
    Path("neighbour.py").write_text("CHANNELS = 3\n", encoding="utf-8")
    import frontier as module

    def call(*arguments: str) -> int:
        quick = ["--size", "64", "--rounds", "2", "--repeats", "2"]
        monkeypatch.setattr(sys, "argv", ["frontier", *quick, *arguments])
        return module.main()

    return call


def test_table_and_figure(frontier, tiny_run, tmp_path, capsys):
    from dermdistill.evaluation.evaluate import evaluate

    prepare_phantom(tmp_path, count=20, size=64, name="phantom", progress=False)
    code = frontier(
        "--model", "nano", "--module", "peer.py:Peer", "--run", str(tiny_run),
        "--run", f"twice={tiny_run},{tiny_run}", "--baseline", "nano", "--threads", "1", "2",
        "--quoted", "Peer=55.5", "--label", "Peer=A peer", "--line", "tiny,twice",
        "--data.name", "own", "--data.root", str(tmp_path), "--out", "out/found",
    )  # fmt: skip
    assert code == 0
    assert "no result" not in capsys.readouterr().out
    report = json.loads(Path("out/found.json").read_text(encoding="utf-8"))
    rows = {row["name"]: row for row in report["rows"]}
    assert list(rows) == ["nano", "A peer", "tiny", "twice"]
    assert [rows["nano"]["latency"][key]["ratio"] for key in ("1x1", "2x1")] == [1.0, 1.0]
    peer = rows["A peer"]
    assert peer["parameters"] == 3 * 9 + 1
    assert peer["macs"] == 3 * 9 * 32 * 32
    assert peer["latency"]["1x1"]["calls"] == 4
    assert peer["latency"]["1x1"]["median_ms"] < rows["nano"]["latency"]["1x1"]["median_ms"]
    assert rows["nano"]["dice"] is None
    assert (peer["dice"], peer["quoted"]) == (None, 55.5)
    own = shutil.copytree(tiny_run, tmp_path / "own")  # its card will hold the scores
    summary = evaluate(own, data="phantom", root=tmp_path, out=tmp_path / "scored", progress=False)
    expected = summary.scores["dice_per_image_mean"].mean
    assert rows["tiny"]["dice"]["mean"] == pytest.approx(expected, abs=1e-6)
    assert rows["tiny"]["dice"]["n"] == 4
    assert rows["twice"]["dice"] == rows["tiny"]["dice"]
    assert rows["twice"]["seeds"] == 2
    assert set(report["pareto"]) <= {"tiny", "twice"}
    table = Path("out/found.md").read_text(encoding="utf-8")
    assert table.count("\n") == 6
    assert "55.50 (quoted)" in table
    assert "2 seeds" in table
    assert Path("out/found.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--module", "nowhere.py:Peer"], "no Python file 'nowhere.py'"),
        (["--module", "peer.py:Pear"], "one of Peer, TwoClasses"),
        (["--module", "peer.py:TwoClasses"], "one logit per pixel"),
        (["--model", "nano", "--model", "nano"], "names are not unique"),
        (["--model", "nanno"], "Perhaps you meant nano"),
        (["--model", "nano", "--line", "nanno"], "there is no network 'nanno'"),
    ],
)
def test_wrong_arguments(frontier, arguments, message, capsys):
    assert frontier(*arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [["--quoted", "nano"], ["--clock", "cpu", "--threads", "2"], ["--realtime", "0", "--threads", "2"], []],
)
def test_wrong_usage(frontier, arguments):
    with pytest.raises(SystemExit) as raised:
        frontier(*(arguments and ["--model", "nano", *arguments]))
    assert raised.value.code == 2


def test_a_run_is_timed_at_its_own_size(frontier, tiny_run):
    assert frontier("--run", str(tiny_run), "--baseline", "tiny", "--size", "96", "--threads", "1") == 0
    (row,) = json.loads(Path("frontier.json").read_text(encoding="utf-8"))["rows"]
    assert row["size"] == 64
    assert not Path("frontier.png").exists()


def test_seeds_are_of_one_network(frontier, tiny_run, tmp_path, capsys):
    import torch

    from dermdistill.core.files import hash_file
    from dermdistill.models.build import build_model

    other = shutil.copytree(tiny_run, tmp_path / "other")
    torch.save(build_model("nano").net.state_dict(), other / "best_student_model.pth")
    card = json.loads((other / "card.json").read_text(encoding="utf-8"))
    card |= {
        "model": build_model("nano").spec.to_dict(),
        "weights_sha256": hash_file(other / card["weights"]),
    }
    (other / "card.json").write_text(json.dumps(card), encoding="utf-8")
    assert frontier("--run", f"both={tiny_run},{other}") == 1
    assert "not seeds of one network" in capsys.readouterr().err


def row_of(module, name: str, ms: float, dice: float | None, quoted: float | None = None):
    interval = None if dice is None else Interval(dice, dice - 0.01, dice + 0.01, 9)
    return module.Row(name, 1, 1, 64, {"1x1": Latency(ms, ms, 1, 1.0)}, interval, 1, quoted)


def test_frontier_is_what_nothing_beats(frontier):
    import frontier as module

    rows = [
        row_of(module, "slow, good", 3, 0.92),
        row_of(module, "quick", 1, 0.90),
        row_of(module, "worse and slower", 2, 0.89),
        row_of(module, "only quoted", 0.5, None, 99),
        row_of(module, "no Dice", 0.1, None),
    ]
    assert [found.name for found in module.pareto(rows)] == ["quick", "slow, good"]


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="real-time priority is root's, on Linux"
)
def test_real_time_is_given_back(frontier):
    import frontier as module

    before = os.sched_getaffinity(0)
    with module.real_time([min(before)]):
        assert os.sched_getscheduler(0) == os.SCHED_FIFO
        assert os.sched_getaffinity(0) == {min(before)}
    assert os.sched_getscheduler(0) == os.SCHED_OTHER
    assert os.sched_getaffinity(0) == before


def test_labels_stand_apart(frontier):
    import frontier as module
    from frontier_figure import figure_of

    rows = [row_of(module, f"network {i}", 1.0 + i / 3, 0.9 + i / 5000) for i in range(5)]
    figure = figure_of(rows, "crowded", ["network 0", "network 4"])
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len(boxes) == 5
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_peers_are_run_from_clones(frontier, monkeypatch, capsys):
    import peers
    import torch

    monkeypatch.setenv("PEERS", "clones")
    assert frontier("--module", f"{BENCHMARKS}/peers.py:malunet") == 2
    assert "benchmarks/README.md" in capsys.readouterr().err
    Path("clones/MALUNet/models").mkdir(parents=True)
    Path("clones/MALUNet/models/malunet.py").write_text(PUBLISHED, encoding="utf-8")
    net, image = peers.malunet().eval(), torch.rand(1, 3, 16, 16)
    with torch.inference_mode():
        np.testing.assert_allclose(net(image).sigmoid(), net.net(image)[1], rtol=1e-6)
    assert "mmcv" not in sys.modules
    assert "utils" not in sys.modules
