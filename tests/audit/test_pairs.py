"""From equal contents to pairs of named images."""

from __future__ import annotations

import numpy as np

from dermdistill.audit.entries import Entry
from dermdistill.audit.matching import Match
from dermdistill.audit.pairs import Pair, name_pairs
from dermdistill.audit.search import Content, MatchedContents
from pictures import entry


def content(name: str, pixels: str | None = None) -> Content:
    return Content(f"bytes-{name}", f"key-{pixels or name}", f"pixels-{pixels or name}")


def pairs_of(
    entries: list[Entry], contents: list[Content | None], found: list[MatchedContents] | None = None
) -> list[Pair]:
    return name_pairs(entries, contents, found or [])


def seen(
    a: str, b: str, inliers: int = 60, correlation: float = 0.95, mirrored: bool = False
) -> MatchedContents:
    return MatchedContents(
        f"key-{a}", f"key-{b}", mirrored, Match(inliers, 20.0, correlation, 1.0, np.eye(2, 3))
    )


def test_equal_pixels_in_training_and_test_are_a_leak() -> None:
    entries = [entry("x", "test"), entry("y", "train"), entry("z", "train")]
    [pair] = pairs_of(entries, [content("1", "p"), content("2", "p"), content("3")])
    assert (pair.a.image_id, pair.b.image_id) == ("y", "x")  # the one that is trained on comes first
    assert (pair.level, pair.kind, pair.crosses, pair.score) == ("exact", "pixels", True, None)


def test_only_training_against_validation_or_test_crosses() -> None:
    for one, other, crosses in (
        ("train", "val", True), ("train", "test", True), ("val", "test", False), ("train", "train", False),
        ("", "test", False), ("train", "", False),
    ):  # fmt: skip
        [pair] = pairs_of([entry("x", one), entry("y", other)], [content("1"), content("1")])
        assert pair.crosses == crosses, (one, other)
        assert pair.kind == "bytes+pixels"


def test_a_name_is_evidence_only_where_an_archive_gave_it() -> None:
    entries = [
        entry("1", "train"),
        entry("1", "test", "b"),
        entry("ISIC_0000001"),
        entry("ISIC_0000001", "test", "b"),
    ]
    first, second = pairs_of(entries, [content("1"), content("2"), content("3"), content("4")])
    assert (first.a.image_id, first.level, first.crosses) == ("ISIC_0000001", "exact", True)
    assert (second.a.image_id, second.level, second.crosses) == ("1", "same name", False)


def test_levels_come_from_features_and_pixels() -> None:
    entries = [entry(n, s) for n, s in (("a", "train"), ("b", "test"), ("c", "test"), ("d", "test"))]
    contents: list[Content | None] = [content(n) for n in "abcd"]
    found = [seen("a", "b"), seen("a", "c", correlation=0.5, mirrored=True), seen("a", "d", inliers=5)]
    first, second = pairs_of(entries, contents, found)
    assert (first.level, first.b.image_id, first.score, first.kind) == ("near-duplicate", "b", 60, "features")
    assert (second.level, second.b.image_id, second.mirrored) == ("probable same lesion", "c", True)


def test_the_match_says_which_image_it_starts_from() -> None:
    entries = [entry("a", "test"), entry("b", "train")]
    [pair] = pairs_of(entries, [content("a"), content("b")], [seen("a", "b")])
    assert pair.a.image_id == "b"
    assert pair.swapped
    [pair] = pairs_of(list(reversed(entries)), [content("b"), content("a")], [seen("a", "b")])
    assert pair.a.image_id == "b"
    assert pair.swapped


def test_of_several_matches_of_a_pair_the_better_one_stands() -> None:
    [pair] = pairs_of(
        [entry("a"), entry("b")], [content("a"), content("b")],
        [seen("a", "b", inliers=20), seen("a", "b", inliers=90, mirrored=True)],
    )  # fmt: skip
    assert (pair.score, pair.mirrored) == (90, True)


def test_a_lesion_of_the_manifest_on_both_sides_is_a_leak() -> None:
    entries = [
        entry("a", group="L1"),
        entry("b", "test", group="L1"),
        entry("c", "test", "other", group="L1"),
    ]
    [pair] = pairs_of(entries, [content("a"), content("b"), content("c")])
    assert (pair.level, pair.kind, pair.crosses) == ("same group", "group", True)  # L1 elsewhere is another


def test_many_equal_images_do_not_make_all_pairs() -> None:
    entries = [entry(f"t{i}") for i in range(300)] + [entry(f"x{i}", "test") for i in range(300)]
    pairs = pairs_of(entries, [content("same")] * 600)
    assert len(pairs) < 1300
    leaking = {pair.a.image_id for pair in pairs if pair.crosses}
    assert leaking == {f"t{i}" for i in range(300)}  # yet each of the training side is there


def test_an_unreadable_image_has_no_pairs_but_its_name() -> None:
    entries = [entry("a", group="g"), entry("b", "test", group="g")]
    [pair] = pairs_of(entries, [None, content("b")])
    assert pair.kind == "group"
