"""The page of an evaluation: what a physician can read alone, in one file that fetches nothing."""

from __future__ import annotations

from typing import Any

import numpy as np

from dermdistill._version import __version__
from dermdistill.core.errors import DataError
from dermdistill.evaluation.folder_evaluation import FolderEvaluation, presentation
from dermdistill.evaluation.svg import (
    PRED_COLOUR,
    TRUE_COLOUR,
    bar,
    escape,
    histogram,
    page,
    picture,
    scatter,
    table,
)
from dermdistill.metrics.overlap import THRESHOLD_JACCARD

WORST = 12
"""Pictures that are drawn."""

MEANINGS = {
    "dice": "overlap of the two areas, 100 where they are one",
    "jaccard": "shared area over the area of both together",
    "threshold_jaccard": f"the Jaccard, or 0 where it is below {100 * THRESHOLD_JACCARD:g} (ISIC 2018)",
    "accuracy": "pixels that are named rightly",
    "sensitivity": "share of the true lesion that is inside the outline",
    "specificity": "share of the true skin that is outside the outline",
    "precision": "share of what is outlined that is lesion",
    "area_ratio": "outlined area over true area: above 1 drawn wider, below 1 tighter",
    "boundary_f": "share of the outlines that run within 0.75 % of the picture's diagonal of each other",
    "hd95": "95 % of the outlines lie no farther apart than this; lower is better",
    "hd95_px": "the same in pixels",
    "hd95_mm": "the same in millimetres",
    "auc": "how often a lesion pixel has a higher probability than a skin pixel",
    "ece": "how far the probabilities are from what is observed; lower is better",
}


def to_html(evaluation: FolderEvaluation) -> str:
    """Return the page: the answer in one sentence, then what stands behind it."""
    about, dice = evaluation.about, evaluation.scores["dice_per_image_mean"]
    values = 100 * evaluation.images["dice"]
    few = ""
    if dice.n < 30:
        few = f" With {dice.n} pictures the interval is wide; more of them would narrow it."
    sentence = (
        f"The outlines of {escape(about['run'])} overlap the true ones with a mean Dice of "
        f"{100 * dice.mean:.1f}&nbsp;% (95&nbsp;% interval {100 * dice.low:.1f} to {100 * dice.high:.1f}, "
        f"{dice.n} picture{'s' if dice.n != 1 else ''})."
    )
    failed = len(evaluation.failures)
    parts = [
        f"<h1>{escape(about['data']['name'])}: how good are the outlines?</h1>",
        f'<p class="answer">{sentence}</p>',
        f'<p class="aside">Half of the pictures score above {np.median(values):.1f} %. On {failed} of '
        f"{dice.n} "
        f"({100 * failed / dice.n:.0f} %) the outline would be called a failure (Jaccard below "
        f"{100 * THRESHOLD_JACCARD:g} %).{few}{_human(evaluation)}</p>",
        *(f'<p class="note">{escape(note)}.</p>' for note in evaluation.notes()),
        "<h2>How the pictures score</h2>",
        '<div class="two"><div class="card"><h3>Dice of each picture</h3>',
        histogram(values, 100 * dice.mean, 100 * dice.low, 100 * dice.high, label="Dice, %"),
        '<p class="aside">Line and band: mean and its 95 % interval.</p></div>',
        '<div class="card"><h3>Dice against the lesion\'s size</h3>',
        _size_chart(evaluation),
        '<p class="aside">Small lesions lose more by the same distance of the outlines.</p></div></div>',
        _worst(evaluation),
        "<h2>All measures</h2>",
        f'<div class="card">{_measures(evaluation)}</div>',
        "<h2>By subgroup</h2>",
        f'<div class="card">{_subgroups(evaluation)}</div>',
        "<details><summary>How this was measured</summary>",
        f'<p class="aside">{escape(evaluation.to_json()["protocol"])}.</p>',
        f'<p class="aside">Weights {escape(about["weights_sha256"] or "unknown (predictions were given)")}; '
        f"threshold {about['threshold']:g}; pictures' fingerprint "
        f"{escape(about['data']['fingerprint'][:16])}. "
        "Every picture's numbers stand in per_image.csv, all of this page in summary.json.</p></details>",
        f"<footer>dermdistill {__version__} evaluate. Not a medical device.</footer>",
    ]
    return page(f"{about['run']} on {about['data']['name']}", "\n".join(parts))


