"""What a trial is, how the command line is run in one, and what counts as lost."""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

PATIENCE = 10.0
"""Seconds without a sign of life that are a hang, where a verb says something for each piece of work."""
START = 120.0
"""The same where PyTorch has to be imported and an epoch trained before anything can be said."""
MEMORY = 3 * 1024
"""MiB of memory that no verb may take for a small task."""


@dataclass(frozen=True)
class Trial:
    """One thing that was tried; ``lost`` says what went wrong, and is empty where it survived."""

    kind: str
    name: str
    lost: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    code: int
    out: str
    err: str
    seconds: float
    hung: bool
    peak: float
    """MiB."""

    def problems(self, codes: Iterable[int] = (0, 1, 2)) -> list[str]:
        """What no command may do, whatever it is given."""
        found = []
        if self.hung:
            found.append("hang")
        elif self.code < 0:
            found.append(f"died of {signal.Signals(-self.code).name}")
        elif self.code not in codes:
            found.append(f"exit code {self.code}: {self.err.strip()[-300:]}")
        if "Traceback (most recent call last)" in self.err:
            found.append(f"traceback: {self.err.strip().splitlines()[-1][:200]}")
        if "\x1b" in self.out + self.err:
            found.append("escape codes on the terminal")
        if self.peak > MEMORY:
            found.append(f"{self.peak:.0f} MiB of memory")
        return found


HEAVY = ("train", "distill", "evaluate", "export", "study", "report", "figure", "demo", "bench", "audit")
"""Verbs that begin by importing PyTorch for seconds: those are started by `warm`."""


class Process:
    """``dermdistill WORDS`` in a process of its own; what it says goes to files beside its working folder.

    Args:
        product: What is run.
        words: After ``dermdistill``.
        cwd: Its working folder; it is made.
        limit: Most bytes of a file that it writes; 0: as many as the system allows.
        warm: Whether PyTorch is imported already; None: for the verbs that need it.
    """

    def __init__(
        self,
        product: Product,
        words: Iterable[object],
        cwd: Path,
        *,
        limit: int = 0,
        warm: bool | None = None,
    ) -> None:
        texts = [str(word) for word in words]
        cwd.mkdir(parents=True, exist_ok=True)
        number = len(list(cwd.glob("said-*.err")))
        self.logs = [cwd / f"said-{number}.out", cwd / f"said-{number}.err"]
        self.warm = product.warm() if (texts[0] in HEAVY if warm is None else warm) else None
        self.began = time.monotonic()
        if self.warm is not None:
            order = {"words": texts, "cwd": str(cwd), "limit": limit}
            order |= {"out": str(self.logs[0]), "err": str(self.logs[1])}
            self.warm.stdin.write(json.dumps(order) + "\n")
            self.warm.stdin.flush()
            self.pid = int(self.warm.stdout.readline())
            return
        command = [sys.executable, "-m", "dermdistill", *texts]
        with self.logs[0].open("wb") as out, self.logs[1].open("wb") as err:
            self.plain = subprocess.Popen(
                command, cwd=cwd, env=product.environment, stdout=out, stderr=err, stdin=subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip
        self.pid = self.plain.pid
        if limit:
            resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (limit, limit))

    def ends_within(self, seconds: float) -> bool:
        """Wait so long for its end."""
        if self.warm is not None:
            return bool(select.select([self.warm.stdout], [], [], seconds)[0])
        until = time.monotonic() + seconds
        while os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            if time.monotonic() > until:
                return False
            time.sleep(0.01)
        return True

    def end(self, patience: float) -> Ended:
        """Wait for its end, or end it where it is silent for ``patience`` seconds."""
        size, heard, hung = -1, time.monotonic(), False
        while not self.ends_within(0.1):
            now = sum(path.stat().st_size for path in self.logs)
            if now != size:
                size, heard = now, time.monotonic()
            elif time.monotonic() - heard > patience:
                os.killpg(self.pid, signal.SIGKILL)
                hung = True
        if self.warm is not None:
            code, peak = json.loads(self.warm.stdout.readline())
        else:
            _, status, usage = os.wait4(self.pid, 0)
            self.plain.returncode = code = os.waitstatus_to_exitcode(status)
            peak = usage.ru_maxrss
        out, err = (path.read_bytes().decode(errors="surrogateescape") for path in self.logs)
        return Ended(code, out, err, time.monotonic() - self.began, hung, peak / 1024)


class Product:
    """The source tree that is tried; in a ``with`` block, which ends what it started."""

    def __init__(self, src: Path) -> None:
        self.src = src
        self.environment = os.environ | {"PYTHONPATH": str(src), "OMP_NUM_THREADS": "1"}
        self._warm: subprocess.Popen[str] | None = None

    def __enter__(self) -> Product:
        return self

    def __exit__(self, *_: object) -> None:
        if self._warm is not None:
            self._warm.communicate("")

    def run(
        self, *words: object, cwd: Path, patience: float = PATIENCE, limit: int = 0, warm: bool | None = None
    ) -> Ended:
        """Run ``dermdistill WORDS`` to its end."""
        return Process(self, words, cwd, limit=limit, warm=warm).end(patience)

    def warm(self) -> Any:
        """The process that forks those with PyTorch in them; started by the first that needs it."""
        if self._warm is None:
            self._warm = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("warm.py"))],
                env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            assert self._warm.stdout is not None
            self._warm.stdout.readline()
        return self._warm


def broken_files(folder: Path) -> Iterator[str]:
    """Files below ``folder`` that are there under their final names and cannot be read whole."""
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        unfinished = any(part.endswith(".partial") for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden and not unfinished:
            try:
                _read_whole(path)
            except Exception as error:
                yield f"broken {path.relative_to(folder)}: {str(error).splitlines()[0][:100]}"


def _read_whole(path: Path) -> None:
    match path.suffix:
        case ".json" | ".geojson":
            json.loads(path.read_text(encoding="utf-8"))
        case ".jsonl":  # grows line by line: the last line may be cut
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines()[:-1]:
                json.loads(line)
        case ".yaml":
            yaml.safe_load(path.read_text(encoding="utf-8"))
        case ".png" | ".jpg":
            Image.open(path).load()
        case ".npy":
            np.load(path, mmap_mode="r", allow_pickle=False)
        case ".pth" | ".ckpt":
            import torch

            torch.load(path, map_location="cpu", weights_only=True)
        case ".onnx":
            import onnx

            onnx.load(path)
        case ".html":
            if "</html>" not in path.read_text(encoding="utf-8")[-20:]:
                raise ValueError("does not end")
        case ".csv" | ".md" | ".tex":
            if not path.read_text(encoding="utf-8").endswith("\n"):
                raise ValueError("does not end with a line")
