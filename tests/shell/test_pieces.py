"""A text may be cut at these places for nothing."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.tokens.profiles import CL100K, O200K
from gateway.shell.tokens.pieces import _FAR_CHARS, PIECE_CHARS, _cut, find_cut
from tests.shell.tiktoken_reference import own_count, reference

ONE_BY_ONE = "aZéßǅ漢ʰ\u0301'’sSltrevmdTLREVMD079²Ⅷ٣½ाक👍🏽\ue000_-/!.,:;()\"`{}|~@#$%^&*+=<>?\\"
SPACES = " \t\r\n\x0b\x1c\x85\xa0\u2003\u3000\u200d，。"
TOGETHER = ["e\u0301", "'ll", "'RE", "  ", "\r\n", "\n\n", " \n"]
ALPHABET = st.sampled_from([*ONE_BY_ONE, *SPACES, *TOGETHER])


@pytest.fixture(scope="module", params=[O200K, CL100K])
def encoding(request):
    return reference(request.param)


@settings(max_examples=1500, deadline=None)
@given(text=st.lists(ALPHABET, max_size=24).map("".join) | st.text(max_size=24))
def test_every_cut_is_free(text, encoding):
    """Whatever stands around it: both parts cost what the whole does, to the token."""
    whole = encoding.encode_ordinary(text)
    for place in [found.start() for found in _cut.finditer(text)]:
        left, right = text[:place], text[place:]

        assert encoding.encode_ordinary(left) + encoding.encode_ordinary(right) == whole, (left, right)


PIECE = st.tuples(
    st.sampled_from(["word ", "x", " ", "\n", "漢", "\t", "1", "-", "é", "a b ", "aB", "a1"]), st.integers(1, 9000)
)


@settings(max_examples=100, deadline=None)
@given(text=st.lists(PIECE, max_size=6).map(lambda pieces: "".join(text * times for text, times in pieces)))
def test_pieces_are_bounded_and_go_on(text):
    """Each is longer than nothing, none is too long, the last ends with the text."""
    at = 0
    while at < len(text):
        end = find_cut(text, at)
        if end is None:
            assert len(text) - at > PIECE_CHARS
            at += PIECE_CHARS  # as if something else had counted on
            continue
        assert at < end <= at + PIECE_CHARS
        at = end
    assert at >= len(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("word " * 4000, PIECE_CHARS - PIECE_CHARS % 5 - 1),
        ("x" * 100 + " " + "y" * 20_000, 100),
        ("x" * 20_000, None),
        (" " * 20_000, None),
        ("7" * 20_000, PIECE_CHARS - PIECE_CHARS % 3),
        ("x" * (PIECE_CHARS - _FAR_CHARS) + "1" + "x" * 20_000, PIECE_CHARS - _FAR_CHARS + 1),
        ("x" * PIECE_CHARS, PIECE_CHARS),
        ("x" * PIECE_CHARS + " ", None),
    ],
)
def test_where_a_text_is_cut(text, expected):
    """At the last place of a piece where that is free; nowhere in a run that has none."""
    assert find_cut(text, 0) == expected


def test_a_digit_run_is_cut_at_threes(encoding):
    """Numbers are split in threes from where they begin, so a run of digits has free cuts, though not everywhere."""
    text = "".join(str(number) for number in range(8000))
    end = find_cut(text, 0)

    assert own_count(encoding, text[:end]) + own_count(encoding, text[end:]) == own_count(encoding, text)
