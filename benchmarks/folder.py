"""From a folder to results: `dermdistill predict` beside the plainest loop for the same, in one run.

The plain loop opens a picture with Pillow and resizes it, asks ONNX Runtime for the shipped student's logits,
resizes the mask with Pillow, and writes it as PNG and the picture as JPEG, as large as an overlay. Nothing is
drawn, measured or checked, and no line of JSON is written. Ways take turns, a folder a turn, each turn in a
process of its own; the start of the process is not counted, its first picture is.

    python benchmarks/folder.py --images DIR --count 300 --rounds 3
    python benchmarks/folder.py --images DIR --count 12 --megapixels 24 --rounds 3

Where other work runs beside it, wall time says little: the processor time of all threads is printed too, and
its ratio holds. ``--other SRC`` runs another version's `dermdistill` (its ``src`` folder) in the same turns.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

SOURCE = Path(__file__).parents[1] / "src"

PLAIN = """
import json, resource, sys, time
from pathlib import Path
import numpy as np, onnxruntime
from PIL import Image
folder, out, student = map(Path, sys.argv[1:4])
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(str(student), options, providers=["CPUExecutionProvider"])
side = session.get_inputs()[0].shape[2]
side = side if isinstance(side, int) else 192
paths = sorted(folder.iterdir())
out.mkdir()
wall, cpu = time.perf_counter(), time.process_time()
for path in paths:
    picture = Image.open(path).convert("RGB")
    batch = np.asarray(picture.resize((side, side), Image.Resampling.BILINEAR), np.float32) / 255
    logits = session.run(None, {"image": batch.transpose(2, 0, 1)[None]})[0][0, 0]
    mask = Image.fromarray((logits > 0).astype(np.uint8) * 255).resize(picture.size)
    mask.save(out / f"{path.stem}_mask.png")
    picture.save(out / f"{path.stem}.jpg", quality=92, subsampling=0)
print(json.dumps([time.perf_counter() - wall, time.process_time() - cpu,
                  resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""

OURS = """
import json, resource, sys, time
from pathlib import Path
folder, out, outputs, workers = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3].split(","), int(sys.argv[4])
from dermdistill import Predictor
predictor = Predictor(threads=1)
paths = sorted(folder.iterdir())
try:
    from dermdistill.inference.folder import predict_files
    run = lambda: predict_files(predictor, paths, out, outputs=outputs, workers=workers)
except ImportError:  # before 2026-11-29
    from dermdistill.predict import write_outputs
    run = lambda: write_outputs(out, predictor.predict_many(paths), outputs=outputs, progress=False)
if len(sys.argv) > 5:
    import cProfile, pstats
    profile = cProfile.Profile(); profile.enable()
def used():
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime
wall, cpu = time.perf_counter(), used()
for line in run():
    print(json.dumps(line), file=sys.stderr)
print(json.dumps([time.perf_counter() - wall, used() - cpu,
                  resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
if len(sys.argv) > 5:
    profile.disable()
    pstats.Stats(profile).dump_stats(sys.argv[5])
"""

STAGES = {
    "read and resize": ("predictor.py", "read"),
    "of that, decoding": ("decode.py", "open_picture"),
    "network": ("predictor.py", "_views"),
    "mask": ("resize.py", "restore_region"),
    "outline": ("contours.py", "polygons"),
    "warnings": ("input_checks.py", "warnings"),
    "shape measures": ("shape.py", "measure"),
    "drawing": ("drawing.py", "draw_outlines"),
    "PNG": ("encode.py", "encode_png"),
    "JPEG": ("encode.py", "encode_jpeg"),
    "files": ("encode.py", "write_bytes"),
}


def make_folder(images: Path, count: int, megapixels: float, folder: Path) -> None:
    """Copies of real pictures, enlarged where asked, under names of their own."""
    sources = sorted(images.iterdir())
    for number in range(count):
        source = sources[number * 7 % len(sources)]
        target = folder / f"{number:05d}.jpg"
        if not megapixels:
            target.write_bytes(source.read_bytes())
            continue
        width = round((megapixels * 1.5e6) ** 0.5)
        picture = (
            Image.open(source).convert("RGB").resize((width, round(width / 1.5)), Image.Resampling.BICUBIC)
        )
        # A camera's grain, which costs the decoder what a real photograph costs it.
        noise = Image.effect_noise(picture.size, 24)
        picture = Image.blend(picture, Image.merge("RGB", [noise] * 3), 0.08)
        picture.save(target, quality=90)


def run(code: str, arguments: list[str], source: Path) -> list[float]:
    """Wall seconds, processor seconds and peak memory in MiB of one turn."""
    environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], env=environment, check=True, capture_output=True, text=True
    )
    found: list[float] = json.loads(done.stdout.splitlines()[-1])
    return found


def stages(profile: Path, count: int) -> list[str]:
    """Milliseconds of a picture by stage, out of a profile (whose own cost is in them)."""
    import pstats

    stats: dict[tuple[str, int, str], tuple[int, int, float, float, object]] = pstats.Stats(
        str(profile)
    ).stats  # type: ignore[attr-defined]
    lines = []
    for title, (file, function) in STAGES.items():
        seconds = sum(v[3] for k, v in stats.items() if Path(k[0]).name == file and k[2] == function)
        lines.append(f"| {title} | {1e3 * seconds / count:.2f} |")
    return lines


def main() -> None:
    """Measure in turns, and print as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="folder of pictures")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--megapixels", type=float, default=0, help="enlarge the pictures to this")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--other", type=Path, help="src folder of another version")
    arguments = parser.parse_args()
    student = SOURCE / "dermdistill" / "weights" / "student.onnx"
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "pictures"
        folder.mkdir()
        make_folder(arguments.images, arguments.count, arguments.megapixels, folder)
        ways = {
            "plain loop": (PLAIN, [str(student)], SOURCE),
            "predict": (OURS, ["mask,overlay", "1"], SOURCE),
            "predict --outputs mask": (OURS, ["mask", "1"], SOURCE),
            "predict, two workers": (OURS, ["mask,overlay", "2"], SOURCE),
        }
        if arguments.other:
            ways["the other version"] = (OURS, ["mask,overlay", "1"], arguments.other)
        found: dict[str, list[list[float]]] = {name: [] for name in ways}
        for number in range(arguments.rounds):
            for name, (code, more, source) in ways.items():
                out = Path(temporary) / f"{number}-{name}"
                found[name].append(run(code, [str(folder), str(out), *more], source))
        print("| | pictures/s | ms each | × plain | processor ms each | × plain | peak MiB |")
        print("|---|---|---|---|---|---|---|")
        for name, turns in found.items():
            wall, cpu = (min(turn[i] for turn in turns) / arguments.count for i in (0, 1))
            ratios = [
                statistics.median(
                    turn[i] / base[i] for turn, base in zip(turns, found["plain loop"], strict=True)
                )
                for i in (0, 1)
            ]
            peak = max(turn[2] for turn in turns)
            print(
                f"| {name} | {1 / wall:.1f} | {1e3 * wall:.2f} | {ratios[0]:.2f} | {1e3 * cpu:.2f} "
                f"| {ratios[1]:.2f} | {peak:.0f} |"
            )
        profile = Path(temporary) / "profile"
        run(OURS, [str(folder), str(Path(temporary) / "profiled"), "mask,overlay", "1", str(profile)], SOURCE)
        print("\n| stage | ms each, in a profile |\n|---|---|")
        print("\n".join(stages(profile, arguments.count)))


if __name__ == "__main__":
    main()
