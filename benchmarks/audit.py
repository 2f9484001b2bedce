"""How much the audit finds, how often it is right, and what it costs.

    python benchmarks/audit.py recall --images ../shared/data/isic2017-256/images [--out audit-recall.json]
    python benchmarks/audit.py scale  --images … --count 100000

`recall` plants transformed copies, one of each of many images, among all images, audits the whole and counts,
by transformation and by threshold, the copies that were found with their original. What else was found is
counted by the verdict of somebody who looked (audit_verdicts.csv); pairs without one are named.

`scale` writes that many files (changed copies of the images, and phantoms), audits them by the command, and
gives time and memory in full, by step, and how much of what is related was found.
"""

from __future__ import annotations

import argparse
import csv
import functools
import io
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter
from tqdm import tqdm

from dermdistill.audit import search
from dermdistill.audit.entries import Entry
from dermdistill.audit.matching import LEAST_INLIERS
from dermdistill.audit.pairs import level_of
from dermdistill.audit.run import STORE
from dermdistill.audit.store import Store
from dermdistill.core.files import atomic_path
from dermdistill.data.prepare.phantom import make_phantom
from dermdistill.imaging.find import find_images

SIDE = 256
THRESHOLDS = (8, 10, 12, 14, 16, 20, 30)
VERDICTS = Path(__file__).with_name("audit_verdicts.csv")
Change = Callable[[Image.Image], Image.Image]


def jpeg(quality: int, image: Image.Image) -> Image.Image:
    """Compress and decode."""
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return Image.open(io.BytesIO(stream.getvalue())).convert("RGB")


def smaller(side: int, image: Image.Image) -> Image.Image:
    """Lose all detail finer than ``side`` pixels."""
    return image.resize((side, side), Image.Resampling.BOX)


def crop(share: float, image: Image.Image) -> Image.Image:
    """Cut off a share of each side's length, off centre."""
    cut = share * SIDE
    return image.crop((round(0.3 * cut), round(0.7 * cut), SIDE - round(0.7 * cut), SIDE - round(0.3 * cut)))


def turn(degrees: float, image: Image.Image) -> Image.Image:
    """Turn by any angle and cut out the largest square without corners."""
    angle = np.deg2rad(degrees)
    side = SIDE / (abs(np.cos(angle)) + abs(np.sin(angle)))
    edge = (SIDE - side) / 2
    return image.rotate(degrees, Image.Resampling.BICUBIC).crop((edge, edge, SIDE - edge, SIDE - edge))


def light(factor: float, image: Image.Image) -> Image.Image:
    """Brighter or darker."""
    return ImageEnhance.Brightness(image).enhance(factor)


def tint(gains: tuple[float, float, float], image: Image.Image) -> Image.Image:
    """Another white balance."""
    return Image.fromarray((np.asarray(image) * np.array(gains)).clip(0, 255).astype(np.uint8))


def blur(sigma: float, image: Image.Image) -> Image.Image:
    """Out of focus."""
    return image.filter(ImageFilter.GaussianBlur(sigma))


def flip(how: Image.Transpose, image: Image.Image) -> Image.Image:
    """One of the symmetries of the square."""
    return image.transpose(how)


def all_at_once(image: Image.Image) -> Image.Image:
    """Cropped, mirrored, turned by 90°, tinted, small, and compressed hard."""
    image = flip(Image.Transpose.TRANSVERSE, tint((1.1, 0.95, 0.85), crop(0.1, image)))
    return jpeg(50, image.resize((128, 128), Image.Resampling.BOX))


def changes() -> dict[str, Change]:
    """The planted transformations by name."""
    bind = functools.partial
    found: dict[str, Change] = {f"JPEG quality {q}": bind(jpeg, q) for q in (90, 70, 50, 30)}
    found |= {f"resized to {s}×{s}": bind(smaller, s) for s in (192, 128, 96, 64)}
    found |= {t.name.lower().replace("_", " "): bind(flip, t) for t in Image.Transpose}
    found |= {f"cropped by {s:.0%}": bind(crop, s) for s in (0.05, 0.1, 0.2, 0.4)}
    found |= {f"turned by {d}°": bind(turn, d) for d in (3, 10, 30, 45)}
    found |= {"brightness × 0.7": bind(light, 0.7), "brightness × 1.3": bind(light, 1.3)}
    found |= {"white balance": bind(tint, (1.15, 1.0, 0.8))}
    found |= {f"blur, σ {s} px": bind(blur, s) for s in (1, 2, 3)}
    found["all at once"] = all_at_once
    return found


