"""What an archive on a Ray cluster of this machine takes: rows a second, rows lost, memory over time.

    python benchmarks/archive.py --images ../shared/data/isic2017-256/images --rows 10000 --workers 1 2

The images at hand are repeated as links until there are so many files; each number of workers segments all of
them into a new table. Rates are from the first partition to the last, without the start of the cluster.
"""

from __future__ import annotations

import argparse
import json
import shutil
import threading
import time
from pathlib import Path

import psutil
import pyarrow.dataset

from dermdistill.imaging.find import find_images
from dermdistill.workflows.ray_predict import predict_archive


def link_archive(images: Path, folder: Path, count: int) -> None:
    """``count`` links to the images, a thousand in each folder."""
    sources = find_images([images])
    for number in range(count):
        path = folder / f"{number // 1000:04d}" / f"{number:07d}{sources[number % len(sources)].suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.symlink_to(sources[number % len(sources)].resolve())


class Memory(threading.Thread):
    """Samples the resident memory and the CPU seconds of the actors and of the driver, every two seconds."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.workers: list[float] = []
        self.driver: list[float] = []
        self.cpu: dict[int, float] = {}
        self.over = threading.Event()

    def run(self) -> None:
        """Sample until ``over``."""
        own = psutil.Process()
        while not self.over.wait(2):
            total = 0.0
            for process in own.children(recursive=True):
                try:
                    if process.name().startswith("ray::MapWorker"):
                        total += process.memory_info().rss / 2**20
                        self.cpu[process.pid] = sum(process.cpu_times()[:2])
                except psutil.Error:
                    continue
            if total:
                self.workers.append(total)
                self.driver.append(own.memory_info().rss / 2**20)


def measure(folder: Path, table: Path, workers: int, count: int) -> dict[str, object]:
    """One run."""
    shutil.rmtree(table, ignore_errors=True)
    memory = Memory()
    memory.start()
    start = time.perf_counter()
    for _ in predict_archive([str(folder)], str(table), workers=workers):
        pass
    wall = time.perf_counter() - start
    memory.over.set()
    found = pyarrow.dataset.dataset(table).to_table(columns=["path", "error"])
    paths = set(found["path"].to_pylist())
    written = sorted(path.stat().st_mtime for path in table.iterdir())
    tenth = max(1, len(memory.workers) // 10)
    return {
        "workers": workers, "rows": found.num_rows, "lost": count - len(paths),
        "twice": found.num_rows - len(paths), "errors": sum(map(bool, found["error"].to_pylist())),
        "wall_seconds": wall,
        "rows_per_second": count * (1 - 1 / len(written)) / max(written[-1] - written[0], 1e-9),
        "worker_cpu_ms_per_row": 1000 * sum(memory.cpu.values()) / count,
        "workers_mib_after_a_tenth": memory.workers[tenth],
        "workers_mib_after_nine": memory.workers[-1 - tenth],
        "workers_mib_most": max(memory.workers), "driver_mib_after_a_tenth": memory.driver[tenth],
        "driver_mib_after_nine": memory.driver[-1 - tenth],
        "table_bytes_per_row": sum(p.stat().st_size for p in table.iterdir()) / count,
    }  # fmt: skip


def main() -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path, default=Path("../shared/data/isic2017-256/images"))
    parser.add_argument("--work", type=Path, default=Path("archive-benchmark"))
    parser.add_argument("--rows", type=int, default=50000)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    folder = options.work / f"images-{options.rows}"
    link_archive(options.images, folder, options.rows)
    results = [measure(folder, options.work / "results.parquet", n, options.rows) for n in options.workers]
    text = json.dumps(results, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
