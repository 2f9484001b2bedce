"""The GPU measurements, rehearsed on a CPU: what travels there and back, and the whole of it at tiny size."""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable
from pathlib import Path

import pytest

from dermdistill import cli

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def _scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def test_what_is_handed_back_can_be_taken_up_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gpu_machine

    monkeypatch.setattr(gpu_machine, "PART", 1000)
    here = argparse.Namespace(work=tmp_path / "here", out=tmp_path / "pack" / "state")
    run = here.work / "runs" / gpu_machine.STUDY
    (run / "cells/a-seed0/tensorboard").mkdir(parents=True)
    here.out.mkdir(parents=True)
    content = os.urandom(5000)
    (run / "cells/a-seed0/last.ckpt").write_bytes(content)
    (run / "cells/a-seed0/best_student_model.pth").write_bytes(content)
    gpu_machine.hand_back(here, run, "study", ("tensorboard", "cells/a-seed0/best_student_model.pth"))
    parts = sorted(here.out.iterdir())
    assert len(parts) > 5
    assert max(part.stat().st_size for part in parts) == 1000
    there = argparse.Namespace(work=tmp_path / "there", pack=tmp_path / "pack")
    there.work.mkdir()
    gpu_machine.take_back(there)
    found = there.work / "runs" / gpu_machine.STUDY / "cells/a-seed0"
    assert {path.name for path in found.iterdir()} == {"last.ckpt"}
    assert (found / "last.ckpt").read_bytes() == content


def test_a_process_and_its_workers_are_ended_together() -> None:
    import gpu_machine

    worker = "import time; time.sleep(100)"
    program = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {worker!r}])"
    process = subprocess.Popen([sys.executable, "-c", program], start_new_session=True)
    time.sleep(0.5)
    started = time.monotonic()
    gpu_machine.end(process, patience=30)
    assert time.monotonic() - started < 20
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def test_those_that_are_late_are_ended_at_once(tmp_path: Path) -> None:
    import gpu_long

    quick, slow = "pass", "import time; time.sleep(100)"
    processes = [
        subprocess.Popen([sys.executable, "-c", program], start_new_session=True)
        for program in (quick, slow, slow)
    ]
    started = time.monotonic()
    assert not gpu_long.wait(processes, started + 1.0)
    assert time.monotonic() - started < 20
    assert [process.wait() == 0 for process in processes] == [True, False, False]
    assert gpu_long.wait(processes, started)


def test_a_measurement_that_fails_is_written_down(tmp_path: Path) -> None:
    import gpu_machine

    found = gpu_machine.Results(tmp_path / "found.json", {"gpu": "none"})
    with found.measure("one"):
        raise ValueError("no memory")
    with found.measure("two"):
        found["two"] = 2.0
    written = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert written["failed"] == {"one": "ValueError: no memory"}
    assert written["two"] == 2.0


def test_the_pack_holds_the_images_that_have_a_split(tmp_path: Path) -> None:
    import gpu_pack

    for kind, end in (("images", ".jpg"), ("masks", "_segmentation.png")):
        (tmp_path / kind).mkdir()
        for name in ("A", "B"):
            (tmp_path / kind / f"{name}{end}").write_text(name, encoding="utf-8")
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("image_id,isic2016_split\nA,train\nB,\n", encoding="utf-8")
    where = (tmp_path / "out", tmp_path / "images", tmp_path / "masks")
    gpu_pack.copy_data(*where, manifest, "isic2016ids")
    found = sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.*"))
    assert found == ["images/A.jpg", "isic2016ids.csv", "masks/A_segmentation.png"]
    manifest.write_text("image_id,release_split\nA,test\nB,train\nABSENT,train\n", encoding="utf-8")
    gpu_pack.copy_data(*where, manifest, "release")
    assert (tmp_path / "out/images/B.jpg").is_file()
    for name, expected in (("isic2016ids", ["A"]), ("release", ["A", "B"])):
        with (tmp_path / f"out/{name}.csv").open(encoding="utf-8", newline="") as stream:
            assert [row["image_id"] for row in csv.DictReader(stream)] == expected


