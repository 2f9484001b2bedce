"""False alarms and detection of the warnings of `dermdistill.inference.input_checks`, on real images and
spoilt ones.

Limits are quantiles of the training split. False alarms are counted on the validation and test splits, which
choose nothing here; detection on validation images that are spoilt on purpose, and on pictures that are
no dermoscopy: generated ones, and photographs that lie inside installed packages (scikit-image's too, where
it is installed). Deterministic but for the model.

    python benchmarks/trust.py --data isic2016ids-256 --root DIR [--model FILE] [--out trust.json] \
        [--docs docs/warnings.md]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import strangers
from scipy.stats import spearmanr
from tqdm import tqdm

from dermdistill.data.prepare.phantom import make_phantom
from dermdistill.data.prepare.prepare import ensure_prepared
from dermdistill.inference.input_checks import (
    InputChecks,
    fit_from_checks,
    mask_statistics,
    picture_statistics,
)
from dermdistill.inference.predictor import Predictor
from dermdistill.inference.reference_statistics import FALSE_ALARM

MARKS = ("<!-- measured by benchmarks/trust.py -->", "<!-- end -->")
TAILS = {
    "sharpness": 0,
    "brightness": 0,
    "glare": 1,
    "area": 0,
    "second": 1,
    "contact": 1,
}  # 1: upper


def looks(predictor: Predictor, pictures: Iterable[np.ndarray], title: str) -> list[InputChecks]:
    """What the warnings are judged by, for each picture."""
    return [predictor(picture).checks for picture in tqdm(pictures, desc=title, leave=False)]


def share(found: list[InputChecks], threshold: float, code: str) -> float:
    """Share of pictures that are warned of, by one code or (``any``) by any."""
    codes = [{warning.code for warning in look.warnings(threshold)} for look in found]
    return float(np.mean([bool(each) if code == "any" else code in each for each in codes]))


def main() -> None:
    """Measure, print as Markdown, and write as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", default="isic2016ids-256")
    parser.add_argument("--root", type=Path, default=Path("data"))
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--model", type=Path, help="default: the shipped student")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--docs", type=Path, help="page whose measured part is replaced")
    arguments = parser.parse_args()
    data = ensure_prepared(arguments.data, arguments.root, arguments.size)
    predictor = Predictor(arguments.model, threads=1)
    threshold = predictor.card.threshold

    train = looks(predictor, data.images[data.indices("train")], "train")
    reference = fit_from_checks(train, threshold)
    predictor.card = predictor.card.model_copy(update={"reference": reference})
    result: dict[str, Any] = {"model": predictor.model, "reference_limit": reference["limit"]}
    result["limits"] = limits(train, threshold)

    val_rows = data.indices("val")
    images, masks = data.images[val_rows], data.masks[val_rows]
    good = {
        "validation": looks(predictor, images, "val"),
        "test": looks(predictor, data.images[data.indices("test")], "test"),
        "phantoms": looks(predictor, (make_phantom(5, i, 256).image for i in range(100)), "phantoms"),
    }
    result["false_alarms"] = false_alarms(good, data.masks, data, threshold)
    result["detection"] = detection(predictor, images, masks, threshold)
    result["confidence"] = ranks(arguments.model, images, masks)
    text = to_markdown(result)
    print(text)
    if arguments.docs:
        before, _, after = arguments.docs.read_text(encoding="utf-8").partition(MARKS[0])
        text = f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{after.partition(MARKS[1])[2]}"
        arguments.docs.write_text(text, encoding="utf-8")
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def limits(train: list[InputChecks], threshold: float) -> dict[str, float]:
    """The quantile of each statistic on the training split that FALSE_ALARM of it lies beyond."""
    table = [{**picture_statistics(look.image), **mask_statistics(look.prob, threshold)} for look in train]
    return {
        name: float(np.quantile([row[name] for row in table], 1 - FALSE_ALARM if upper else FALSE_ALARM))
        for name, upper in TAILS.items()
    }


def false_alarms(
    good: dict[str, list[InputChecks]], masks: Any, data: Any, threshold: float
) -> dict[str, Any]:
    """Share of good pictures that each warning is given for; cut lesions by what the true mask says."""
    codes = (
        "blur", "underexposed", "overexposed", "no_lesion", "several_lesions", "not_dermoscopy", "any",
    )  # fmt: skip
    found: dict[str, Any] = {
        name: {"images": len(each), **{code: share(each, threshold, code) for code in codes}}
        for name, each in good.items()
    }
    for split, name in (("val", "validation"), ("test", "test")):
        true = np.array(
            [
                mask_statistics(mask.astype(np.float32), 0.5)["contact"] > 0
                for mask in masks[data.indices(split)]
            ]
        )
        told = np.array(
            ["cut_by_border" in {w.code for w in look.warnings(threshold)} for look in good[name]]
        )
        found[name] |= {
            "cut_by_border": float(told[~true].mean()),
            "cut_by_border_detected": float(told[true].mean()),
            "cut": int(true.sum()),
        }
    return found