def measure_recall(images: Path, work: Path, seed: int) -> dict[str, object]:
    """Plant, audit, count."""
    originals = [Entry("originals", path.stem, "test", path) for path in find_images([images])]
    order = np.random.default_rng(seed).permutation(len(originals))
    kinds = changes()
    each = len(originals) // (2 * len(kinds))
    planted, source = [], {}
    (work / "planted").mkdir(parents=True, exist_ok=True)
    for k, (kind, change) in enumerate(kinds.items()):
        for n in order[k * each : (k + 1) * each]:
            path = work / "planted" / f"{kind.replace(' ', '_')}-{originals[n].image_id}.png"
            if not path.exists():
                with atomic_path(path) as temporary:
                    change(Image.fromarray(originals[n].square())).save(temporary)
            planted.append(Entry("planted", path.stem, "train", path))
            source[path.stem] = (kind, originals[n].image_id)
    entries = [*originals, *planted]
    with Store(work / "fingerprints.sqlite") as store:
        contents, _ = search.describe(entries, store)
        names: dict[str, Entry] = {}
        for entry, content in zip(entries, contents, strict=True):
            if content is not None:
                names.setdefault(content.key, entry)
        candidates = search.look_up(list(names), store)
        search.verify(candidates, store)
        wanted = set(candidates)
        matches = [m for m in store.matches(min(THRESHOLDS)) if m[:3] in wanted]
        looked_up = {frozenset((names[a].image_id, names[b].image_id)) for a, b, _ in candidates}
    best: dict[frozenset[str], int] = {}
    copies: set[frozenset[str]] = set()
    for a, b, _, match in matches:
        pair = frozenset((names[a].image_id, names[b].image_id))
        if match.spread >= 5:
            best[pair] = max(best.get(pair, 0), match.inliers)
        if level_of(match) == "near-duplicate":
            copies.add(pair)
    rows = []
    for kind in kinds:
        pairs = [frozenset((name, of)) for name, (k, of) in source.items() if k == kind]
        row: dict[str, object] = {"transformation": kind, "planted": len(pairs)}
        row["looked up"] = np.mean([p in looked_up for p in pairs])
        row |= {str(t): np.mean([best.get(p, 0) >= t for p in pairs]) for t in THRESHOLDS}
        row["as a copy"] = np.mean([p in copies for p in pairs])
        rows.append(row)
    return {"rows": rows, "precision": _precision(best, source, {e.image_id for e in originals})}


def _precision(
    best: dict[frozenset[str], int], source: dict[str, tuple[str, str]], originals: set[str]
) -> dict[str, object]:
    """By threshold: pairs found, those planted, and of the others those judged same, different, unclear.

    A planted copy found with another image than its own counts as the pair of the two originals.
    """
    verdicts = read_verdicts()
    table: dict[str, object] = {}
    unjudged: dict[str, int] = {}
    for threshold in THRESHOLDS:
        counts = {"found": 0, "planted": 0, "same": 0, "unclear": 0, "different": 0, "not judged": 0}
        for pair, inliers in best.items():
            if inliers < threshold:
                continue
            counts["found"] += 1
            true = frozenset(source[name][1] if name in source else name for name in pair)
            verdict = "planted" if len(true) == 1 else verdicts.get(true, "not judged")
            counts[verdict] += 1
            if verdict == "not judged":
                unjudged["–".join(sorted(true))] = max(inliers, unjudged.get("–".join(sorted(true)), 0))
        table[str(threshold)] = counts
    return {"by threshold": table, "not judged": dict(sorted(unjudged.items(), key=lambda x: -x[1]))}


