"""Which pairs an audit looks at closely, where there are too many pictures to compare all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dermdistill.audit import search
from dermdistill.audit.features import fingerprint
from dermdistill.audit.store import Store
from pictures import compressed, phantom


def test_copies_and_mirrored_copies_are_looked_up_of_many(tmp_path: Path) -> None:
    pictures = {f"lesion-{i:02d}": phantom(i) for i in range(70)}
    for i in range(0, 20, 2):
        pictures[f"small-{i:02d}"] = compressed(phantom(i).resize((160, 160)), 60).resize((256, 256))
        pictures[f"turned-{i + 1:02d}"] = phantom(i + 1).transpose(Image.Transpose.TRANSVERSE)
    with Store(tmp_path / "fingerprints.sqlite") as store:
        store.add((key, fingerprint(np.asarray(picture))) for key, picture in pictures.items())
        pairs = search.look_up(list(pictures), store, progress=False)
    assert all(a < b for a, b, _ in pairs)
    assert pairs == sorted(set(pairs))
    copies = {(f"lesion-{i:02d}", f"small-{i:02d}", False) for i in range(0, 20, 2)}
    mirrored = {(f"lesion-{i:02d}", f"turned-{i:02d}", True) for i in range(1, 20, 2)}
    assert len(copies.intersection(pairs)) >= 9
    assert len(mirrored.intersection(pairs)) >= 9
    most = 2 * search.NEIGHBOURS + search.MIRRORED_NEIGHBOURS
    assert len(pairs) <= most * len(pictures) < len(pictures) ** 2 / 2


@pytest.mark.parametrize(("asked", "threads"), [(None, 1), ("2", 2)])
def test_openblas_gets_one_thread_unless_it_was_told_otherwise(
    asked: str | None, threads: int, tmp_path: Path
) -> None:
    """Its threads wait for each other beside the audit's own: 25 times the processor time a pair."""
    pytest.importorskip("threadpoolctl")
    if (os.cpu_count() or 1) < 2:
        pytest.skip("OpenBLAS has one thread on one core")
    for i in range(2):
        phantom(i).save(tmp_path / f"{i}.png")
    program = (
        "import sys; from dermdistill import cli; assert 'numpy' not in sys.modules;"
        f"cli.main(['audit', {str(tmp_path)!r}, '--out', {str(tmp_path / 'out')!r}, '--pages', '0']);"
        "import threadpoolctl;"
        "print([p['num_threads'] for p in threadpoolctl.threadpool_info() if 'numpy' in p['filepath']])"
    )
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    environment |= {"OPENBLAS_NUM_THREADS": asked} if asked else {}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == f"[{threads}]"
