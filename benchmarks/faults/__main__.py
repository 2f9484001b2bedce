"""``python -m benchmarks.faults``: a seeded campaign of faults against the command line, and its table.

``--quick`` is a piece of 200 files; ``--src`` tries another source tree, ``--only`` some of the kinds.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from benchmarks.faults.campaign import KINDS, campaign
from benchmarks.faults.trial import Product, Trial

HERE = Path(__file__).resolve().parents[2]


def table(trials: list[Trial]) -> str:
    """Markdown: tried, survived and lost of each kind."""
    kinds: dict[str, list[Trial]] = defaultdict(list)
    for trial in trials:
        kinds[trial.kind].append(trial)
    rows = ["| kind | tried | survived | lost |", "|---|---|---|---|"]
    for kind, those in [*kinds.items(), ("**all**", trials)]:
        lost = sum(bool(trial.lost) for trial in those)
        rows.append(f"| {kind} | {len(those)} | {len(those) - lost} | {lost} |")
    return "\n".join(rows)


def main() -> int:
    """Run the campaign; exit code 1 where something was lost."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="200 files, seconds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--src", type=Path, default=HERE / "src", help="the source tree to try")
    parser.add_argument("--only", nargs="+", choices=sorted(KINDS), default=None, metavar="KIND")
    parser.add_argument(
        "--work", type=Path, default=None, help="folder for all files; kept (default: a temporary one)"
    )
    parser.add_argument("--json", type=Path, default=None, help="write each trial here")
    options = parser.parse_args()
    product = Product(options.src.resolve())
    with tempfile.TemporaryDirectory(prefix="faults-") as temporary, product:
        trials = []
        started = time.monotonic()
        work = (options.work or Path(temporary)).resolve()
        for trial in campaign(product, work, options.seed, options.quick, options.only):
            trials.append(trial)
            if trial.lost:
                print(f"{trial.kind}: {trial.name}: {'; '.join(trial.lost)}", file=sys.stderr, flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps([vars(trial) for trial in trials], indent=1), encoding="utf-8")
    print(table(trials))
    print(f"\nseed {options.seed}, {time.monotonic() - started:.0f} s", file=sys.stderr)
    return any(trial.lost for trial in trials)


if __name__ == "__main__":
    sys.exit(main())
