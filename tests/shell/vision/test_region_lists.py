"""Packed lists hold what was put in, and lose only what is taken out."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.vision.document import RegionType
from gateway.shell.vision.region_lists import (
    BLOCK,
    LAYOUT,
    MAX_PAGE,
    TYPES,
    ListedRegions,
    runs_by_block,
    without,
    words_bytes,
    words_from,
)

numbers = st.sets(st.integers(0, 3 * BLOCK) | st.integers(2**40, 2**40 + 50), max_size=20).map(sorted)
words = st.integers(0, 2**32 - 1) | st.integers(-(2**63), -2)


@given(made=numbers, impacts=st.dictionaries(words, st.integers(1, 255), max_size=5), page=st.integers(1, MAX_PAGE))
def test_what_is_packed_is_unpacked_the_same(made: list[int], impacts: dict[int, int], page: int) -> None:
    """Each region under each of its words, and where it stands; rows come in the order in which they are kept."""
    listed = ListedRegions()
    for number in made:
        listed.add(number, (7, page, RegionType.CODE), impacts)
    rows = list(listed.rows())
    entries, places = {}, []
    for word, block, data in rows:
        if word == LAYOUT:
            places += [(block * BLOCK + at, *rest) for at, *rest in struct.iter_unpack("<HIIB", data)]
        else:
            told = [(block * BLOCK + at, impact) for at, impact in struct.iter_unpack("<HB", data)]
            entries[word] = entries.get(word, []) + told

    assert places == [(number, 7, page, TYPES.index(RegionType.CODE)) for number in made]
    assert entries == (
        {word: [(number, impact) for number in made] for word, impact in impacts.items()} if made else {}
    )
    assert [row[:2] for row in rows] == sorted(row[:2] for row in rows)
    assert listed.words == (sorted(impacts) if made else [])
    assert words_from(words_bytes(listed.words)) == listed.words


@pytest.mark.parametrize("word", [5, LAYOUT])
@given(made=numbers, runs=st.lists(st.tuples(st.integers(0, 3 * BLOCK), st.integers(1, 9)), max_size=4))
def test_what_is_taken_out_leaves_the_others(word: int, made: list[int], runs: list[tuple[int, int]]) -> None:
    """As they were, in every block."""
    apart, behind = [], -1
    for start, count in sorted(runs):
        if start >= behind:
            apart.append(range(start, start + count))
            behind = start + count
    gone = runs_by_block(apart)

    def rows_of(numbers: list[int]) -> dict[int, bytes]:
        listed = ListedRegions()
        for number in numbers:
            listed.add(number, (7, 1, RegionType.TEXT), {5: 9})
        return {block: data for each, block, data in listed.rows() if each == word}

    left = {block: without(word, data, gone.get(block, [])) for block, data in rows_of(made).items()}
    expected = rows_of([number for number in made if not any(number in run for run in apart)])

    assert {block: data for block, data in left.items() if data} == expected


def test_types_keep_their_places() -> None:
    """They stand in files."""
    assert [type_.value for type_ in TYPES] == ["table", "figure", "code", "text"]
