"""Terms: whatever the script or the spelling, what is asked for finds what was said."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.context.terms import MAX_WORD_CHARS, name_terms, terms_of

MEETING = [
    ("english endings", "She painted a sunset", "paintings of sunsets"),
    ("plural in ies", "two activities", "an activity"),
    ("possessive", "Caroline's necklace", "What did Caroline wear?"),
    ("german", "Die Lieferung nach München", "MÜNCHEN?"),
    ("german sharp s", "in der Hauptstraße", "HAUPTSTRASSE"),
    ("spanish accents", "el número de teléfono", "telefono"),
    ("spanish plural", "las facturas pendientes", "una factura"),
    ("chinese", "我下周去上海出差", "上海"),
    ("japanese", "来週は京都へ行きます", "京都"),
    ("korean", "서울에서 만나요", "서울"),
    ("thai", "ฉันอยู่ที่กรุงเทพ", "กรุงเทพ"),
    ("arabic article", "قرأت الكتاب أمس", "كتاب"),
    ("full width", "型番ＡＢ１２", "AB12"),
    ("snake case", "set max_total to 8000", "total"),
    ("camel case", "call maxTotalTokens()", "total tokens"),
    ("acronym", "the HTTPServer class", "server"),
    ("path", "edit src/core/budget.py", "budget"),
    ("whole path", "edit src/core/budget.py", "src/core/budget.py"),
    ("grouped digits", "it costs 1,250 euros", "1250"),
    ("date", "due on 2024-03-15", "2024-03-15"),
    ("e-mail", "write to ann@example.com", "ann@example.com"),
    ("issue number", "see #4821", "4821"),
    ("hyphen", "my mother-in-law", "mother"),
]
APART = [
    ("function words", "the of and", "where is the"),
    ("numbers", "room 4821", "order 4822 of 14821"),
    ("chinese", "上海", "北京"),
]


@pytest.mark.parametrize(("said", "asked"), [pair[1:] for pair in MEETING], ids=[pair[0] for pair in MEETING])
def test_what_is_asked_meets_what_was_said(said: str, asked: str) -> None:
    """Another ending, case, accent or width of the same word is the same term, and a part finds the whole."""
    assert set(terms_of(said)) & set(terms_of(asked))


@pytest.mark.parametrize(("said", "asked"), [pair[1:] for pair in APART], ids=[pair[0] for pair in APART])
def test_what_has_nothing_in_common_does_not_meet(said: str, asked: str) -> None:
    """Function words are no terms, and numbers match as a whole or not at all."""
    assert not set(terms_of(said)) & set(terms_of(asked))


@given(st.text(max_size=400))
def test_any_text_has_terms(text: str) -> None:
    """Nothing raises, the same text has the same terms, and each is 32 bits of a word that can be named."""
    found = terms_of(text)

    assert found == terms_of(text)
    assert all(0 <= term < 2**32 for term in found)
    assert set(found) == set(name_terms(text).words)


@given(
    st.from_regex(r"[A-Za-z]{1,8}([_./][A-Za-z0-9]{1,8}){1,6}", fullmatch=True).filter(
        lambda name: len(name) < MAX_WORD_CHARS
    )
)
def test_a_path_or_identifier_finds_itself(name: str) -> None:
    """Whole, in the middle of a sentence, in any case."""
    exact = name_terms(name).hard

    assert exact
    assert exact <= set(terms_of(f"Then I opened {name.upper()}, and it was empty."))


def test_terms_are_the_same_in_every_process() -> None:
    """Replicas must recall the same text, so nothing hangs on a process's own hashing."""
    text = "Überprüfung of src/app.py für 上海 at 10:45, maxTotal=1,250"
    code = f"from gateway.core.context.terms import terms_of; print(terms_of({text!r}))"
    outputs = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }

    assert outputs == {f"{terms_of(text)}\n"}
