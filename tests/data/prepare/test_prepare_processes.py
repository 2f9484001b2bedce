"""Prepare in processes of its own: killed without warning, and two at a time."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from dermdistill.data.dataset import open_dataset
from dermdistill.data.prepare.folders import prepare_folder
from smallfiles import write_pairs

SCRIPT = """
import json, logging, sys, time
from pathlib import Path
from dermdistill.data.prepare import packing
from dermdistill.data.prepare.folders import prepare_folder
logging.basicConfig(level=logging.INFO, stream=sys.stderr)
folder, pause = Path(sys.argv[1]), float(sys.argv[2])
packing.CHUNK = 4
original = packing.open_picture
def slow(path, **how):
    time.sleep(pause)
    return original(path, **how)
packing.open_picture = slow
data = prepare_folder("own", folder / "data", folder / "images", folder / "masks", size=32, progress=False)
print(json.dumps(data.fingerprint))
"""


def start(folder: Path, pause: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(folder), str(pause)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_a_killed_process_leaves_work_that_the_next_call_takes_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_pairs(tmp_path, 24)
    log = tmp_path / "data" / "own" / "pack-32.partial" / "records.jsonl"
    process = start(tmp_path, 0.05)
    try:
        deadline = time.monotonic() + 60
        while not (log.exists() and log.read_text().count("\n") > 4):
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "data" / "own" / "dataset.json").exists()
    with caplog.at_level("INFO"):
        data = prepare_folder(
            "own", tmp_path / "data", tmp_path / "images", tmp_path / "masks", size=32, progress=False
        )
    assert "going on after" in caplog.text
    whole = prepare_folder(
        "own", tmp_path / "other", tmp_path / "images", tmp_path / "masks", size=32, progress=False
    )
    np.testing.assert_array_equal(data.images, whole.images)
    np.testing.assert_array_equal(data.masks, whole.masks)
    assert data.fingerprint == whole.fingerprint


def test_two_processes_prepare_one_data_set_once(tmp_path: Path) -> None:
    write_pairs(tmp_path, 12)
    processes = [start(tmp_path, 0.05) for _ in range(2)]
    outputs = [process.communicate(timeout=120) for process in processes]
    errors = "".join(error for _, error in outputs)
    assert [process.returncode for process in processes] == [0, 0], errors
    assert errors.count("is ready") == 1
    assert errors.count("nothing to do") == 1
    fingerprints = {json.loads(output) for output, _ in outputs}
    assert fingerprints == {open_dataset("own", tmp_path / "data", 32).fingerprint}


def test_the_shared_images_give_the_expected_counts(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "isic2017-256"
    data = prepare_folder(
        name="isic2016ids-256",
        root=tmp_path,
        images=folder / "images",
        masks=folder / "masks",
        manifest=folder / "manifest.csv",
        split_column="isic2016_split",
        size=256,
        progress=False,
    )
    counts = {split: len(data.indices(split)) for split in ("train", "val", "test")}
    assert counts == {"train": 637, "val": 112, "test": 305}
    # 144 of the 749 training images are malignant: the same share of the 112.
    malignant = [row.split for row in data.manifest if row.diagnosis == "malignant"]
    assert (malignant.count("train"), malignant.count("val"), malignant.count("test")) == (122, 22, 63)
    assert not any(data.info["unmatched"].values())
    assert set(np.unique(data.masks)) == {0, 1}
    # The masks are 256×256 already: the pack holds them as they are.
    for index in (0, 500, 1053):
        np.testing.assert_array_equal(data.masks[index], data.native_mask(index))
