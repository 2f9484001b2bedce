"""The benchmark of training on a CPU: its variants run, and learn the same."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_variants_learn_the_same(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import cpu_training

    found = {}
    for variant in ("plain loop", "ours before", "ours"):
        options = f"--data.root {root} --size 32 --batch-size 2 --student unet-w4 --steps 2 --threads 1"
        monkeypatch.setattr(sys, "argv", ["cpu_training.py", *options.split(), "--variant", variant])
        cpu_training.main()
        found[variant] = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert found[variant]["images_per_second"] > 0
        assert found[variant]["parts"]["backward"] > 0
    before, now = found["ours before"]["losses"], found["ours"]["losses"]
    assert len(now) == cpu_training.WARM_UP + 2
    assert now == pytest.approx(before, abs=1e-4)
    summary = {name: cpu_training.summarise([run], [found["ours before"]]) for name, run in found.items()}
    assert "| ours |" in cpu_training.to_text({"variants": summary})
