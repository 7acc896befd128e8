"""Records of messages: passages cover the text in order, and are bounded."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.context.recall_index import MAX_PASSAGE_BYTES, MAX_PASSAGES, learn_terms
from gateway.core.context.terms import terms_of

pieces = st.sampled_from(
    ["a word. ", "ein Satz!\n", "\n\n", "長い文。", "x" * 300, "  ", "`code_name`\n", "Ann: ", "é🙂 "]
)
bodies = st.lists(st.one_of(pieces, st.text(max_size=40)), max_size=120).map("".join)


@settings(deadline=None)
@given(bodies)
def test_passages_hold_the_text_in_order(text: str) -> None:
    """They do not overlap, none is empty or too long, and between them is only white space (and the heading before)."""
    record = learn_terms(text)
    spans = [(passage.start, passage.end) for passage in record.passages]

    assert all(start < end for start, end in spans)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))
    if len(spans) > 1:
        assert all(len(text[start:end].encode()) <= MAX_PASSAGE_BYTES for start, end in spans)
        assert all(not text[before[1] : after[0]].strip() for before, after in itertools.pairwise(spans))
    if spans:
        assert not text[spans[-1][1] :].strip()


@settings(deadline=None)
@given(bodies)
def test_each_passage_knows_its_terms(text: str) -> None:
    """As many as it has, with their repeats."""
    for passage in learn_terms(text).passages:
        found = terms_of(text[passage.start : passage.end])

        assert passage.length == len(found)
        assert set(passage.terms) == set(found)
        assert dict(passage.repeats) == {term: found.count(term) for term in found if found.count(term) > 1}


def test_a_huge_message_is_bounded() -> None:
    """Of ten thousand paragraphs the first and the last can be found; the record stays small."""
    text = "\n\n".join(
        f"Paragraph {number} tells of matter {number * 7919}. " + "word " * 90 for number in range(10_000)
    )
    record = learn_terms(text)

    assert len(record.passages) == MAX_PASSAGES
    assert record.passages[0].start == 0
    assert record.passages[-1].end >= len(text) - 1
    assert record.size_bytes < 300_000


@pytest.mark.parametrize(
    ("text", "speaker", "heading"),
    [
        ("Ann: hello", "ann", ""),
        ("[8 May 2023]\nAnn: hello", "ann", "8 May 2023"),
        ("[8 May 2023]\nhello", "", "8 May 2023"),
        ("hello [8 May]\nthere", "", ""),
        ("https://example.com/x", "", ""),
        ("مريم: مرحبا", "مريم", ""),
        ("", "", ""),
    ],
)
def test_labels_and_headings(text: str, speaker: str, heading: str) -> None:
    """Who speaks stands before a colon, a session's date in brackets on the first line."""
    record = learn_terms(text)

    assert (record.speaker, record.heading) == (speaker, heading)


def test_a_name_is_the_speaker_where_there_is_no_label() -> None:
    """As group chats send it."""
    assert learn_terms("hello there", name="Bob").speaker == "bob"


@pytest.mark.parametrize(
    ("text", "only_asks"),
    [
        ("How are you?", True),
        ("I moved to Rome. And you?", False),
        ("你好吗？", True),
        ("我搬家了，你呢？", False),
        ("Fine.", False),
    ],
)
def test_bare_questions_are_known(text: str, only_asks: bool) -> None:
    """A question that says nothing of who asks rarely answers another."""
    assert learn_terms(text).passages[0].only_asks is only_asks
