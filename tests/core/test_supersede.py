"""Which of two rules holds: what is sure is dropped, what is not stays in order and is marked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.context.supersede import Quote, is_taken_back, settle_rules
from tests import rule_table
from tests.rule_table import all_of

TAKEN_BACK = [
    ("Never deploy on Friday.", "From now on deploying on Fridays is fine."),
    ("You can't use the production account.", "You can use the production account again."),
    ("Use tabs for indentation.", "Actually, don't use tabs for indentation after all."),
    ("Every function should have a docstring.", "Forget my rule that every function should have a docstring."),
    ("Do not cancel order A-1041.", "Actually, you may cancel order A-1041 after all."),
    ("Bitte keine Emojis im Betreff verwenden.", "Emojis im Betreff sind ab sofort wieder erlaubt."),
]
BOTH_STAY = [
    ("Use tabs for indentation.", "No, use spaces for indentation after all."),
    ("The summary must not exceed 200 words.", "From now on the summary may have 300 words."),
    ("请用制表符缩进代码。", "还是用空格缩进代码吧。"),
    ("タブでインデントしてください。", "やっぱりスペースでインデントしてください。"),
    ("استخدم علامات الجدولة في الكود.", "غيرت رأيي، استخدم المسافات في الكود."),
    ("Verwende Tabs im Code.", "Verwende im Code doch lieber Leerzeichen."),
    ("Usa tabuladores en el código.", "Mejor usa espacios en el código."),
    ("Always run the slow tests before a release.", "Never run the slow tests before a release."),
]
TWO_SUBJECTS = [
    ("Order A-1041 must not be cancelled.", "Actually, you may cancel order A-1014 after all."),
    ("Never deploy service-2 on Friday.", "From now on deploying service-3 on Friday is fine."),
    ("Never push to main.", "No, use spaces for indentation after all."),
    ("I'm allergic to peanuts.", "Let's switch to Postgres instead."),
    ("Never call the customer in Berlin.", "Always include version numbers."),
]


@pytest.mark.parametrize(("earlier", "later"), TAKEN_BACK)
def test_what_is_plainly_taken_back_goes(earlier: str, later: str) -> None:
    """The later sentence names the whole subject again, so nothing is lost with the earlier one."""
    assert settle_rules([Quote(3, earlier), Quote(9, later)]) == [Quote(9, later)]


@pytest.mark.parametrize(("earlier", "later"), BOTH_STAY)
def test_where_it_is_not_sure_both_stay_and_the_later_one_says_so(earlier: str, later: str) -> None:
    assert settle_rules([Quote(3, earlier), Quote(9, later)]) == [Quote(3, earlier), Quote(9, later, after=3)]


@pytest.mark.parametrize(("earlier", "later"), TWO_SUBJECTS)
def test_near_identical_entities_are_two_subjects(earlier: str, later: str) -> None:
    assert settle_rules([Quote(3, earlier), Quote(9, later)]) == [Quote(3, earlier), Quote(9, later)]


@pytest.mark.parametrize(("earlier", "later"), TAKEN_BACK + BOTH_STAY)
def test_an_earlier_rule_takes_no_later_one_back(earlier: str, later: str) -> None:
    """Said again, what was overridden holds again, and comes last."""
    settled = settle_rules([Quote(3, later), Quote(9, earlier)])

    assert settled[-1][:2] == (9, earlier)


def test_a_rule_said_again_after_it_was_taken_back_holds() -> None:
    """Never, allowed, never: the last word stands last."""
    never, allowed = TAKEN_BACK[0]
    settled = settle_rules([Quote(1, never), Quote(5, allowed), Quote(9, never)])

    assert [quote.text for quote in settled] == [allowed, never]
    assert settled[-1].after == 5


quotes = st.lists(
    st.builds(
        Quote,
        st.integers(1, 40),
        st.sampled_from(
            [
                text
                for table in (rule_table.RULES, rule_table.REVISIONS, rule_table.REMARKS)
                for _, text in all_of(table)
            ]
        ),
    ),
    max_size=40,
)


@given(found=quotes)
def test_nothing_is_lost_to_a_guess(found: list[Quote]) -> None:
    """What was dropped has its words in a later quote that stays or was taken back itself; marks point backwards."""
    settled = settle_rules(found)
    kept = {quote.text for quote in settled}
    turns = {quote.text: max(each.turn for each in found if each.text == quote.text) for quote in found}

    assert [quote.turn for quote in settled] == sorted(quote.turn for quote in settled)
    assert all(quote.turn == turns[quote.text] and quote.after < quote.turn for quote in settled)
    for text in turns.keys() - kept:
        assert any(is_taken_back(text, other) and turns[other] >= turns[text] for other in turns)
