"""How much the audit finds, how often it is right, and what it costs.

    python benchmarks/audit.py recall --images ../shared/data/isic2017-256/images [--out audit-recall.json]
    python benchmarks/audit.py scale  --images … --count 20000

`recall` plants transformed copies, one of each of many images, among all images, audits the whole and counts,
by transformation and by threshold, the copies that were found with their original. What else was found is
counted by the verdict of somebody who looked (audit_verdicts.csv); pairs without one are named. `scale` gives
time and memory for as many images: the real ones, and disturbed copies of their fingerprints. `index` sets
the index beside comparing all pairs, on vectors alone.
"""

from __future__ import annotations

import argparse
import csv
import functools
import io
import json
import platform
import resource
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from dermdistill.audit import search
from dermdistill.audit.entries import Entry
from dermdistill.audit.features import Fingerprint, fingerprint
from dermdistill.audit.index import nearest
from dermdistill.audit.matching import LEAST_INLIERS
from dermdistill.audit.pairs import level_of
from dermdistill.audit.store import Store
from dermdistill.core.files import atomic_path
from dermdistill.imaging.find import find_images

SIDE = 256
SAMPLE_IMAGES, SAMPLE_PAIRS = 100, 2000
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
    verdicts = {}
    if VERDICTS.exists():
        with VERDICTS.open(encoding="utf-8", newline="") as stream:
            verdicts = {frozenset((r["image_a"], r["image_b"])): r["verdict"] for r in csv.DictReader(stream)}
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


def measure_scale(images: Path, work: Path, count: int, seed: int) -> dict[str, object]:
    """Time an audit of ``count`` images.

    Describing and verifying take the same time for each image and pair: they are timed on a sample, and
    multiplied. The index is built and asked in full. Beyond the real images, the fingerprints are theirs with
    a third of the features dropped and the others disturbed, so that none is equal to another.
    """
    work.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    paths = find_images([images])
    squares = [Entry("scale", path.stem, "", path).square() for path in paths[:SAMPLE_IMAGES]]
    cpu: dict[str, float] = {}
    clock = time.process_time()
    for square in squares:
        fingerprint(square)
    cpu["describe"] = (time.process_time() - clock) / len(squares) * count
    (work / f"scale-{count}.sqlite").unlink(missing_ok=True)
    with Store(work / f"scale-{count}.sqlite") as store, Store(work / "fingerprints.sqlite") as real:
        entries = [Entry("scale", path.stem, "", path) for path in paths]
        contents, _ = search.describe(entries, real)
        known = [content.key for content in contents if content is not None]
        for begin in range(0, count, 256):
            numbers = range(begin, min(begin + 256, count))
            store.add((f"{i:06d}", _disturbed(real.get(known[i % len(known)]), i, rng)) for i in numbers)
        clock, wall = time.process_time(), time.perf_counter()
        candidates = search.look_up([f"{i:06d}" for i in range(count)], store)
        cpu["look up"], wall = time.process_time() - clock, time.perf_counter() - wall
        sample = [candidates[i] for i in rng.permutation(len(candidates))[:SAMPLE_PAIRS]]
        clock = time.process_time()
        search.verify(sample, store)
        cpu["verify"] = (time.process_time() - clock) / len(sample) * len(candidates)
    return {
        "images": count, "cpu_seconds": cpu, "look_up_wall_seconds": wall, "candidates": len(candidates),
        "candidates_per_image": len(candidates) / count,
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "cache_gib": (work / f"scale-{count}.sqlite").stat().st_size / 2**30,
    }  # fmt: skip


def _disturbed(real: Fingerprint, number: int, rng: np.random.Generator) -> Fingerprint:
    kept = np.sort(rng.permutation(len(real.points))[: max(14, 2 * len(real.points) // 3)])
    noise = rng.integers(-12, 13, (len(kept), 128))
    descriptors = (real.descriptors[kept].astype(int) + noise).clip(0, 255).astype(np.uint8)
    return Fingerprint(f"{number:06d}", real.points[kept], descriptors, real.grey)


def measure_index(count: int, seed: int) -> dict[str, object]:
    """The index against all pairs: its recall of the twelve nearest, and both times."""
    rng = np.random.default_rng(seed)
    base = rng.normal(size=(count, 256)).astype(np.float32) * np.linspace(1, 0.2, 256, dtype=np.float32)
    base /= np.linalg.norm(base, axis=1, keepdims=True)
    noisy = base[:2000] + rng.normal(size=(2000, 256)).astype(np.float32) * 0.06
    noisy /= np.linalg.norm(noisy, axis=1, keepdims=True)
    start = time.perf_counter()
    rows, _ = nearest(noisy, base, 12)
    middle = time.perf_counter()
    all_rows, _ = nearest(noisy, base, 12, exact=True)
    end = time.perf_counter()
    own = np.arange(2000)[:, None]
    return {
        "images": count, "queries": 2000, "found first": float((rows[:, :1] == own).mean()),
        "found first, all pairs": float((all_rows[:, :1] == own).mean()),
        "seconds": middle - start, "seconds, all pairs": end - middle,
    }  # fmt: skip


def main() -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["recall", "scale", "index"])
    parser.add_argument("--images", type=Path, default=Path("../shared/data/isic2017-256/images"))
    parser.add_argument("--work", type=Path, default=Path("audit-benchmark"))
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    match options.what:
        case "recall":
            result = measure_recall(options.images, options.work, options.seed)
        case "scale":
            result = measure_scale(options.images, options.work, options.count, options.seed)
        case _:
            result = measure_index(options.count, options.seed)
    result = {"threshold": LEAST_INLIERS, "machine": platform.processor() or platform.machine(), **result}
    text = json.dumps(result, indent=2, ensure_ascii=False)
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
