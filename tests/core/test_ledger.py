"""The constraint ledger: the user's rules, letter for letter, within a bound."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.context.ledger import Quote, bound_ledger, quote_rules, render_quote
from tests.histories import long_texts, per_four_chars, texts

RULES = [
    "Never push to main.",
    "You must answer in French.",
    "Always include version numbers when I ask about libraries.",
    "Please don't touch the migrations folder.",
    "Please don’t touch the migrations folder.",
    "Only use the staging database!",
    "Under no circumstances share the customer list.",
    "Make sure every function has a test.",
    "And avoid global variables.",
    "- Do not use tabs",
    "2. Keep it under 100 lines, but never split a function.",
    "The summary must not exceed 200 words.",
    "I prefer tabs over spaces.",
    "I prefer e-books for their portability, can you help me choose?",
    "The budget is at most 3,000 EUR.",
    "不要在周五部署。",
    "所有金额必须用人民币。",
    "请勿联系客户。",
    "禁止使用root账号。",
    "你只能使用只读账号。",
    "絶対にファイルを削除しないでください。",
    "必ず日本語で答えてください。",
    "コミットしてはいけません。",
    "반드시 한국어로 답해 주세요.",
    "Niemals den Kunden direkt anrufen.",
    "Du darfst die Datei auf keinen Fall löschen.",
    "Bitte benutze nicht die alte API.",
    "Antworte immer auf Deutsch.",
    "Nunca borres la tabla de clientes.",
    "No uses la cuenta antigua.",
    "Siempre responde en español.",
    "Tienes que usar la versión 2.",
    "Il ne faut jamais supprimer ces lignes.",
    "Réponds toujours en français.",
    "Não use o servidor antigo, nunca.",
    "Никогда не удаляйте резервные копии.",
    "لا تستخدم الخادم القديم.",
    "يجب أن تكون الإجابة قصيرة.",
    "ممنوع مشاركة كلمة المرور.",
]
NO_RULES = [
    "Must I use version 2?",
    "I don't know how to go on.",
    "I don't have the reservation ID with me.",
    "We met Anna on Tuesday.",
    "请问现在几点？",
    "这本书很有意思。",
    "特别好看的地方。",
    "Ich bin in Berlin.",
    "La reunión es el martes.",
    "الاجتماع يوم الثلاثاء.",
    "会議は15時からです。",
]


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
    ],
    ids=["code", "a quoted line", "code with empty lines", "a pasted document", "a sentence without end"],
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
        st.sampled_from(RULES + NO_RULES),
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


def test_no_remark_displaces_an_order() -> None:
    """What only sounds like a rule goes first, however new it is."""
    orders = [Quote(turn, f"Never run job {turn}.") for turn in range(10)]
    remarks = [Quote(turn, f"I only slept {turn} hours.") for turn in range(10, 40)]
    kept, lost = bound_ledger([*orders, *remarks], 120, per_four_chars)

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
