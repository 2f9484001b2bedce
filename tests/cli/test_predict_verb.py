"""``dermdistill predict`` as a user types it, on an ONNX file and without torch."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from dermdistill import cli
from dermdistill.data.prepare.phantom import make_phantom


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A clean photo and a blurred, dark one."""
    folder = tmp_path / "photos"
    folder.mkdir()
    image = Image.fromarray(make_phantom(3, 4, 256).image)
    image.save(folder / "clean.jpg", quality=95)
    dark = (np.asarray(image.filter(ImageFilter.GaussianBlur(4))) * 0.3).astype(np.uint8)
    Image.fromarray(dark).save(folder / "dark.png")
    return folder


def test_results_are_those_that_were_asked_for(
    photos: Path, tiny_onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    asked = ["--outputs", "mask,geojson,coco,csv", "--mm-per-pixel", "0.05", "--threads", "1"]
    assert cli.main(["predict", str(photos), "--model", str(tiny_onnx), "--out", str(out), *asked]) == 0
    told = capsys.readouterr()
    lines = [json.loads(line) for line in told.out.splitlines()]
    assert [Path(line["path"]).name for line in lines] == ["clean.jpg", "dark.png"]
    assert {"blur", "underexposed"} <= {warning["code"] for warning in lines[1]["warnings"]}
    assert "dark.png: blur: The picture" in told.err
    assert "2 of 2 images segmented" in told.err
    assert {path.name for path in out.iterdir()} == {
        "clean_mask.png", "dark_mask.png", "clean.geojson", "dark.geojson", "coco.json", "coco.jsonl",
        "predictions.csv", "predictions.jsonl",
    }  # fmt: skip
    with (out / "predictions.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    for row, line in zip(rows, lines, strict=True):
        assert float(row["area_mm2"]) == pytest.approx(line["measures"]["area_px"] * 0.05**2, abs=1e-4)
        assert row["warnings"].split() == [warning["code"] for warning in line["warnings"]]


def test_a_reader_that_goes_away_does_not_stop_the_work(
    photos: Path, tiny_onnx: Path, tmp_path: Path
) -> None:
    for number in range(6):
        (photos / f"more{number}.jpg").write_bytes((photos / "clean.jpg").read_bytes())
    out = tmp_path / "out"
    command = f"dermdistill predict {photos} --model {tiny_onnx} --out {out} --outputs mask"
    code = f"import sys; from dermdistill import cli; sys.exit(cli.main({command.split()[1:]!r}))"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f'"{sys.executable}" -c "$CODE" | head -1'],
        env={**os.environ, "CODE": code}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout)["path"].endswith("clean.jpg")
    assert "8 of 8 images segmented" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr
    assert len(list(out.glob("*_mask.png"))) == 8


