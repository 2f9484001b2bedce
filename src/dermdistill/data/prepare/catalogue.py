"""Prepare a data set of the catalogue: those of the ISIC archive, PH2, and phantoms, which are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dermdistill.core.lock import locked
from dermdistill.data.dataset import PreparedData
from dermdistill.data.download.catalog import PHANTOM, SOURCES, Source
from dermdistill.data.download.fetch import fetch_source
from dermdistill.data.prepare.assemble import Job, assemble, discard_archives, reuse
from dermdistill.data.prepare.exclude import exclude_pairs, read_exclusions
from dermdistill.data.prepare.official import official_pairs, ph2_pairs, phantom_pairs
from dermdistill.data.prepare.pairing import Pairing
from dermdistill.data.prepare.phantom import write_phantoms
from dermdistill.data.prepare.settings import (
    CatalogueSettings,
    Isic2016Settings,
    Ph2Settings,
    PhantomSettings,
    check,
)

PHANTOM_TEST_FRACTION = 0.2
PHANTOM_SIDE = 256
"""Native side of generated images in pixels: any pack size is made from the same pictures."""


def prepare_official(
    settings: CatalogueSettings,
    *,
    bases: Sequence[str] | None = None,
    backoff: float = 1.0,
    progress: bool,
) -> PreparedData:
    """An ISIC data set: fetched, checked, unpacked, paired."""
    check(settings)
    source, folder = SOURCES[settings.default_name], settings.folder
    identity: dict[str, Any] = {"source": source.name, "allow_empty": settings.allow_empty}
    seed, val_fraction = 0, 0.15
    if isinstance(settings, Isic2016Settings):
        seed, val_fraction = settings.seed, settings.val_fraction
        identity |= {"seed": seed, "val_fraction": val_fraction}
    exclusions = None
    if settings.exclude is not None:
        exclusions = read_exclusions(settings.exclude, [settings.dataset_name, source.name])
        identity |= {"exclude": exclusions.sha256}
    with locked(folder):
        if (data := reuse(settings, identity, progress=progress)) is not None:
            return data
        records = fetch_source(
            source, folder, archives=settings.archives, bases=bases, verify=settings.verify,
            progress=progress, backoff=backoff,
        )  # fmt: skip
        pairing = official_pairs(source, folder)
        pairs, excluded = exclude_pairs(pairing.pairs, exclusions)
        job = Job(
            settings, source.title, source.license, _origin(source, records) | excluded, identity, pairs,
            _without_partner(pairing), seed, val_fraction, settings.allow_empty,
        )  # fmt: skip
        data = assemble(job, progress=progress)
        if settings.discard_archives:
            discard_archives(folder)
        return data


def prepare_ph2(settings: Ph2Settings, *, progress: bool) -> PreparedData:
    """PH2, unpacked by hand."""
    check(settings)
    source, archives = SOURCES["ph2"], settings.archives
    identity = {"source": source.name, "allow_empty": settings.allow_empty}
    with locked(settings.folder):
        if (data := reuse(settings, identity, progress=progress)) is not None:
            return data
        pairing = ph2_pairs(archives)
        records = [{"from": str(archives and archives.resolve())}]
        job = Job(
            settings, source.title, source.license, _origin(source, records), identity, pairing.pairs,
            _without_partner(pairing), allow_empty=settings.allow_empty,
        )  # fmt: skip
        return assemble(job, progress=progress)


def prepare_generated(settings: PhantomSettings, *, progress: bool) -> PreparedData:
    """Phantoms, drawn."""
    check(settings)
    count, seed = settings.count, settings.seed
    identity = {"source": PHANTOM, "count": count, "seed": seed, "val_fraction": settings.val_fraction}
    with locked(settings.folder):
        if (data := reuse(settings, identity, progress=progress)) is not None:
            return data
        raw = settings.folder / "raw" / f"seed-{seed}-count-{count}"
        write_phantoms(raw, count, PHANTOM_SIDE, seed, progress=progress)
        job = Job(
            settings, "Generated phantoms (no evidence)", "MIT",
            {"generator": "dermdistill.data.prepare.phantom", "count": count, "seed": seed},
            identity, phantom_pairs(raw, max(1, round(count * PHANTOM_TEST_FRACTION))),
            seed=seed, val_fraction=settings.val_fraction,
        )  # fmt: skip
        return assemble(job, progress=progress)


def _origin(source: Source, records: Sequence[Any]) -> dict[str, Any]:
    """Where the files came from, for ``dataset.json``."""
    return {"catalogue": source.name, "page": source.page, "files": records}


def _without_partner(pairing: Pairing) -> dict[str, list[str]]:
    """The files that are not used, by reason."""
    return {
        "images without a mask (left out)": [path.name for path in pairing.images_without_mask],
        "masks without an image (left out)": [path.name for path in pairing.masks_without_image],
    }
