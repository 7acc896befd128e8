"""Mining by rules: what is found stands where it is said to stand, and what must not be found is not."""

from __future__ import annotations

import gzip
import json
from itertools import islice

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.core.context.render import turn_of
from gateway.core.context.secrets import mask_secrets
from gateway.core.facts.mine import IS, MAX_A_TURN, SAID, STANDS_IN, Mined, MinedTurn, mine_turns
from tests.shared_data import shared_data

KEY = "sk-proj-4f9Qx7LmZ2vT8kWc1Yb6Rd3H"


def mine(text: str, role: str = "user", name: str = "") -> list[Mined]:
    (found,) = mine_turns([MinedTurn(b"\x0f" * 32, role, name, text)])
    return found


def shown(mined: list[Mined]) -> list[tuple[str, str, str]]:
    return [(each.subject, each.predicate, each.object) for each in mined]


TABLE = {
    "what a user said": (("I moved to Bergen in May.", "user"), [("user", SAID, "I moved to Bergen in May.")]),
    "under a date": (("[8 May 2023]\nI moved to Bergen.", "user"), [("user", SAID, "I moved to Bergen.")]),
    "a greeting": (("Hi there!", "user"), []),
    "a number alone": (("42", "user"), [("user", SAID, "42")]),
    "an attribute": (
        ("Delivery address: 12 Harbour Street", "user"),
        [
            ("user", SAID, "Delivery address: 12 Harbour Street"),
            ("Delivery address", IS, "12 Harbour Street"),
        ],
    ),
    "an identifier": (
        ("We use these:\n- db_host = pg-7.internal\n", "user"),
        [("user", SAID, "We use these:\n- db_host = pg-7.internal"), ("db_host", IS, "pg-7.internal")],
    ),
    "a beginning of a list": (
        ("Reasons: it is late, and dark", "user"),
        [("user", SAID, "Reasons: it is late, and dark")],
    ),
    "code is no statement": (
        ("Look here, please:\n```\nversion: 3\n```\n", "user"),
        [("user", SAID, "Look here, please:\n```\nversion: 3\n```")],
    ),
    "a tool's line": (
        ("total 3\n-rw-r--r-- src/app.py modified\n", "tool"),
        [("src/app.py", STANDS_IN, "-rw-r--r-- src/app.py modified")],
    ),
    "a name alone": (("src/app.py\n", "tool"), []),
    "a Japanese attribute": (
        ("私の電話： 03-1234-5678", "user"),
        [("user", SAID, "私の電話： 03-1234-5678")],
    ),
}


@pytest.mark.parametrize(("given_", "expected"), TABLE.values(), ids=TABLE)
def test_what_is_found(given_: tuple[str, str], expected: list[tuple[str, str, str]]) -> None:
    assert shown(mine(*given_)) == expected


def test_a_label_that_comes_again_is_a_speakers() -> None:
    """And one that comes once is the beginning of a sentence."""
    texts = ["Ann: I moved to Bergen.", "Bob: Congratulations to both of you!", "[8 May]\nAnn: Thank you very much."]
    found = mine_turns([MinedTurn(b"\x0f" * 32, "user", "", text) for text in texts])

    assert [each.subject for turn in found for each in turn] == ["Ann", "user", "Ann"]


def test_a_name_is_whose_it_is() -> None:
    assert [each.subject for each in mine("I moved to Bergen.", name="ann_1")] == ["ann_1"]


@pytest.mark.parametrize(
    ("name", "subject"),
    [("\ud800", "\ufffd"), ("a\x00b", "a\ufffdb"), (" \n", "user"), (" ann  lee ", "ann lee"), ("x" * 5000, "x" * 200)],
)
def test_any_name_can_be_stored(name: str, subject: str) -> None:
    """It is a client's own, of any characters and length."""
    assert [each.subject for each in mine("I moved to Bergen.", name=name)] == [subject]


def test_of_an_attribute_one_value_holds_where_a_user_says_so() -> None:
    """What a model writes in its tables takes the place of nothing."""
    line = "Delivery address: 12 Harbour Street"

    assert [each.is_single for each in mine(line)] == [False, True]
    assert [each.is_single for each in mine(line, "assistant")] == [False, False]


def test_a_heading_is_kept_with_what_stands_under_it() -> None:
    (said,) = mine("[8 May 2023]\nAnn: I moved to Bergen.")

    assert said.origin.heading == "8 May 2023"


@pytest.mark.parametrize("mark", ["running_brief", "recalled"])
def test_nothing_is_mined_from_injected_text(mark: str) -> None:
    """Wherever a client has copied it to, closed or cut off."""
    inside = f"<{mark}>\nThe locker of Ann has the code 7T-4093.\nemail: ann@example.com\n"
    after = "\n\nAnd this harbour is what I saw myself."

    assert shown(mine(f"{inside}</{mark}>{after}")) == [("user", SAID, after.strip())]
    assert mine(inside) == []


def test_secrets_are_masked_first() -> None:
    found = mine(f"My token is {KEY}, keep it safe.\npassword: hunter2hunter2\nemail: ann@example.com")

    assert KEY not in repr(found)
    assert "hunter2" not in repr(found)
    assert ("email", IS, "ann@example.com") in shown(found)


@given(st.text(max_size=3000), st.sampled_from(["user", "assistant", "tool"]))
@example("a: b\n" * 500, "user")
@example("name = \ud800\x00 and more words here", "user")
@example("/a/b/c.py:1 x\n" * 500, "tool")
def test_any_text_is_mined_within_bounds(text: str, role: str) -> None:
    """Objects are parts of the text, bounded in number, and can be stored anywhere."""
    found = mine(text, role)

    assert len(found) <= MAX_A_TURN
    for each in found:
        assert each.object
        assert each.object.encode().decode() == each.object
        assert "\x00" not in each.object
        assert len(each.object) == each.origin.end - each.origin.start


def test_recorded_conversations_support_what_is_mined_of_them() -> None:
    """Every object stands at its origin; the number is printed."""
    total = 0
    for name in ("conversations_dev.jsonl.gz", "traces_dev.jsonl.gz"):
        with gzip.open(shared_data(name), "rt", encoding="utf-8") as lines:
            records = [json.loads(line) for line in islice(lines, 4)]
        for message in (each for record in records for each in record["messages"] if each["role"] != "system"):
            turn = turn_of(0, message)
            text = mask_secrets(turn.text)
            for each in mine(turn.text, turn.role):
                total += 1
                assert text[each.origin.start : each.origin.end] == each.object
                assert each.subject.strip()
    print(f"{total} facts, all supported by their span")

    assert total > 1_000