def test_resume_leaves_out_what_is_there(
    photos: Path, tiny_onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--model", str(tiny_onnx), "--out", str(tmp_path / "out"), "--workers", "2", "--resume"]
    assert cli.main(["predict", str(photos / "clean.jpg"), *asked]) == 0
    capsys.readouterr()
    assert cli.main(["predict", str(photos), *asked]) == 0
    told = capsys.readouterr()
    assert [Path(json.loads(line)["path"]).name for line in told.out.splitlines()] == ["dark.png"]
    assert "1 of 2 images segmented" in told.err
    assert "1 there already" in told.err
    lines = (tmp_path / "out" / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    assert [Path(json.loads(line)["path"]).name for line in lines] == ["clean.jpg", "dark.png"]


def test_an_outline_is_drawn_tighter_or_wider(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = {}
    for outline in ("tight", "-5", "normal", "wide"):
        out = ["--out", str(tmp_path / outline), "--outputs", "mask"]
        assert cli.main(["predict", str(photos / "clean.jpg"), f"--outline={outline}", *out]) == 0
        lines[outline] = json.loads(capsys.readouterr().out)
    areas = [line["area_fraction"] for line in lines.values()]
    assert areas == sorted(areas)
    assert areas[0] < areas[2] < areas[3]
    assert lines["normal"]["threshold"] == 0.5
    assert lines["tight"]["threshold"] == pytest.approx(1 / (1 + np.exp(-1)))
    again = ["predict", str(photos), "--outline=wide", "--out", str(tmp_path / "tight"), "--resume"]
    assert cli.main(again) == 2
    assert "another model or outline" in capsys.readouterr().err


def test_strict_makes_a_warning_fail_and_writes_all_the_same(
    photos: Path, tiny_onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dark = str(photos / "dark.png")
    model = ["--model", str(tiny_onnx)]
    assert cli.main(["predict", dark, *model, "--out", str(tmp_path / "a")]) == 0
    assert cli.main(["predict", dark, *model, "--out", str(tmp_path / "b"), "--strict"]) == 1
    first, second = capsys.readouterr().out.splitlines()
    assert json.loads(first)["warnings"] == json.loads(second)["warnings"] != []
    assert {p.name for p in (tmp_path / "a").iterdir()} == {p.name for p in (tmp_path / "b").iterdir()}


def test_views_tell_their_disagreement(photos: Path, tiny_onnx: Path, tmp_path: Path) -> None:
    asked = ["--tta", "--outputs", "uncertainty", "--model", str(tiny_onnx), "--out", str(tmp_path / "out")]
    assert cli.main(["predict", str(photos / "clean.jpg"), *asked]) == 0
    (line,) = (tmp_path / "out" / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    assert 0 <= json.loads(line)["uncertainty"] <= 1
    with Image.open(json.loads(line)["uncertainty_map"]) as drawn:
        assert drawn.size == (256, 256)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--outputs", "masks"], "Perhaps you meant 'mask'"),
        (["--outputs", "uncertainty"], "--tta"),
        (["--mm-per-pixel", "0"], "impossible"),
        (["--threads", "0"], "0 threads"),
        (["--batch-size", "0"], "--batch-size is 0"),
        (["--outline", "slim"], "--outline is slim"),
        (["--outline", "31"], "wider by 31"),
        (["--outline", "nan"], "wider by nan"),
        (["--workers", "0"], "--workers is 0"),
        (["--workers", "many"], "--workers is many"),
    ],
)
def test_wrong_usage_ends_with_2(
    more: list[str], words: str, photos: Path, tiny_onnx: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    asked = ["--model", str(tiny_onnx), "--out", str(tmp_path / "out"), *more]
    assert cli.main(["predict", str(photos), *asked]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_no_model_ends_with_1(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["predict", str(photos), "--model", str(photos / "dark.png")]) == 1
    told = capsys.readouterr().err
    assert "not an ONNX model" in told
    assert "Traceback" not in told


def test_predicting_imports_no_torch(photos: Path, tiny_onnx: Path, tmp_path: Path) -> None:
    asked = [
        "predict",
        str(photos),
        "--model",
        str(tiny_onnx),
        "--out",
        str(tmp_path / "out"),
        "--outputs",
        "all",
    ]
    code = (
        f"import sys; from dermdistill import cli; code = cli.main({asked!r});"
        "heavy = {'torch', 'lightning', 'kornia', 'matplotlib', 'scipy', 'onnx'} & set(sys.modules);"
        "assert not heavy, heavy; sys.exit(code)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.slow
def test_a_large_photograph_is_quick_and_takes_little_memory(tiny_onnx: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    small = Image.fromarray(make_phantom(3, 4, 256).image).resize((6000, 4000), Image.Resampling.BICUBIC)
    noise = rng.integers(-6, 7, (4000, 6000, 1), dtype=np.int16)
    noisy = np.clip(np.asarray(small, dtype=np.int16) + noise, 0, 255).astype(np.uint8)
    Image.fromarray(noisy).save(tmp_path / "large.jpg", quality=90)
    code = """
import json, resource, sys, time
from pathlib import Path
from dermdistill.inference.folder import predict_files
from dermdistill.inference.predictor import Predictor
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
predictor = Predictor(sys.argv[1], threads=1)
predictor.backend(__import__("numpy").zeros((1, 3, 64, 64), "float32"))
before, start = peak(), time.process_time()
predictor(Path(sys.argv[2])).to_json()
alone = peak() - before, time.process_time() - start
list(predict_files(predictor, [Path(sys.argv[2])], Path(sys.argv[3])))
print(json.dumps([*alone, peak() - before]))
"""
    arguments = [str(tiny_onnx), str(tmp_path / "large.jpg"), str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True
    )
    alone, seconds, written = json.loads(done.stdout)
    assert alone < 250
    assert written < 400
    assert seconds < 2  # of processor time, whatever else runs beside it