def test_verbs_are_started_as_processes(tmp_path: Path) -> None:
    import gpu_long
    import gpu_machine

    assert gpu_machine.dermdistill("--version") > 0
    with pytest.raises(RuntimeError, match="ended with 2"):
        gpu_machine.dermdistill("frobnicate")
    process = gpu_long.start(argparse.Namespace(work=tmp_path), "--version", log="told")
    assert gpu_long.wait([process], time.monotonic() + 60)
    assert (tmp_path / "long/runs/told.log").read_text(encoding="utf-8").startswith("dermdistill ")


@pytest.fixture
def rehearse(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], Path]:
    """Runs a stage at tiny size. Its verbs are run in this process: in twenty of their own, 100 s of 150
    went into importing PyTorch."""
    import gpu
    import gpu_long

    def at_once(*words: str, until: float | None = None) -> float:
        assert cli.main(list(words)) == 0
        return 0.1

    def started(options: argparse.Namespace, *words: str, log: str) -> types.SimpleNamespace:
        runs = options.work / "long" / "runs"
        runs.mkdir(parents=True, exist_ok=True)
        one_at_a_time = ["--jobs", "1"] if "--jobs" in words else []
        with contextlib.chdir(runs.parent):
            code = cli.main([*words, *one_at_a_time])
        return types.SimpleNamespace(poll=lambda: code)

    monkeypatch.setattr(gpu, "dermdistill", at_once)
    monkeypatch.setattr(gpu_long, "start", started)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    lightning = logging.getLogger("lightning.pytorch")
    monkeypatch.setattr(lightning, "level", lightning.level)  # the rates' stage quiets it

    def run(stage: str) -> Path:
        out = tmp_path / "out"
        monkeypatch.setattr("sys.argv", ["gpu.py", stage, "--tiny", "--out", str(out), "--minutes", "25"])
        gpu.main()
        return out

    return run


@pytest.mark.slow
def test_all_of_it_at_tiny_size(rehearse: Callable[[str], Path]) -> None:
    out = rehearse("all")
    rates, recipe, study, long = (
        json.loads((out / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("rates", "recipe", "study", "long")
    )
    assert not any("failed" in found for found in (rates, recipe, study, long))
    assert rates["images/s, batch 4"] > 0
    for parts in rates["compare"]["ms_per_image"].values():
        assert parts["teacher"] > 0
        assert parts["student"] > 0
    ours = rates["compare"]["ms_per_image"]["ours"]
    assert min(ours[name] for name in ("augmentation", "losses", "backward", "optimiser", "logging")) > 0
    assert set(recipe["gpu-teacher"]["seconds"]) == {"fine-tune", "distil", "evaluate"}
    assert recipe["gpu-teacher-student epochs"] == 1
    assert study["cells done"] == ["alone-seed0", "kl-seed0"]
    assert (out / "teacher.tar.gz.00").stat().st_size > 0
    assert long["in time"]
    teachers = {f"long-{kind}-{part}" for kind in ("base", "deeplab") for part in range(4)}
    assert set(long["cells"]) == {"small-crossfit-seed0", "small-seed0", "unet-w8-seed0"} | teachers
    assert (out / "long.tar.gz.00").stat().st_size > 0


@pytest.mark.slow
def test_the_study_makes_the_teacher_that_the_recipe_had_no_time_for(rehearse: Callable[[str], Path]) -> None:
    out = rehearse("study")
    found = json.loads((out / "study.json").read_text(encoding="utf-8"))
    assert "failed" not in found
    assert found["cells done"] == ["alone-seed0", "kl-seed0"]
    assert (out / "teacher.tar.gz.00").stat().st_size > 0


def test_pack_goes_alone() -> None:
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), "pack", "rates"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert "pack goes alone" in done.stderr