def write_archive(images: Path, folder: Path, count: int, seed: int) -> None:
    """Write that many different JPEGs, a quarter of them phantoms, the others changed copies of ``images``.

    ``NAME__NUMBER.jpg`` in folders of a thousand; each is a function of (seed, number): a killed run goes on.
    """
    sources = find_images([images])
    make = functools.partial(_write_picture, sources, folder, seed)
    missing = [n for n in range(count) if not _picture_path(sources, folder, n).exists()]
    for number in {n // 1000 for n in missing}:
        (folder / f"{number:04d}").mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor() as pool:
        for _ in tqdm(pool.map(make, missing, chunksize=64), total=len(missing), desc="archive"):
            pass


def _picture_path(sources: Sequence[Path], folder: Path, number: int) -> Path:
    name = "phantom" if number % 4 == 3 else sources[number % len(sources)].stem
    return folder / f"{number // 1000:04d}" / f"{name}__{number:06d}.jpg"


def _write_picture(sources: Sequence[Path], folder: Path, seed: int, number: int) -> None:
    path = _picture_path(sources, folder, number)
    rng = np.random.default_rng([seed, number])
    if number % 4 == 3:
        image = Image.fromarray(make_phantom(seed, number, 128).image)
    else:
        image = crop(rng.uniform(0, 0.3), Image.open(sources[number % len(sources)]).convert("RGB"))
        if rng.random() < 0.5:
            image = image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
            image = turn(rng.uniform(-20, 20), image)
        image = flip(rng.choice(list(Image.Transpose)), image)
        image = tint(tuple(rng.uniform(0.85, 1.15, 3)), image)
        side = int(rng.choice([128, 192, 256, 320]))
        image = image.resize((side, side), Image.Resampling.BICUBIC)
    with atomic_path(path) as temporary:
        image.save(temporary, "JPEG", quality=int(rng.integers(50, 96)))


def measure_scale(images: Path, work: Path, count: int, seed: int) -> dict[str, object]:
    """An audit of so many files by the command, from nothing: time, memory, and what it found.

    Of each picture that has relatives (made from the same image, or from another of the same lesion by
    verdict) it counts whether one was found; a pair is right when its two are relatives.
    """
    folder, out = work / f"archive-{count}", work / f"scale-{count}"
    write_archive(images, folder, count, seed)
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "dermdistill", "audit", str(folder), "--out", str(out), "--pages", "0"]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1):
        raise SystemExit(process.returncode)
    verdicts = {pair for pair, verdict in read_verdicts().items() if verdict == "same"}
    right, found, pairs = 0, set(), 0
    with (out / "audit.csv").open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            names = [row[key].split("/")[-1] for key in ("image_a", "image_b")]
            one, other = (name.split("__")[0] for name in names)
            pairs += 1
            if (one == other != "phantom") or frozenset((one, other)) in verdicts:
                right += 1
                found.update(names)
    copies = Counter(path.stem.split("__")[0] for path in find_images([folder]))
    related = sum(n for name, n in copies.items() if n > 1 and name != "phantom")
    summary = json.loads((out / "audit.json").read_text(encoding="utf-8"))
    return {
        "images": count, "wall_seconds": wall, "cpu_seconds": used.ru_utime + used.ru_stime,
        "seconds": summary["seconds"], "peak_gib": used.ru_maxrss / 2**20,
        "cache_gib": (out / STORE).stat().st_size / 2**30,
        "candidates_per_image": summary["candidates"] / count,
        "with_relatives": related, "found_with_a_relative": len(found) / max(related, 1),
        "pairs": pairs, "pairs_right": right / max(pairs, 1),
    }  # fmt: skip


def read_verdicts() -> dict[frozenset[str], str]:
    """What somebody who looked at the pair of images said: same, different or unclear."""
    with VERDICTS.open(encoding="utf-8", newline="") as stream:
        return {frozenset((r["image_a"], r["image_b"])): r["verdict"] for r in csv.DictReader(stream)}


def main() -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["recall", "scale"])
    parser.add_argument("--images", type=Path, default=Path("../shared/data/isic2017-256/images"))
    parser.add_argument("--work", type=Path, default=Path("audit-benchmark"))
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    match options.what:
        case "recall":
            result = measure_recall(options.images, options.work, options.seed)
        case _:
            result = measure_scale(options.images, options.work, options.count, options.seed)
    result = {"threshold": LEAST_INLIERS, "machine": platform.processor() or platform.machine(), **result}
    text = json.dumps(result, indent=2, ensure_ascii=False)
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
