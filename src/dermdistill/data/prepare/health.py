"""Masks that are wrong without anybody noticing: counted for every data set, and refused where it is sure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from dermdistill.core.errors import DataError
from dermdistill.data.prepare.packing import Record
from dermdistill.data.prepare.pairing import Pair

INVERTED_BORDER = 0.9
"""Share of a mask's border that is lesion, from which on the mask is taken for inverted: lesions that reach
the border do so at a part of it."""


def health_of(records: Sequence[Record], pairs: Sequence[Pair]) -> dict[str, Any]:
    """What the masks of a data set are like, for ``dataset.json``.

    Args:
        records: Of the pairs, in their order.
        pairs: Those without a mask do not count.

    Returns:
        Counts, and the smallest, middle and largest share of the image that is lesion (empty masks do not
        count). Empty where there are no masks.

    Raises:
        DataError: The masks are surely wrong: all empty, most of them inverted, or written in two ways.
    """
    masked = [record for record, pair in zip(records, pairs, strict=True) if pair.mask is not None]
    if not masked:
        return {}
    shares = sorted(record.mask_fraction for record in masked if record.mask_fraction > 0)
    written = Counter(record.written_as for record in masked)
    inverted = [record for record in masked if record.border >= INVERTED_BORDER]
    _refuse_wrong(masked, len(shares), written, inverted, pairs)
    return {
        "masks": len(masked),
        "written_as": dict(written),
        "empty": len(masked) - len(shares),
        "greys": sum(record.thresholded for record in masked),
        "inverted": [pairs[record.row].image_id for record in inverted],
        "turned_by_exif": sum(record.orientation != 1 for record in masked),
        "fit_better_unturned": [pairs[record.row].image_id for record in masked if record.fits_unturned],
        "lesion_share": [shares[0], shares[len(shares) // 2], shares[-1]],
    }


def _refuse_wrong(
    masked: Sequence[Record], lesions: int, written: Counter[str], inverted: Sequence[Record],
    pairs: Sequence[Pair],
) -> None:  # fmt: skip
    first = pairs[masked[0].row].mask
    if not lesions:
        raise DataError(
            f"All of the {len(masked)} masks are empty; the first is {first}.",
            "a lesion in some of them, also with --allow-empty",
            "Check what the files hold: their values may be classes, or they may not be the masks.",
        )
    if 2 * len(inverted) > len(masked):
        raise DataError(
            f"{len(inverted)} of {len(masked)} masks hold lesion all around their border, such as "
            f"{pairs[inverted[0].row].mask}: they are inverted.",
            "white where the lesion is, black elsewhere",
            "Invert the masks, and run the same command again.",
        )
    if written["0/1"] and written["0/255"] + written["16 bits"]:
        names = [str(pairs[r.row].mask) for r in masked if r.written_as == "0/1"]
        raise DataError(
            f"{len(names)} masks reach no further than 1, such as {names[0]}; the others reach to white.",
            "masks that are written in one way",
            "Look at these: they may be empty but for a stray pixel, or written as 0 and 1 (write 255).",
        )


def to_text(health: dict[str, Any]) -> str:
    """The health of a data set as a short table, for people."""
    low, middle, high = health["lesion_share"]
    usual = health["written_as"].get("0/255", 0) == health["masks"]
    written = ", ".join(f"{what}: {count}" for what, count in health["written_as"].items())
    rows = [
        ("masks", f"{health['masks']}, lesion {low:.1%} to {high:.1%} of the image, median {middle:.1%}"),
        ("written as", "" if usual else written),
        ("with greys", health["greys"] and f"{health['greys']}, thresholded at half of white"),
        ("empty", health["empty"]),
        ("inverted, it seems", _some(health["inverted"])),
        ("images turned by EXIF", health["turned_by_exif"]),
        ("fit better unturned", _some(health["fit_better_unturned"])),
    ]  # fmt: skip
    return "\n".join(f"  {name:<22}{value}" for name, value in rows if value)


def _some(names: Sequence[str]) -> str:
    if not names:
        return ""
    more = f" … and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{len(names)}: {', '.join(names[:5])}{more}"
