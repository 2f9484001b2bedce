"""The fault campaign: a seeded piece of it in every check, and its judge."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.faults.__main__ import table
from benchmarks.faults.campaign import KINDS, campaign
from benchmarks.faults.trial import Ended, Product, Trial, broken_files

SRC = Path(__file__).parents[2] / "src"


def test_a_seeded_piece_of_the_campaign_loses_nothing(tmp_path: Path) -> None:
    with Product(SRC) as product:
        trials = list(campaign(product, tmp_path, seed=0, quick=True, only=None))
    assert [trial for trial in trials if trial.lost] == []
    assert len(trials) >= 200


def test_the_whole_campaign_has_what_was_asked_for() -> None:
    counts = {kind: count for kind, (_, count, _) in KINDS.items()}
    assert counts["predict"] + counts["pairs"] + counts["names"] >= 1300
    wanted = {
        "archives": 26,
        "checkpoints": 22,
        "cards": 35,
        "onnx": 34,
        "recipes": 32,
        "kills": 31,
        "full": 18,
    }
    assert all(counts[kind] >= least for kind, least in (wanted | {"read-only": 13}).items())


@pytest.mark.parametrize(
    ("ended", "problem"),
    [
        (Ended(-7, "", "", 1, False, 100), "died of SIGBUS"),
        (
            Ended(1, "", "Traceback (most recent call last):\n…\nOSError: no", 1, False, 100),
            "traceback: OSError: no",
        ),
        (Ended(-9, "", "", 11, True, 100), "hang"),
        (Ended(0, "\x1b[31mname", "", 1, False, 100), "escape codes on the terminal"),
        (Ended(0, "", "", 1, False, 9000), "9000 MiB of memory"),
        (Ended(3, "", "what", 1, False, 100), "exit code 3: what"),
    ],
)
def test_what_no_command_may_do(ended: Ended, problem: str) -> None:
    assert ended.problems() == [problem]


def test_a_file_that_was_cut_under_its_final_name_is_found(tmp_path: Path) -> None:
    (tmp_path / "whole.json").write_text("{}", encoding="utf-8")
    (tmp_path / "cut.json").write_text('{"a": ', encoding="utf-8")
    (tmp_path / ".temporary.json").write_text('{"a": ', encoding="utf-8")
    (tmp_path / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "lines.jsonl").write_text('{"a": 1}\n{"b"', encoding="utf-8")  # grows line by line
    assert [text.split(":")[0] for text in broken_files(tmp_path)] == ["broken cut.json", "broken cut.png"]


def test_the_table_counts_each_kind() -> None:
    text = table([Trial("a", "1"), Trial("a", "2", ("hang",)), Trial("b", "3")])
    assert text.splitlines()[2:] == ["| a | 2 | 1 | 1 |", "| b | 1 | 1 | 0 |", "| **all** | 3 | 2 | 1 |"]
