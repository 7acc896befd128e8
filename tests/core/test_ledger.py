"""The constraint ledger: the user's rules, letter for letter, within a bound."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.context.ledger import bound_ledger, quote_rules, render_quote
from gateway.core.context.rules import force_of
from gateway.core.context.supersede import Quote, is_same_subject
from tests import rule_table
from tests.histories import long_texts, per_four_chars, texts
from tests.rule_table import all_of

RULES = [text for _, text in all_of(rule_table.RULES)]
REVISIONS = [text for _, text in all_of(rule_table.REVISIONS)]
NO_RULES = [text for _, text in all_of(rule_table.REMARKS)]


@pytest.mark.parametrize("text", RULES)
def test_a_rule_is_quoted(text: str) -> None:
    """A sentence that forbids or requires is taken whole, between others, in many languages."""
    quotes = quote_rules(3, f"Hello there. Thanks!\n{text}\nWe met Anna on Tuesday.")

    assert [(quote.turn, text.endswith(quote.text)) for quote in quotes] == [(3, True)]


@pytest.mark.parametrize("text", NO_RULES)
def test_what_is_no_rule_is_not_quoted(text: str) -> None:
    assert quote_rules(1, text) == []


PASTED = "The contractor must never enter the site. " * 20


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("Never do X.\n```\n# never do Y.\n```\nAlways do Z.", ["Never do X.", "Always do Z."]),
        ("> You must obey.\nI read that.", []),
        ("```\nfirst\n\nyou must not\n\nlast\n```\nNever do X.", ["Never do X."]),
        (f"Never do X.\n\n{PASTED}\n\nAlways do Z.", ["Never do X.", "Always do Z."]),
        ("You must " + "go on and " * 60 + "stop.", []),
        ("<document>\nYou must pay.\n</document>\nNever do X.", ["Never do X."]),
        ("Wrap names in <code>.\nNever do X.", ["Never do X."]),
        ('See """\nyou must pay\n""" and never do X.', ["and never do X."]),
        ("2026-01-02 10:00:01 WARN never call this\nERROR: must not be null\nAlways do Z.", ["Always do Z."]),
        ('"You must never enter."\nHe said "you must pay".\nNever do X.', ["Never do X."]),
        ("<running_brief>\nYou must pay.\n</running_brief>\nNever do X.", ["Never do X."]),
        ('- [turn 3] "You must pay. Never stop."\n[4 user] Always pay.\nNever do X.', ["Never do X."]),
    ],
    ids=[
        "code",
        "a quoted line",
        "code with empty lines",
        "a pasted document",
        "a sentence without end",
        "a marked document",
        "a tag that is only named",
        "a block in quotation marks",
        "a log",
        "what others said",
        "a brief",
        "lines of a brief",
    ],
)
def test_rules_of_others_are_not_the_users(text: str, quoted: list[str]) -> None:
    """Code, quotes and pasted documents state no rules of the user."""
    assert [quote.text for quote in quote_rules(1, text)] == quoted


@given(text=st.one_of(texts, long_texts, st.lists(st.sampled_from(RULES + NO_RULES), max_size=20).map(" ".join)))
def test_every_quote_stands_in_the_message(text: str) -> None:
    """Letter for letter."""
    assert all(quote.text in text for quote in quote_rules(1, text))


quotes_of_all_kinds = st.lists(
    st.builds(
        lambda text, number, turn: Quote(turn, f"{text} ({number})"),
        st.sampled_from(RULES + NO_RULES + REVISIONS),
        st.integers(0, 9),
        st.integers(1, 30),
    ),
    max_size=40,
).map(lambda found: sorted(found, key=lambda quote: quote.turn))


@given(quotes=quotes_of_all_kinds, max_tokens=st.integers(0, 700))
def test_the_ledger_is_bounded_and_counts_what_it_loses(quotes: list[Quote], max_tokens: int) -> None:
    """Kept plus lost are all that differ, within the bound, in the order of the conversation, none twice."""
    kept, lost = bound_ledger(quotes, max_tokens, per_four_chars)

    assert sum(per_four_chars(render_quote(quote) + "\n") for quote in kept) <= max_tokens
    assert len(kept) + lost == len({quote.text for quote in quotes})
    assert [quote.turn for quote in kept] == sorted(quote.turn for quote in kept)
    assert len({quote.text for quote in kept}) == len(kept)
    assert set(kept) <= set(quotes)
    dropped = [quote for quote in quotes if quote.text not in {each.text for each in kept}]
    for later in dropped:
        assert not any(
            quote.turn < later.turn and is_same_subject(quote.text, later.text) and force_of(later.text)
            for quote in kept
        )


def test_no_wish_displaces_an_order() -> None:
    """What binds less goes first, however new it is."""
    orders = [Quote(turn, f"Never run job {turn}.") for turn in range(10)]
    wishes = [Quote(turn, f"I prefer room {turn}.") for turn in range(10, 40)]
    kept, lost = bound_ledger([*orders, *wishes], 120, per_four_chars)

    assert set(orders) <= set(kept)
    assert lost == 40 - len(kept)


def test_the_newest_orders_stay() -> None:
    """A ledger that is full of orders loses the eldest."""
    orders = [Quote(turn, f"Never run job {turn}.") for turn in range(10)]
    kept, lost = bound_ledger(orders, 50, per_four_chars)

    assert list(kept) == orders[-len(kept) :]
    assert lost == 10 - len(kept) > 0


def test_a_rule_said_again_counts_where_it_was_said_last() -> None:
    kept, lost = bound_ledger([Quote(1, "Never."), Quote(2, "Always."), Quote(9, "Never.")], 100, per_four_chars)

    assert kept == (Quote(2, "Always."), Quote(9, "Never."))
    assert lost == 0


def test_a_wish_that_changes_an_order_is_kept_like_one() -> None:
    """Else the order would stand although it was changed."""
    quotes = [Quote(1, "Use tabs for the code."), *(Quote(turn, f"Never run job {turn}.") for turn in range(2, 9))]
    wish = Quote(9, "I'd rather have spaces for the code.", after=1)
    for max_tokens in range(20, 140, 4):
        kept, _ = bound_ledger([*quotes, wish], max_tokens, per_four_chars)

        assert wish in kept
