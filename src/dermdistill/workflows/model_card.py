"""MODEL_CARD.md: what a released network is, what it was trained on, what it scored and where it ends.

After Mitchell et al. 2019, "Model Cards for Model Reporting": generated from the card in the file and from
``summary.json`` of its evaluation, so that no figure is typed by hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dermdistill.artifacts.card import ModelCard, TeacherRecord
from dermdistill.core.numbers import file_size, percent, span
from dermdistill.metrics.intervals import Interval

METRICS = {
    "dice_per_image_mean": "Dice",
    "jaccard_per_image_mean": "Jaccard",
    "threshold_jaccard_per_image_mean": "threshold Jaccard (0.65)",
    "accuracy_per_image_mean": "pixel accuracy",
    "sensitivity_per_image_mean": "sensitivity",
    "specificity_per_image_mean": "specificity",
}


def to_markdown(
    card: ModelCard,
    *,
    file: str,
    size: int,
    data: Mapping[str, Any],
    summary: Mapping[str, Any] | None = None,
    bench: Mapping[str, Any] | None = None,
    encoder_weights: str | None = None,
    licence: str | None = None,
    remarks: Sequence[str] = (),
) -> str:
    """The model card as Markdown.

    Args:
        card: The card in the file.
        file: Its name.
        size: Its bytes.
        data: ``dataset.json`` of what it was trained on.
        summary: ``summary.json`` of its evaluation on the test split.
        bench: ``bench.json``, for latency beside its teacher.
        encoder_weights: Where the encoder's weights came from before it was trained.
        licence: Of the training images, where ``dataset.json`` does not know better.
        remarks: Sentences about this release, shown first.
    """
    parts = [
        f"# Model card: {card.recipe}",
        "**Not a medical device.** For research and for building tools that a person checks; it draws where "
        "a lesion seems to be and says nothing about what it is.",
        *remarks,
        _facts(card, file, size),
        _training(card, data, encoder_weights, licence),
        _results(card, summary) if summary else "## Results\n\nIt was not scored on a test split.",
        _subgroups(summary) if summary else "",
        _exported(card),
        _latency(bench) if bench else "",
        _limits(card, data),
    ]
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def _facts(card: ModelCard, file: str, size: int) -> str:
    about = card.export or {}
    rows = [
        ("File", f"`{file}`, {file_size(size)}, ONNX opset {about.get('opset', '?')}, {about['precision']}")
        if about
        else ("File", f"`{file}`, {file_size(size)}"),
        ("Network", f"{_network(card.model)}, {card.parameters:,} parameters"),
        ("Input", f"`image` float32 [n, 3, {card.input_size}, {card.input_size}], RGB in [0, 1]"),
        ("Output", f"`logits` float32 [n, 1, {card.input_size}, {card.input_size}]; σ(logit) is the "
         f"probability of lesion, lesion above {card.threshold:g}"),
        ("Weights", f"SHA-256 `{card.weights_sha256}`"),
        ("Made", f"{card.created}, seed {card.seed}, epoch {card.epoch} (best on validation)"),
    ]  # fmt: skip
    return _table(("", ""), rows)


def _training(
    card: ModelCard, data: Mapping[str, Any], encoder_weights: str | None, licence: str | None
) -> str:
    counts = data.get("counts", {})
    lines = [
        "## Training data",
        f"`{data.get('name', card.dataset['name'])}`, {data.get('title', '')}. "
        f"Licence of the images: {licence or data.get('license', 'unknown')}. "
        f"{counts.get('train', '?')} training, {counts.get('val', '?')} validation, "
        f"{counts.get('test', '?')} test images "
        f"(fingerprint `{card.dataset['fingerprint'][:16]}`). Prepared by `{data.get('command', '?')}`.",
    ]
    if encoder_weights:
        lines.append(
            f"Before that, its encoder had been trained on ImageNet photographs (`{encoder_weights}`: "
            "weights that others have published under the Apache-2.0 licence). Those photographs are not "
            "CC-0; none of them is part of the file."
            if encoder_weights == "imagenet" or "efficientnet" in encoder_weights
            else f"Its encoder began with the weights `{encoder_weights}`."
        )
    if card.teacher and (several := card.teacher.mean_of):
        each = "\n".join(f"- {_teacher(one)}" for one in several)
        group = f"{len(several)} teachers, fine-tuned on lesions"
        sentence = (
            f"It was distilled from {group}, each training image by those that were trained without it:"
            if card.teacher.folds
            else f"It was distilled from the mean of {group}:"
        )
        lines.append(f"{sentence}\n\n{each}")
    elif card.teacher:
        tuned = "" if card.teacher.fine_tuned else ", which was not fine-tuned on lesions"
        if card.teacher.source:
            tuned = ", which others made: the images that it has seen are not known here"
        lines.append(f"It was distilled from a teacher: {_teacher(card.teacher)}{tuned}.")
    else:
        lines.append("It was trained on the masks alone, without a teacher.")
    if card.teacher and card.teacher.cached_logits:
        lines.append(
            "The answer that taught an image is the mean over its four flips; it was asked for once, and "
            "moved with the image."
        )
    return "\n\n".join(lines)


def _results(card: ModelCard, summary: Mapping[str, Any]) -> str:
    scores = summary["scores"]
    rows = [
        (title, *_percent(scores[name])) for name, title in METRICS.items() if name in scores
    ]  # fmt: skip
    return "\n\n".join(
        [
            "## Results",
            f"`{summary['data']['name']}`, {summary['split']} split, {summary['images']} images that chose "
            f"nothing. Protocol: {summary['protocol']}.",
            _table(("", "mean, %", "95 % CI"), rows),
        ]
    )


def _subgroups(summary: Mapping[str, Any]) -> str:
    rows = [
        (
            subgroup.get("label", name) if place == 0 else "",
            f"{level['level']}{' (few images)' if level.get('small') else ''}",
            str(level["n"]),
            *_percent(level["dice_per_image_mean"]),
        )
        for name, subgroup in summary.get("by_stratum", {}).items()
        for place, level in enumerate(subgroup["levels"])
    ]
    if not rows:
        return ""
    return "\n\n".join(
        ["### By kind of image (Dice)", _table(("", "", "images", "mean, %", "95 % CI"), rows)]
    )


def _exported(card: ModelCard) -> str:
    about = card.export
    if about is None:
        return ""
    parity = about["parity"]
    lines = [
        "## Export",
        f"Held against PyTorch on {parity['dice_drop']['n']} validation images: largest logit difference "
        f"{parity['logit_difference']:.1e}, {percent(parity['changed_pixels'], 3)} % of the pixels change.",
    ]
    if int8 := about.get("int8"):
        drop = Interval(**int8["dice_drop"])
        verdict = "within" if int8["reached"] else "MISSING"
        lines.append(
            f"The int8 file ({int8['step']}, calibrated on {int8['calibration_images']} training images) "
            f"loses {percent(drop.mean)} Dice points on validation (paired, 95 % CI "
            f"{span(drop)}), {verdict} the goal of {percent(int8['goal'], 1)}."
        )
    return "\n\n".join(lines)


def _latency(bench: Mapping[str, Any]) -> str:
    rows = [
        (
            model["name"],
            file_size(model.get("bytes")),
            f"{model['latency']['1x1']['median_ms']:.1f} ms",
            f"{model['ratio']:.2f}",
        )
        for model in bench["models"]
    ]
    return "\n\n".join(
        [
            "## Latency",
            f"One image, one thread, median; interleaved in one run on {bench['machine']['processor']}, so "
            "that the ratios hold where the milliseconds do not.",
            _table(("", "file", "latency", "ratio"), rows),
        ]
    )


def _limits(card: ModelCard, data: Mapping[str, Any]) -> str:
    return "\n".join(
        [
            "## Limits and intended use",
            "",
            "- Intended: outlining one pigmented lesion in a dermoscopic photograph, for research, teaching "
            "and tools in which a person checks the outline. Not intended: diagnosis, triage, or any "
            "decision about a patient.",
            "- It was trained on dermoscopy. Clinical photographs, several lesions in one picture, nails and "
            "mucosa were not scored.",
            "- ISIC's images are mostly of light skin. The subgroups above show how few images there are of "
            "other skin, and on which kinds of image it does worse; a row with few images says little.",
            f"- It sees the whole picture squashed to {card.input_size}×{card.input_size} pixels: finer "
            "detail of the border is lost.",
            f"- The truth is one expert's outline per image. {data.get('remark', '')}".rstrip(),
        ]
    )


def _percent(interval: Mapping[str, Any]) -> tuple[str, str]:
    value = Interval(**interval)
    return percent(value.mean), span(value)


def _network(model: Mapping[str, Any]) -> str:
    encoder = model.get("encoder")
    return f"{model['arch']}{f' on {encoder}' if encoder else ''}"


def _teacher(record: TeacherRecord) -> str:
    parts = [f"`{record.run}`"] if record.run else []
    parts += [_network(record.model)] if record.model else [record.source] if record.source else []
    parts += [f"trained without part {record.fold}"] if record.fold else []
    parts += [f"weights SHA-256 `{record.weights_sha256}`"] if record.weights_sha256 else []
    return ", ".join(parts)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
