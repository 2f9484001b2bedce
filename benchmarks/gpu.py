"""All of the GPU measurements, on a machine without a network; one H100 in mind.

``pack`` (here, with the network) fills a folder that travels to the machine; the other stages run there and
leave JSON, and what a later call needs, under ``--out``:

    python benchmarks/gpu.py pack --images DIR --masks DIR --manifest CSV [--release CSV] [--out .gpu]

prints the commands to type. On any CPU, in two minutes or so, ``--tiny`` goes the same ways on phantoms:

    python benchmarks/gpu.py all --tiny --out OUT

rates   images per second: the notebook's plain loop and our trainer in turns with a DeepLabV3+ ResNet-101
        teacher (random weights: speed does not ask what it has learnt), where a step's time goes, batch
        sizes, torch.compile. Goals: 3,000 images/s at 256², 10 times the plain loop.
recipe  the whole recipe, fine-tune, distil, evaluate, as a user types it. Goal: 5 minutes. At the end of its
        time it is stopped, and its epochs are counted. Where as much time is left, again with the teacher
        that has ImageNet weights here.
study   the ablations of recipes/study-ablation.yaml, as far as the minutes go; the same call goes on.
long    recipes/study-long.yaml with its eight teachers, all cells at a time, as far as the minutes go. It
        needs ``pack --release CSV`` (benchmarks/release_manifest.py makes it).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path

import gpu_long
from gpu_machine import (
    STUDY,
    TEACHER,
    WEIGHTS,
    Results,
    dataset,
    dermdistill,
    hand_back,
    machine,
    take_back,
)

HERE = Path(__file__).resolve().parent
STAGES = ("rates", "recipe", "study", "long")
"""In the order in which they run."""


def main() -> None:
    """One stage."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stages", nargs="+", choices=["pack", *STAGES, "all"])
    parser.add_argument("--pack", type=Path, default=Path(".gpu"), help="what pack made")
    parser.add_argument("--out", type=Path, help="results (pack: the folder to fill, .gpu)")
    parser.add_argument(
        "--minutes", type=float, default=8.0,
        help="after which nothing new is begun; each stage gets an equal share of what is left",
    )  # fmt: skip
    parser.add_argument("--tiny", action="store_true", help="phantoms on a CPU: a rehearsal")
    parser.add_argument("--jobs", type=int, default=6, help="study: cells at a time")
    parser.add_argument("--arms", help="study, long: only these (long: teachers, them alone)")
    parser.add_argument("--images", type=Path, help="pack: of the data set")
    parser.add_argument("--masks", type=Path, help="pack: of the data set")
    parser.add_argument("--manifest", type=Path, help="pack: CSV with the column isic2016_split")
    parser.add_argument("--release", type=Path, help="pack: CSV of benchmarks/release_manifest.py")
    parser.add_argument("--epochs", type=int, default=60, help="long: of each student")
    parser.add_argument("--teacher-epochs", type=int, default=24, help="long: of each teacher")
    options = parser.parse_args()
    if options.tiny:
        options.epochs = options.teacher_epochs = 1
    if "pack" in options.stages:
        if len(options.stages) > 1:
            parser.error("pack goes alone: the other stages run on the other machine")
        import gpu_pack

        out = options.out or Path(".gpu")
        gpu_pack.fill(out, options.images, options.masks, options.manifest, options.release)
        return
    options.out.mkdir(parents=True, exist_ok=True)
    # Runs lie beside the data on a disk of the machine; what the next call needs is copied to --out.
    options.work = Path(tempfile.gettempdir()) / ("dermdistill-tiny" if options.tiny else "dermdistill-gpu")
    options.work.mkdir(exist_ok=True)
    end = time.monotonic() + 60 * options.minutes
    take_back(options)
    known = {"rates": rates, "recipe": recipe, "study": study, "long": gpu_long.long}
    chosen = [known[stage] for stage in STAGES if stage in options.stages or "all" in options.stages]
    failed: list[str] = []
    for number, do in enumerate(chosen):
        options.deadline = time.monotonic() + (end - time.monotonic()) / (len(chosen) - number)
        try:
            do(options)
        except Exception:  # the machine's time is scarce: the next stage may work
            traceback.print_exc()
            failed.append(do.__name__)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


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
    count, sizes = (2, [4]) if options.tiny else (40, [64, 256, 16, 8])
    found = Results(options.out / "rates.json", machine())

    def repeat(batch: int) -> int:
        """How often an image must come for all steps to be of one epoch: a last, smaller batch is left out,
        for whose size cuDNN would look for its algorithms anew."""
        return 1 if options.tiny else 1 + (count + 4) * batch // len(data.indices("train"))

    def rate(batch: int, mode: str) -> float:
        where = {"trainer.accelerator": "gpu" if device.type == "cuda" else "cpu", "trainer.compile": mode}
        made = steps.make_recipe(data, teacher, options.work / "runs", student, batch, **where)
        seen = steps.run_ours(made, watch=False, warm_up=4, steps=count, repeat=repeat(batch))
        return seen.images / seen.total

    with found.measure("plain, before, ours in turns; parts of a step"):
        found["compare"] = steps.compare(
            data, teacher, student, 4 if options.tiny else 128, steps=2 if options.tiny else 16,
            warm_up=2, rounds=1 if options.tiny else 2, repeat=repeat(128), device=device, say=print,
        )  # fmt: skip
        print(steps.to_text(found["compare"]))
    for batch in sizes:
        if time.monotonic() < options.deadline:
            with found.measure(f"batch {batch}"):
                found[f"images/s, batch {batch}"] = rate(batch, "off")
    for batch in [] if options.tiny else [256, 8]:
        if time.monotonic() < options.deadline:
            with found.measure(f"compile reduce-overhead, batch {batch}"):
                found[f"images/s, batch {batch}, compile reduce-overhead"] = rate(batch, "reduce-overhead")
    print(found.path.read_text(encoding="utf-8"))


