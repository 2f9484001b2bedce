"""One fresh process of `dermdistill bench`: load a network, run it on one image, report time and memory.

python -m dermdistill.benchmark.cold_start FILE.onnx SIZE        (no torch is imported)
python -m dermdistill.benchmark.cold_start RUN|FILE.py:FACTORY SIZE
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np


def resident_peak_mb() -> float | None:
    """Read the largest resident memory so far, in 10⁶ bytes; None where the system does not say.

    From /proc where there is one: `getrusage` may count the parent's memory before exec.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        lines = status.read_text(encoding="ascii", errors="replace").splitlines()
        return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM")), None)
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak) * (1 if sys.platform == "darwin" else 1024) / 1e6


def main(arguments: list[str]) -> None:
    """Measure one cold start, and print it as one line of JSON.

    Args:
        arguments: The model, and the side of its images in pixels.
    """
    model, size = arguments[0], int(arguments[1])
    image = np.zeros((1, 3, size, size), np.float32)
    if model.endswith(".onnx"):
        import onnxruntime  # noqa: F401 (it belongs to the start, not to the network)

        from dermdistill.benchmark.latency import onnx_runner

        before, start = resident_peak_mb(), time.perf_counter()
        run = onnx_runner(Path(model), 1)
    else:
        from dermdistill.benchmark.torch_models import load_module, torch_runner

        before, start = resident_peak_mb(), time.perf_counter()
        run = torch_runner(load_module(model)[0], 1)
    loaded = time.perf_counter()
    run(image)
    peak = resident_peak_mb()
    beyond = None if peak is None or before is None else peak - before
    report = {"load_seconds": loaded - start, "peak_mb": peak, "beyond_start_mb": beyond}
    sys.stdout.write(json.dumps(report) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
