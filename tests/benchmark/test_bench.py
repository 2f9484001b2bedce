"""The bench: right counts, interleaved times, fresh processes, a table, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dermdistill import cli
from dermdistill.benchmark import benchmark as bench
from dermdistill.benchmark import latency, results
from dermdistill.benchmark.cold_start import resident_peak_mb
from dermdistill.benchmark.latency import Setting, interleave
from dermdistill.core.errors import DermDistillError, MissingExtraError, UsageError
from dermdistill.data.prepare.prepare import prepare_phantom
from dermdistill.export import quantization
from dermdistill.export.onnx_tensors import graph_cost
from dermdistill.models import onnx_graph
from dermdistill.models.build import build_model
from dermdistill.models.complexity import count_macs

FACTORY = """
import torch
def tiny():
    torch.manual_seed(0)
    return torch.nn.Conv2d(3, 1, 3, padding=1)
def nothing():
    return 5
"""


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("bench") / "net.onnx"
    onnx_graph.trace(build_model("unet-w4"), path, 32)
    return path


@pytest.fixture
def module_file(tmp_path: Path) -> str:
    path = tmp_path / "mine.py"
    path.write_text(FACTORY, encoding="utf-8")
    return f"{path}:tiny"


@pytest.mark.parametrize(
    ("arch", "encoder"), [("unet-w4", None), ("nano", None), ("FPN", "tu-mobilenetv3_small_050")]
)
def test_a_graph_costs_what_the_network_costs(arch: str, encoder: str | None, tmp_path: Path) -> None:
    net = build_model(arch, encoder).eval()
    path, small = tmp_path / "net.onnx", tmp_path / "net.int8.onnx"
    onnx_graph.trace(net, path, 64)
    parameters, macs = graph_cost(path, 64)
    # As it is exported: our students' kernels are a row and a column larger, so that they pad evenly.
    assert macs == count_macs(onnx_graph.ExportNet(net, 64), 64)
    # Folding a batch norm turns its two vectors into one bias.
    assert parameters == pytest.approx(sum(p.numel() for p in net.parameters()), rel=0.06)
    if arch == "unet-w4":
        images = np.random.default_rng(0).random((2, 3, 64, 64), dtype=np.float32)
        quantization.quantise_once(path, small, images, quantization.Step(""))
        assert graph_cost(small, 64) == (parameters, macs)


def test_networks_take_turns_and_ratios_are_to_the_first() -> None:
    order: list[str] = []

    def opened(name: str, seconds: float) -> Any:
        def run(image: np.ndarray) -> None:
            assert image.shape == (2, 3, 8, 8)
            order.append(name)
            time.sleep(seconds)

        return lambda threads: run

    found = interleave(
        {"a": opened("a", 0.002), "b": opened("b", 0.008)},
        {"a": 8, "b": 8},
        settings=(Setting(1, 2),),
        rounds=3,
        progress=False,
    )
    assert order == ["a"] * 4 + ["b"] * 4 + ["a"] * 4 + ["b"] * 4 + ["a"] * 4 + ["b"] * 4
    assert found["a"]["1x2"].ratio == 1
    assert 1.5 < found["b"]["1x2"].ratio < 12  # sleep takes longer on a busy machine
    assert found["b"]["1x2"].median_ms >= 8
    assert found["b"]["1x2"].calls == 6
    assert found["b"]["1x2"].p95_ms >= found["b"]["1x2"].median_ms


def test_onnx_and_torch_side_by_side_with_dice_and_figure(
    onnx_file: Path, module_file: str, tiny_run: Path, tmp_path: Path
) -> None:
    root = tmp_path / "data"
    prepare_phantom(root, count=10, size=64, seed=7, progress=False)
    rows = bench.bench_models(
        [str(tiny_run), module_file], size=64, data="phantom", root=root, rounds=2, repeats=1, out=tmp_path,
        progress=False,
    )  # fmt: skip
    report = json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))
    tiny, mine = report["models"]
    assert mine["parameters"] == 3 * 9 + 1
    assert mine["macs"] == 64 * 64 * 27
    assert list(tiny["latency"]) == ["1x1", "2x1", "1x8", "2x8"]
    assert 0 < tiny["cold_start"]["load_seconds"] < tiny["cold_start"]["seconds"]
    assert tiny["cold_start"]["peak_mb"] > 50
    assert tiny["dice"]["mean"] > mine["dice"]["mean"]
    with Image.open(tmp_path / "dice_latency.png") as picture:
        assert picture.size[0] > 800
    text = results.to_text(rows)
    assert "ratio" in text
    assert "Dice" in text


def test_onnx_files_need_no_torch(onnx_file: Path, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "sys.modules['torch'] = sys.modules['onnx'] = sys.modules['matplotlib'] = None\n"
        "from dermdistill.benchmark import benchmark as bench, results\n"
        "import importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name in ('torch', 'onnx') else find(name, *rest)\n"
        f"rows = bench.bench_models([{str(onnx_file)!r}], rounds=1, repeats=1, progress=False)\n"
        "print(results.to_text(rows)); print(rows[0].cold.peak_mb)\n"
        f"try: bench.open_candidate({str(tmp_path)!r})\n"
        "except Exception as error: print(type(error).__name__)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "net" in done.stdout
    assert done.stdout.splitlines()[-1] == "MissingExtraError"
    assert float(done.stdout.splitlines()[-2]) > 20


def test_the_peak_is_this_process_own() -> None:
    code = "from dermdistill.benchmark.cold_start import resident_peak_mb as p; print(p())"
    held = np.ones(60_000_000)  # 480 MB in this process, none of which is the child's
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    mine = resident_peak_mb()
    assert mine is not None
    assert float(told) < 200 < held.nbytes / 1e6 < mine


def test_a_process_that_fails_says_why() -> None:
    with pytest.raises(DermDistillError, match="cannot be run in a process of its own"):
        latency.cold_start(["nowhere.onnx", "32"], repeats=1)


def test_what_is_refused(onnx_file: Path, module_file: str, tmp_path: Path) -> None:
    for model, told in (
        ("nowhere", "does not exist"), ("nowhere.onnx", "does not exist"), ("nowhere.py:f", "no Python file"),
        (module_file.replace(":tiny", ":nothing"), "returns int"),
        (module_file[:-4] + "absent", "no function"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=told):
            bench.open_candidate(model)
    with pytest.raises(UsageError, match="takes images of 32×32 only"):
        bench.open_candidate(str(onnx_file), 64)
    with pytest.raises(UsageError, match="one name"):
        bench.bench_models([str(onnx_file), str(onnx_file)], progress=False)
    assert cli.main(["bench", str(onnx_file), "--rounds", "0"]) == 2
    assert issubclass(MissingExtraError, DermDistillError)


def test_the_command(onnx_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["bench", str(onnx_file), "--rounds", "1", "--repeats", "1", "--out", str(tmp_path), "--json"]
    assert cli.main(arguments) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["engine"] == "onnxruntime"
    assert found["bytes"] == onnx_file.stat().st_size
    assert (tmp_path / "bench.json").is_file()
