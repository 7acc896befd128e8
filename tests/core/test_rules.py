"""Rules are told from remarks, on a table labelled by hand."""

from __future__ import annotations

import pytest

from gateway.core.context import rules_english, rules_latin, rules_wide
from gateway.core.context.rules import force_of
from gateway.core.context.rules_force import Force
from tests import rule_table
from tests.rule_table import all_of, lines_of

RULES = [text for _, text in (*all_of(rule_table.RULES), *all_of(rule_table.REVISIONS))]
REMARKS = [text for _, text in all_of(rule_table.REMARKS)]
EVERYTHING = [
    *RULES,
    *REMARKS,
    *lines_of(rule_table.SECOND_RULES),
    *lines_of(rule_table.SECOND_REMARKS),
    *lines_of(rule_table.HELD_OUT_RULES),
    *lines_of(rule_table.HELD_OUT_REMARKS),
]


@pytest.mark.parametrize(
    ("rules", "remarks"),
    [
        (RULES, REMARKS),
        (lines_of(rule_table.SECOND_RULES), lines_of(rule_table.SECOND_REMARKS)),
        (lines_of(rule_table.HELD_OUT_RULES), lines_of(rule_table.HELD_OUT_REMARKS)),
    ],
    ids=["first", "second", "third"],
)
def test_precision_and_recall(rules: list[str], remarks: list[str]) -> None:
    """Of what is found 95 % are rules, and of the rules 95 % are found."""
    found = [text for text in rules if force_of(text)]
    wrong = [text for text in remarks if force_of(text)]
    print(f"precision {len(found) / (len(found) + len(wrong)):.3f}, recall {len(found) / len(rules):.3f}", end=" ")

    assert len(found) >= 0.95 * len(rules), set(rules) - set(found)
    assert len(found) >= 0.95 * (len(found) + len(wrong)), wrong


@pytest.mark.parametrize("text", [text for _, text in all_of(rule_table.REVISIONS)])
def test_what_takes_rules_back_is_at_least_an_order(text: str) -> None:
    """So it is kept with the newest orders, never displaced by what it changes."""
    assert force_of(text) >= Force.ORDER


def test_cues_leave_out_no_form() -> None:
    """Looking at a sentence's words first is quick, and changes no answer."""
    forms = [*rules_english.FORMS, *rules_latin.FORMS]
    for text in EVERYTHING:
        lowered = text.lower()
        words = set(lowered.replace("’", "'").replace("'", " ").translate(PUNCTUATION).split())
        for form in rules_wide.FORMS:
            assert not form.is_in(text) or form.cues & set(text), (text, form.cues)
        for form in forms:
            assert not form.is_in(lowered) or form.cues & words, (text, form.cues)


PUNCTUATION = str.maketrans(dict.fromkeys('.,;:!?-–"()/0123456789', " "))


@pytest.mark.parametrize("text", ["", " ", "?", "!", "\n", "。", "never", "no " * 100, "a" * 320, "don't " * 60])
def test_any_text_has_a_force(text: str) -> None:
    assert force_of(text) in Force
