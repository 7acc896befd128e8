"""Sentences and words, in any script."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.context.sentences import MAX_SENTENCE_CHARS, own_paragraphs, split_sentences, words_of
from tests.histories import long_texts, texts


def own(text: str) -> list[str]:
    return [sentence.text for sentence in split_sentences(text) if sentence.is_own]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("", []),
        ("One. Two! Three? Four…", ["One.", "Two!", "Three?", "Four…"]),
        ("Version 1.2.3 is at a.b/c.d. Next", ["Version 1.2.3 is at a.b/c.d.", "Next"]),
        ('He said "go." Then left.', ['He said "go."', "Then left."]),
        ("line one\nline two\r\n\r\nline three", ["line one", "line two", "line three"]),
        ("第一句。第二句！第三句？完", ["第一句。", "第二句！", "第三句？", "完"]),
        ("彼は「行く。」と言った。", ["彼は「行く。」と言った。"]),
        ("هل هذا صحيح؟ نعم.", ["هل هذا صحيح؟", "نعم."]),
        ("यह सही है। हाँ।", ["यह सही है।", "हाँ।"]),
    ],
)
def test_sentences_end_where_readers_see_an_end(text: str, sentences: list[str]) -> None:
    assert own(text) == sentences


def test_code_and_quotes_are_not_the_users_own() -> None:
    """Fenced lines, quoted lines and table rows are told apart; the fence marks themselves are nothing."""
    text = "Mine.\n```py\nx = 1. # not mine\n```\n> quoted. lines\n| a | b |\nMine too."
    found = list(split_sentences(text))

    assert own(text) == ["Mine.", "Mine too."]
    assert [sentence.text for sentence in found if not sentence.is_own] == [
        "x = 1. # not mine",
        "> quoted. lines",
        "| a | b |",
    ]


def test_an_overlong_line_comes_in_pieces_that_are_nobodys() -> None:
    """Nothing of it is lost, it is cut at spaces, and no rule is read from it."""
    line = " ".join(f"word{number}" for number in range(500))
    found = list(split_sentences(line))

    assert " ".join(sentence.text for sentence in found) == line
    assert not any(sentence.is_own for sentence in found)


@given(text=st.one_of(texts, long_texts, st.text(max_size=3000)))
def test_every_sentence_stands_in_the_text_and_none_is_too_long(text: str) -> None:
    at = 0
    for sentence in split_sentences(text):
        at = text.index(sentence.text, at) + len(sentence.text)

        assert 0 < len(sentence.text) <= MAX_SENTENCE_CHARS
        assert sentence.text == sentence.text.strip()


@given(text=st.text(st.characters(exclude_characters="`~"), max_size=300))
def test_no_word_is_lost(text: str) -> None:
    """What is not white space is in some sentence, where there are no fences."""
    kept = "".join("".join(sentence.text.split()) for sentence in split_sentences(text))

    assert kept == "".join(text.split())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello, World!", ["hello", "world"]),
        ("db-7.internal:5432 user@host it's", ["db-7.internal:5432", "user@host", "it's"]),
        ("订单A-1", ["订", "单", "a-1"]),
        ("Straße über", ["straße", "über"]),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert words_of(text) == words


PASTED = {
    "a passage between its introduction and the question": (
        f"Here is the next passage:\n\n{'She must go at once. ' * 8}\n\n{'Never, said he. ' * 8}\n\nWhat happens?",
        "Here is the next passage:\n\nWhat happens?",
    ),
    "rules in a list after a colon": (
        f"My rules:\n\n- Never use tabs. {'x' * 200}\n\n- Always test.\n\nThanks",
        f"My rules:\n\n- Never use tabs. {'x' * 200}\n\n- Always test.\n\nThanks",
    ),
    "a line or two after a colon": (
        "Please note:\n\nNever use tabs.\n\nThanks",
        "Please note:\n\nNever use tabs.\n\nThanks",
    ),
    "a long paragraph among others": (f"Look.\n\n{'word ' * 120}\n\nNever do that.", "Look.\n\nNever do that."),
    "one long paragraph alone": ("word " * 120, "word " * 120),
}


@pytest.mark.parametrize(("text", "own"), PASTED.values(), ids=PASTED)
def test_what_is_pasted_is_told_from_what_is_said(text: str, own: str) -> None:
    """Rules and weight come from the user's own words; a list after a colon is theirs."""
    assert own_paragraphs(text) == own