def recipe(options: argparse.Namespace) -> None:
    """Fine-tune, distil, evaluate: wall time of each command, and the scores."""
    data = dataset(options, 256)
    common = ["--data.name", data.name, "--data.root", str(data.folder.parent), "--data.size", str(data.size)]
    common += ["--runs-root", str(options.work / "runs")]
    found = Results(options.out / "recipe.json", machine())
    student = [] if options.tiny else ["--student.encoder-weights", WEIGHTS]
    # Of the first teacher, the default one, from random weights (the hub cannot be reached there), the time
    # counts; the second has ImageNet weights, and its scores count.
    teachers = {
        "gpu-teacher-resnet101": ["teacher-deeplabv3plus-resnet101", "--teacher.encoder-weights", "none"],
        TEACHER: ["teacher-cpu"],
    }
    if options.tiny:
        teachers = {TEACHER: ["teacher-phantom"]}
        common += ["--trainer.epochs", "1", "--data.batch-size", "4"]
    took = 0.0
    for name, made in teachers.items():
        begun = time.monotonic()
        if begun + took >= options.deadline:
            found.setdefault("not begun, for want of time", []).append(name)
            continue
        with found.measure(name):
            run, taught = options.work / "runs" / name, f"{name}-student"
            verbs = {
                "fine-tune": ["train", *made, "--name", name, *common, "--overwrite"],
                "distil": [
                    "distill", "phantom" if options.tiny else "isic2016", "--name", taught,
                    "--teacher", str(run), *student, *common, "--overwrite",
                ],
                "evaluate": ["evaluate", str(options.work / "runs" / taught)],
            }  # fmt: skip
            seconds: dict[str, float] = {}
            found[name] = {"seconds": seconds}
            for verb, arguments in verbs.items():
                seconds[verb] = dermdistill(*arguments, until=options.deadline)
                folder = run if verb == "fine-tune" else options.work / "runs" / taught
                found[f"{folder.name} epochs"] = len(gpu_long.epochs_of(folder))
                if not (folder / "finished").exists():
                    raise TimeoutError(f"no time to finish: {verb}")
                card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
                found[f"{folder.name} scores"] = card["scores"]
            found[name]["minutes in all"] = sum(seconds.values()) / 60
        took = time.monotonic() - begun
        if name == TEACHER and (options.work / "runs" / name / "finished").exists():
            hand_back(options, options.work / "runs" / name, "teacher", ("last.ckpt", "tensorboard"))
    print(found.path.read_text(encoding="utf-8"))


def study(options: argparse.Namespace) -> None:
    """The ablations, as far as the minutes go; their teacher first, where ``recipe`` had no time for it."""
    small = dataset(options, 192)
    found = Results(options.out / "study.json", machine())
    if not (options.work / "runs" / TEACHER).exists():
        large = dataset(options, 256)
        short = ["--trainer.epochs", "1", "--data.batch-size", "4"] if options.tiny else []
        with found.measure("teacher"):
            dermdistill(
                "train", "teacher-phantom" if options.tiny else "teacher-cpu", "--name", TEACHER,
                "--data.name", large.name, "--data.root", str(large.folder.parent),
                "--data.size", str(large.size), "--runs-root", str(options.work / "runs"), *short,
            )  # fmt: skip
            hand_back(options, options.work / "runs" / TEACHER, "teacher", ("last.ckpt", "tensorboard"))
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


if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main()