def detection(
    predictor: Predictor, images: np.ndarray, masks: np.ndarray, threshold: float
) -> list[dict[str, Any]]:
    """Share of spoilt pictures that the warning meant for them is given for, and of any warning."""
    rows: list[dict[str, Any]] = []

    def add(title: str, code: str, pictures: list[np.ndarray]) -> None:
        found = looks(predictor, pictures, title)
        rows.append(
            {"what": title, "code": code, "images": len(found), "detected": share(found, threshold, code),
             "any": share(found, threshold, "any")}
        )  # fmt: skip

    def spoil(change: Callable[..., np.ndarray], *values: Any) -> list[np.ndarray]:
        return [change(image, *values) for image in images]

    for sigma in (1, 1.5, 2, 3):
        add(f"blur, σ {sigma} px at 256", "blur", spoil(strangers.blurred, sigma))
    for gain in (0.7, 0.5, 0.35):
        add(f"light × {gain}", "underexposed", spoil(strangers.exposed, gain))
    for gain in (1.4, 1.8, 2.5):
        add(f"light × {gain}, clipped", "overexposed", spoil(strangers.exposed, gain))
    bare = [strangers.bare_skin(image, mask) for image, mask in zip(images, masks, strict=True)]
    add("bare skin beside the lesion", "no_lesion", [picture for picture in bare if picture is not None])
    pairs = [strangers.pair(images[i], images[i - 1]) for i in range(len(images))]
    add("two pictures side by side", "several_lesions", pairs)
    add(
        "cut through the lesion's middle",
        "cut_by_border",
        [strangers.cut(*each) for each in zip(images, masks, strict=True)],
    )
    groups: dict[str, list[np.ndarray]] = {}
    for kind, picture in strangers.generated():
        groups.setdefault(f"generated: {kind}", []).append(picture)
    for name, picture in strangers.photographs():
        groups.setdefault(f"photograph: {name}", []).append(picture)
    for title, pictures in groups.items():
        add(title, "not_dermoscopy", pictures)
    for kind in ("generated", "photograph"):
        some = [row for row in rows if row["what"].startswith(f"{kind}: ")]
        count = sum(row["images"] for row in some)
        means = {
            key: sum(row[key] * row["images"] for row in some) / max(count, 1) for key in ("detected", "any")
        }
        rows.append({"what": f"all {kind}", "code": "not_dermoscopy", "images": count, **means})
    return rows


def ranks(model: Path | None, images: np.ndarray, masks: np.ndarray) -> dict[str, float]:
    """How well confidence and uncertainty rank validation images by Dice (Spearman's ρ)."""
    predictor = Predictor(model, threads=1, tta=True)
    found = [predictor(image) for image in tqdm(images, desc="ranks", leave=False)]
    dice = [
        2 * np.count_nonzero(each.mask & mask) / max(int(each.mask.sum() + mask.sum()), 1)
        for each, mask in zip(found, masks, strict=True)
    ]
    return {
        "mean_dice": float(np.mean(dice)),
        "confidence": float(spearmanr([each.confidence for each in found], dice).statistic),
        "uncertainty": float(spearmanr([each.uncertainty for each in found], dice).statistic),
    }


def to_markdown(result: dict[str, Any]) -> str:
    """Sentences and three tables."""
    model, rank = result["model"], result["confidence"]
    lines = [
        f"Model: `{model['recipe']}`, weights `{model['weights_sha256'][:12]}…`; mean Dice of "
        f"{100 * rank['mean_dice']:.1f} on validation with mirrored views. There, confidence and Dice rank "
        f"images alike by ρ = {rank['confidence']:.2f}, uncertainty and Dice by {rank['uncertainty']:.2f} "
        "(Spearman).",
        "",
    ]
    lines += ["| statistic | 2 % quantile of the training split |", "|---|---|"]
    lines += [f"| {name} | {value:.4f} |" for name, value in result["limits"].items()]
    lines += [f"| distance | {result['reference_limit']:.2f} |", ""]
    groups = list(result["false_alarms"])
    heads = [f"{name} ({result['false_alarms'][name]['images']})" for name in groups]
    lines += ["| false alarms, % | " + " | ".join(heads) + " |", "|---" * (len(groups) + 1) + "|"]
    for code in (
        "blur", "underexposed", "overexposed", "no_lesion", "several_lesions", "cut_by_border",
        "not_dermoscopy", "any",
    ):  # fmt: skip
        cells = [result["false_alarms"][name].get(code) for name in groups]
        shown = ["" if cell is None else f"{100 * cell:.1f}" for cell in cells]
        lines.append(f"| {code} | " + " | ".join(shown) + " |")
    cut = {name: found for name, found in result["false_alarms"].items() if "cut" in found}
    told = [f"{100 * f['cut_by_border_detected']:.0f} % of {f['cut']} in {n}" for n, f in cut.items()]
    lines += ["", f"Lesions whose true mask comes to the border, found cut: {', '.join(told)}."]
    lines += ["", "| pictures | n | warning | given for, % | any warning, % |", "|---|---|---|---|---|"]
    lines += [
        f"| {row['what']} | {row['images']} | {row['code']} | {100 * row['detected']:.0f} | "
        f"{100 * row['any']:.0f} |"
        for row in result["detection"]
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
