"""``dermdistill audit``."""

from __future__ import annotations

import os
from pathlib import Path

from dermdistill.cli.common import print_json, show_progress
from dermdistill.core.errors import UsageError


def audit(
    data: tuple[str, ...],
    /,
    root: Path = Path("data"),
    out: Path = Path("audit"),
    manifest: Path | None = None,
    split_column: str | None = None,
    pages: int = 12,
    cache: Path | None = None,
    json: bool = False,
) -> int:
    """Find images that training and test share: equal, near-duplicate, or of the same lesion.

    Exit code 1 when a training image shows what a validation or test image shows.

    Args:
        data: Names or folders of prepared data sets; folders of images (FOLDER=train, =val or =test).
        root: Folder that holds the prepared data sets.
        out: Folder for audit.csv, audit.json and pairs.png.
        manifest: CSV that gives the folders' images a split, and a group (lesion_id, patient_id).
        split_column: Its column with the split.
        pages: Most pages of pictures, eight pairs each; 0 for none.
        cache: File of the fingerprints (default: in the folder of the results).
        json: Print audit.json instead of the table.
    """
    # Before NumPy is imported: whole images are shared out among the cores. Where OpenBLAS shares out each
    # small product too, its threads wait for each other: 8.2 ms of CPU time a pair on two cores, else 0.3.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

    from dermdistill.audit import entries, report
    from dermdistill.audit.features import check_installed
    from dermdistill.audit.run import audit as do_audit

    if not data:
        raise UsageError(
            "dermdistill audit needs something to look at.",
            "dermdistill audit DATA…, the names of prepared data sets or folders of images",
            "Name one: dermdistill audit isic2016",
        )
    if pages < 0:
        raise UsageError(
            f"--pages is {pages}.",
            "0 or more",
            "Set --pages to 0 for no pictures, or to how many pages you want.",
        )
    check_installed()
    audited = entries.collect(data, root, manifest=manifest, split_column=split_column)
    result = do_audit(audited, out, cache=cache, pages=pages, progress=show_progress())
    if json:
        print_json(report.to_json(result))
    else:
        print(_words(result, out))
    return 1 if result.leaks else 0


def _words(result, out: Path) -> str:  # type: ignore[no-untyped-def]
    from dermdistill.audit import report

    leaks = result.leaks
    lines = [report.table(result), ""]
    lines += [f"{'WARNING' if overlap.is_warning else 'note'}: {overlap}" for overlap in result.overlaps]
    if result.featureless:
        lines.append(
            f"{result.featureless} images have too few features: they were compared for equality only."
        )
    if result.unreadable:
        lines.append(f"{len(result.unreadable)} images cannot be read (listed in audit.json).")
    if leaks:
        inside = len({(pair.a.set_name, pair.a.image_id) for pair in leaks})
        lines.append(
            f"LEAK: {len(leaks)} pairs cross from training into validation or test; {inside} training images."
        )
        lines.append(
            f"To leave these out: --exclude {out / 'audit.csv'} (prepare), or --data.exclude (train)."
        )
    else:
        lines.append("No pair crosses from training into validation or test.")
    lines.append(f"{len(result.entries)} images, {len(result.pairs)} pairs: {out / 'audit.csv'}")
    return "\n".join(lines)
