"""An archive on a local cluster: a worker that dies loses no row, and the same command goes on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dermdistill import cli
from pictures import phantom

PARTITION = "part-*.parquet"


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "dermdistill", "predict", *arguments, "--engine", "ray", "--workers", "2"]


@pytest.mark.parametrize("module", ["ray", "pyarrow"])
def test_without_the_extra_it_says_so_at_once(
    module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    start = time.perf_counter()
    code = cli.main(["predict", "no-such-folder", "--engine", "ray", "--table", str(tmp_path / "t")])
    assert code == 1
    assert time.perf_counter() - start < 1
    assert "pip install 'dermdistill[cluster]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a.jpg", "--engine", "ray"], "--table"),
        (["a.jpg", "--table", "t"], "--engine ray"),
        (["a.jpg", "--engine", "ray", "--table", "t", "--tta"], "--tta"),
        (["{}/a.png", "--engine", "ray", "--table", "{}/t", "--model", "{}/run"], "no ONNX file"),
        (["{}/gone", "--engine", "ray", "--table", "{}/t"], "names no image"),
    ],
)
def test_wrong_usage(arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    pytest.importorskip("ray")
    pytest.importorskip("pyarrow")
    assert cli.main(["predict", *(a.format(tmp_path) for a in arguments)]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.slow
def test_a_killed_worker_loses_no_row_and_the_command_goes_on(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    psutil = pytest.importorskip("psutil")
    parquet = pytest.importorskip("pyarrow.parquet")
    images, table = tmp_path / "images", tmp_path / "results.parquet"
    images.mkdir()
    phantom(0).save(images / "0000.png")
    (images / "0001.png").write_bytes(b"no picture")
    for number in range(2, 1500):
        os.link(images / "0000.png", images / f"{number:04d}.png")
    with subprocess.Popen(command(str(images), "--table", str(table))) as run:
        while not list(table.glob(PARTITION)):
            assert run.poll() is None
            time.sleep(0.1)
        workers = [
            process
            for process in psutil.Process(run.pid).children(recursive=True)
            if process.name().startswith("ray::MapWorker")
        ]
        assert len(workers) == 2
        workers[0].kill()
        assert run.wait(300) == 1  # one picture is broken
    found = parquet.read_table(table).to_pydict()
    assert sorted(Path(path).name for path in found["path"]) == [f"{n:04d}.png" for n in range(1500)]
    failed = [path for path, error in zip(found["path"], found["error"], strict=True) if error]
    assert [Path(path).name for path in failed] == ["0001.png"]

    # A partition gone, as if it had been stopped: the same command makes it anew and leaves the others.
    partitions = {path: path.stat().st_mtime_ns for path in table.glob(PARTITION)}
    gone = sorted(partitions)[0]
    gone.unlink()
    again = subprocess.run(command(str(images), "--table", str(table)), check=False)
    assert again.returncode in (0, 1)
    now = {path: path.stat().st_mtime_ns for path in table.glob(PARTITION)}
    assert now.keys() == partitions.keys()
    assert [path for path in now if now[path] != partitions[path]] == [gone]

    # Other pictures do not mix with these.
    shutil.rmtree(images)
    images.mkdir()
    phantom(1).save(images / "other.png")
    refused = subprocess.run(
        command(str(images), "--table", str(table)),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert refused.returncode == 2
    assert "of other pictures" in refused.stderr