def _human(evaluation: FolderEvaluation) -> str:
    people = evaluation.inter_rater_agreement
    if people is None:
        return ""
    return (
        f" The people who drew these masks agree with each other at a Dice of {100 * people.mean:.1f} % "
        f"({100 * people.low:.1f} to {100 * people.high:.1f}, {people.n} pictures)."
    )


def _size_chart(evaluation: FolderEvaluation) -> str:
    images = evaluation.images
    size, dice = 100 * images["lesion_fraction"], 100 * images["dice"]
    return scatter(
        size,
        dice,
        images.image_id,
        labels=("lesion, % of the picture", "Dice, %"),
        ranges=((0, max(10.0, float(np.ceil(size.max() / 10) * 10))), (0, 100)),
    )


def _worst(evaluation: FolderEvaluation) -> str:
    if evaluation.draw is None:
        return ""
    images = evaluation.images
    figures = []
    for i in np.argsort(images["dice"], kind="stable")[:WORST].tolist():
        name = images.image_id[i]
        try:
            image, true_mask, mask = evaluation.draw(name)
        except DataError:  # it was there when it was scored
            continue
        if image is not None and image.shape[:2] != true_mask.shape:
            image = None
        source = picture(image, [(true_mask, TRUE_COLOUR), (mask, PRED_COLOUR)])
        figures.append(
            f'<figure><img src="{source}" alt="{escape(name)} with both outlines" loading="lazy">'
            f"<figcaption><b>{100 * images['dice'][i]:.1f} %</b> {escape(name)}"
            f"{', no prediction' if name in evaluation.missing else ''}</figcaption></figure>"
        )
    keys = (
        f'<p class="aside"><span class="key" style="border-color:rgb{TRUE_COLOUR}"></span>true '
        "outline &nbsp; "
        f'<span class="key" style="border-color:rgb{PRED_COLOUR}"></span>outline of '
        f"{escape(evaluation.about['run'])}</p>"
    )
    title = f"The {len(figures)} worst" if len(figures) < len(images) else "All pictures, the worst first"
    return f'<h2>{title}</h2>{keys}<div class="pictures">{"".join(figures)}</div>'


def _measures(evaluation: FolderEvaluation) -> str:
    rows = []
    for name, s in evaluation.scores.items():
        key = name.removesuffix("_per_image_mean")
        unit, title = presentation(key)
        rows.append(
            (
                escape(title[0].upper() + title[1:]),
                f"{unit * s.mean:.2f}",
                f"{unit * s.low:.2f} to {unit * s.high:.2f}",
                str(s.n),
                escape(MEANINGS.get(key, "")),
            )
        )
    for rater, s in evaluation.raters.items():
        rows.append(
            (
                f"Dice against {escape(rater)}",
                f"{100 * s.mean:.2f}",
                f"{100 * s.low:.2f} to {100 * s.high:.2f}",
                str(s.n),
                "against this person's masks alone",
            )
        )
    if evaluation.calibration:
        rows.append(
            (
                "ECE of all",
                f"{100 * evaluation.calibration['ece']:.2f}",
                "",
                "",
                "calibration over all pixels",
            )
        )
    head = ("measure", "mean", "95 % interval", "n", "what it is")
    return table(head, rows, (False, True, True, True, False))


def _subgroups(evaluation: FolderEvaluation) -> str:
    rows: list[tuple[str, ...]] = []
    groups: list[dict[str, Any]] = [g for g in evaluation.by_subgroup.values() if len(g["levels"]) > 1]
    levels = [level for group in groups for level in group["levels"]]
    lows = [one["dice_per_image_mean"]["low"] for one in levels if not one["small"]]
    start = min([0.6, *lows, *(one["dice_per_image_mean"]["mean"] for one in levels)])
    for group in groups:
        rows.append((f'{escape(group["label"])} <span class="few">({escape(group["note"])})</span>',))
        for level in group["levels"]:
            s = level["dice_per_image_mean"]
            few = ' <span class="few">(few)</span>' if level["small"] else ""
            rows.append(
                (
                    escape(level["level"]),
                    f"{level['n']}{few}",
                    f"{100 * s['mean']:.1f}",
                    f"{100 * s['low']:.1f} to {100 * s['high']:.1f}",
                    bar(s["mean"], s["low"], s["high"], start, 1.0),
                )
            )
    if not rows:
        return '<p class="aside">All pictures are of one kind by what was measured.</p>'
    return table(("", "n", "Dice, %", "95 % interval", ""), rows, (False, True, True, True, False))
