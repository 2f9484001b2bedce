"""A study folder as `dermdistill study` leaves it, made in a second; and an audit's.

Its cells are those of `reportcells`. The layout follows the study's contract.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dermdistill.metrics.overlap import SCORES, scores
from reportcells import CellMaker, calibration, plain


class StudyMaker(CellMaker):
    """Writes the folder; its parts can be made again with other content."""

    def write(self, *, with_table: bool = True, **changes: Any) -> Path:
        """Cells, and study.json unless the study is not that far."""
        entries = [self._arm(arm) for arm in self.arms]
        if with_table:
            self._write_study(entries, changes)
        return self.folder

    def _arm(self, arm: str) -> dict[str, Any]:
        seeds = range(1 if arm == "teacher" else self.seeds)
        found = [self._cell(arm, seed) for seed in seeds]
        tables = [scores(counts) for counts in found]
        mean = {name: np.mean([table[name] for table in tables], axis=0) for name in SCORES}
        self.dice[arm] = mean["dice"]
        diagnosis = np.array([self.data.manifest[row].diagnosis for row in self.rows])
        levels = [
            {
                "level": str(d),
                "n": int((diagnosis == d).sum()),
                "small": True,
                "dice": plain(mean["dice"][diagnosis == d]),
            }
            for d in np.unique(diagnosis)
        ]
        return {
            "arm": arm,
            "title": arm,
            "role": "teacher" if arm == "teacher" else "student",
            "verb": "train",
            "set": {},
            "seeds": list(seeds),
            "parameters": 482_193 if arm != "teacher" else 3_858_769,
            "macs": 312_000_000 if arm != "teacher" else None,
            "bytes": 1_934_000,
            "input_size": self.size,
            "epochs": 5,
            "steps": 100,
            "seconds": 61.0,
            "scores": {name: {**plain(values), "by_seed": []} for name, values in mean.items()},
            "kept": None,
            "failures": 1.0,
            "calibration": calibration(),
            "agreement": {
                "teacher": "teacher-seed0",
                "taught": True,
                "dice": plain(mean["dice"]),
                "difference": plain(mean["dice"]),
            }
            if arm.startswith("kl")
            else None,
            "by_stratum": {"diagnosis": {"label": "diagnosis", "note": "", "levels": levels}},
            "cells": [
                {
                    "seed": seed,
                    "run": f"cells/{arm}-seed{seed}",
                    "evaluation": f"cells/{arm}-seed{seed}/evaluation/phantom-test",
                }
                for seed in seeds
            ],
        }

    def _write_study(self, entries: list[dict[str, Any]], changes: dict[str, Any]) -> None:
        comparisons, strata = [], {}
        baseline = "alone" if "alone" in self.arms else list(self.arms)[1]
        for arm in self.arms:
            if arm == baseline:
                continue
            apart = self.dice[arm] - self.dice[baseline]
            d = plain(apart)
            sure = d["low"] > 0 or d["high"] < 0
            metrics = {
                name: {
                    **d,
                    "sd": float(apart.std()),
                    "p_bootstrap": 0.0004 if sure else 0.31,
                    "p_wilcoxon": 0.02,
                    "p_holm": None if arm == "teacher" else 0.0008 if sure else 0.62,
                    "by_seed": [],
                    "resolvable": 0.006,
                    "better": float((apart > 0).mean()),
                    "worse": float((apart < 0).mean()),
                    "same": 0.0,
                }
                for name in ("dice", "jaccard")
            }
            verdict = "no gain" if not sure else "gain" if d["mean"] > 0 else "loss"
            comparisons.append(
                {
                    "arm": arm,
                    "baseline": baseline,
                    "seeds": list(range(self.seeds)),
                    "n": len(apart),
                    "metrics": metrics,
                    "verdict": verdict,
                    "words": f"{arm}: {verdict} against {baseline}.",
                }
            )
            levels = entries[list(self.arms).index(arm)]["by_stratum"]["diagnosis"]["levels"]
            strata[arm] = {
                "diagnosis": [{**d, "level": lv["level"], "n": lv["n"], "small": True} for lv in levels]
            }
        study = {
            "format": 1,
            "name": self.name,
            "question": "Does distillation help?",
            "created": "2026-11-24T21:00:00+00:00",
            "complete": True,
            "missing": [],
            "not_run": [],
            "baseline": baseline,
            "primary": "dice",
            "seeds": list(range(self.seeds)),
            "budget": "steps",
            "protocol": "per image",
            "statistics": "paired bootstrap.",
            "data": {
                "name": "phantom",
                "fingerprint": self.data.fingerprint,
                "title": "phantoms",
                "split": "test",
                "images": len(self.rows),
            },
            "human": {
                "label": "human against human",
                "mean": 0.8685,
                "low": 0.856,
                "high": 0.88,
                "n": 167,
                "source": "ISIC 2016's masks",
                "comparable": False,
                "note": "other images",
            },
            "audit": None,
            "commands": ["dermdistill study phantom"],
            "versions": {"python": "3.11.7"},
            "verdict": "",
            "arms": entries,
            "comparisons": comparisons,
            "strata_differences": strata,
            **changes,
        }
        (self.folder / "study.json").write_text(json.dumps(study), encoding="utf-8")


def write_audit(folder: Path, first: str, second: str) -> Path:
    """What `dermdistill audit` leaves: one pair that crosses, one official overlap."""
    folder.mkdir(parents=True)
    where = {
        "from": "phantom/train",
        "to": "phantom/test",
        "level": "near-duplicate",
        "leak": True,
        "pairs": 1,
    }
    overlap = {"set": "isic2017", "split": "train", "challenge": "isic2016", "official_split": "test"}
    found = {
        "leaks": 1,
        "images": [{"set": "phantom", "split": "train", "count": 900}],
        "table": [{**where, "pairs": 1}],
        "official": [{**overlap, "count": 305, "of": 379, "warning": True}],
    }
    (folder / "audit.json").write_text(json.dumps(found), encoding="utf-8")
    sides = {"a": (first, "phantom", "train"), "b": (second, "phantom", "test")}
    row = {
        f"{name}_{s}": v
        for s, values in sides.items()
        for name, v in zip(("image", "set", "split"), values, strict=True)
    }
    row |= {"crosses": "yes", "level": "near-duplicate", "kind": "features", "score": "41", "mirrored": "no"}
    with (folder / "audit.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(row))
        writer.writeheader()
        writer.writerow(row)
    Image.new("RGB", (1600, 800)).save(folder / "pairs.png")
    return folder
