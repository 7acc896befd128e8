"""Long messages made shorter: what loses what, and what never changes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.context.elide_parts import picture_key
from gateway.core.context.facts import MessageFacts, learn_facts
from gateway.core.context.shorten import (
    NO_TEXTS,
    Arrangement,
    Shorter,
    arranged_messages,
    names_in_use,
    shorten_again,
    shorten_messages,
)
from gateway.core.context.units import Outline, outline_of
from gateway.core.tokens.weight import weigh_message
from tests.histories import PROFILE, Message, cost_of, per_four_chars, turns

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "iVBORw0KGgo=" * 99, "detail": "high"}}
SOUND = {"type": "input_audio", "input_audio": {"data": "UklGRgAA" * 60_000, "format": "wav"}}
FILE = {
    "type": "file",
    "file": {"filename": "report.pdf", "file_data": "data:application/pdf;base64," + "JVBERi" * 200},
}
TEXT = {"type": "text", "text": "Look at this."}
LONG = "\n".join(f"line {number}: the value is {number * 7919 % 1000}" for number in range(200))


def facts_of(message: Message, rule: Callable[[str], int] = per_four_chars) -> MessageFacts:
    weight = weigh_message(message, PROFILE)
    return learn_facts(message, weight, sum(rule(text) for text in weight.texts))


def shortened(
    messages: list[Message], excess: int, texts: Mapping[str, str] = NO_TEXTS
) -> tuple[Outline, list[bytes], dict[int, Shorter]]:
    """Every message kept, and so much to be lost."""
    raws = [json.dumps(message).encode() for message in messages]
    outline = outline_of([facts_of(message) for message in messages])

    def cost(_: int, message: Any) -> int:
        return cost_of(message, per_four_chars)

    kept = range(len(messages))
    return outline, raws, shorten_messages(raws, outline, kept, excess, (), cost, per_four_chars, texts)


def call(text: str, ident: str = "c") -> Message:
    function = {"name": "write", "arguments": json.dumps({"path": "a.py", "text": text})}
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": ident, "type": "function", "function": function}],
    }


@pytest.mark.parametrize("part", [IMAGE, SOUND, FILE], ids=["picture", "sound", "file"])
def test_old_pictures_sounds_and_files_become_a_line(part: Message) -> None:
    """Of an older user message the text stays; the newest user message keeps everything."""
    seen: Message = {"role": "user", "content": [TEXT, part]}
    shorter = shortened([seen, {"role": "assistant", "content": "Yes."}, seen], 10_000)[2]
    (after,) = [json.loads(found.raw) for found in shorter.values()]

    assert list(shorter) == [0]
    assert after["content"][0] == TEXT
    assert after["content"][1]["text"].startswith("[left out: ")


def test_a_result_keeps_its_call_and_arguments_stay_an_object() -> None:
    """Ids and names are untouched, and what the arguments hold is shorter under the same keys."""
    messages = [
        {"role": "user", "content": LONG},
        call(LONG),
        {"role": "tool", "tool_call_id": "c", "content": LONG},
        {"role": "user", "content": "And?"},
    ]
    shorter = shortened(messages, 2000)[2]
    called, result = json.loads(shorter[1].raw), json.loads(shorter[2].raw)

    assert sorted(shorter) == [1, 2]
    assert called["tool_calls"][0]["id"] == result["tool_call_id"] == "c"
    assert set(json.loads(called["tool_calls"][0]["function"]["arguments"])) <= {"path", "text", "shortened"}
    assert result["content"].startswith("[shortened from ")


def test_system_user_and_prefill_are_left_alone() -> None:
    """However much is to be lost."""
    messages = [{"role": role, "content": LONG} for role in ("system", "user", "developer", "user", "assistant")]

    assert shortened(messages, 10**6)[2] == {}


@settings(max_examples=80, deadline=None)
@given(history=st.lists(turns(), min_size=1, max_size=6), share=st.floats(0, 1.2))
def test_messages_lose_what_they_must_and_the_same_again(history: list[list[Message]], share: float) -> None:
    """None grows, costs are told exactly, and an arrangement gives the same bytes to the same messages."""
    messages = [message for turn in history for message in turn]
    results = sum(facts_of(message).tokens for message in messages if message["role"] in ("tool", "function"))
    outline, raws, shorter = shortened(messages, int(results * share))
    arrangement = Arrangement(0, tuple(found.how for found in shorter.values()))
    wanted = arranged_messages(arrangement, outline, range(len(messages)))

    for index, found in shorter.items():
        assert cost_of(json.loads(found.raw), per_four_chars) == found.how.tokens < outline.facts[index].tokens
    assert shorten_again(raws, wanted, (), per_four_chars) == {index: found.raw for index, found in shorter.items()}


def test_an_arrangement_is_for_the_messages_that_it_was_made_for() -> None:
    """Another message in the place of a shortened one stays whole."""
    messages = [{"role": "user", "content": "Go."}, call("x"), {"role": "tool", "tool_call_id": "c", "content": LONG}]
    outline, _, shorter = shortened(messages, 500)
    arrangement = Arrangement(0, tuple(found.how for found in shorter.values()))
    other = outline_of([*outline.facts[:2], facts_of({**messages[2], "content": LONG + "!"})])

    assert list(arranged_messages(arrangement, outline, range(3))) == [2]
    assert arranged_messages(arrangement, other, range(3)) == {}
    assert arranged_messages(replace(arrangement, shortened=()), outline, range(3)) == {}


def test_names_in_use_are_those_of_the_newest_steps() -> None:
    """Paths and identifiers of messages and calls, not of results."""
    messages = [
        {"role": "user", "content": "Fix src/app/main.py please"},
        call("def load_table(): ..."),
        {"role": "tool", "tool_call_id": "c", "content": "wrote build/out_42.bin"},
    ]
    raws = [json.dumps(message).encode() for message in messages]
    names = names_in_use(raws, outline_of([facts_of(message) for message in messages]))

    assert {"src/app/main.py", "load_table", "a.py"} <= set(names)
    assert "build/out_42.bin" not in names


# Pictures whose text was read

READ = "INVOICE 2024-00917\nTotal: EUR 12,400.50\nDue on 2024-04-17"


def read_in(part: Message, text: str = READ) -> dict[str, str]:
    """What was read in a picture, as it is looked up."""
    return {picture_key(part["image_url"]["url"]): text}


def with_picture(*parts: Message) -> list[Message]:
    return [
        {"role": "user", "content": [TEXT, *(parts or (IMAGE,))]},
        {"role": "assistant", "content": "I see."},
        {"role": "user", "content": "Go on."},
    ]


def test_a_message_whose_pictures_are_not_all_read_tells_none() -> None:
    """Else it would be forwarded otherwise once the rest is read, and cost more than was planned."""
    other = {"type": "image_url", "image_url": {"url": IMAGE["image_url"]["url"] + "AA"}}
    messages = with_picture(IMAGE, other)
    half, empty = read_in(IMAGE), read_in(IMAGE) | read_in(other, "")
    _, raws, unread = shortened(messages, 100, half)
    _, _, read = shortened(messages, 100, empty)
    later = shorten_again(raws, {0: unread[0].how}, (), per_four_chars, half | read_in(other, "later"))

    assert unread[0].how.bound == 0
    assert later == {0: unread[0].raw}
    assert READ in told_parts(read[0])[1]


def told_parts(shorter: Shorter) -> list[str]:
    return [part["text"] for part in json.loads(shorter.raw)["content"]]


def test_a_picture_becomes_its_text() -> None:
    """Below the line that stands for it; what the user wrote stays, and an arrangement brings the same bytes again."""
    messages = with_picture()
    outline, raws, shorter = shortened(messages, 40, read_in(IMAGE))
    how = shorter[0].how
    arrangement = Arrangement(0, (how,))
    again = shorten_again(raws, arranged_messages(arrangement, outline, range(3)), (), per_four_chars, read_in(IMAGE))

    assert how.bound > 0
    assert told_parts(shorter[0])[0] == TEXT["text"]
    assert told_parts(shorter[0])[1].startswith("[left out: picture, data:image/png, ")
    assert told_parts(shorter[0])[1].endswith(f"; the text in it:\n{READ}\n]")
    assert again == {0: shorter[0].raw}


def test_a_text_that_is_gone_leaves_the_line() -> None:
    """Then nothing is told of the picture; the message is still shorter than was planned."""
    outline, raws, shorter = shortened(with_picture(), 40, read_in(IMAGE))
    wanted = arranged_messages(Arrangement(0, (shorter[0].how,)), outline, range(3))
    again = json.loads(shorten_again(raws, wanted, (), per_four_chars)[0])

    assert "text in it" not in again["content"][1]["text"]
    assert cost_of(again, per_four_chars) < shorter[0].how.tokens


def test_where_there_is_no_room_nothing_is_told() -> None:
    """All that a picture takes can be had back, whether or not it was read."""
    _, _, plain = shortened(with_picture(), 10**6)
    _, _, read = shortened(with_picture(), 10**6, read_in(IMAGE))

    assert read == plain
    assert read[0].how.bound == 0


def test_a_long_text_is_shortened() -> None:
    """It never takes what the picture takes, and says that it is shorter."""
    _, _, shorter = shortened(with_picture(), 300, read_in(IMAGE, LONG))
    whole = facts_of(with_picture()[0]).tokens

    assert whole - shorter[0].how.tokens >= 300
    assert "shortened from" in told_parts(shorter[0])[1]


@given(
    counts=st.lists(st.integers(0, 120), min_size=1, max_size=4),
    excess=st.integers(1, 3000),
)
def test_read_pictures_never_cost_more_than_planned(counts: list[int], excess: int) -> None:
    """Whatever was read in how many pictures: what is forwarded costs what is said, and less than the pictures."""
    parts = [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{'iVBORw0KGgo=' * (at + 1)}"}}
        for at in range(len(counts))
    ]
    texts = {}
    for part, words in zip(parts, counts, strict=True):
        texts |= read_in(part, " ".join(f"word{number}" for number in range(words)))
    messages = with_picture(*parts)
    _, _, shorter = shortened(messages, excess, texts)

    for index, found in shorter.items():
        assert cost_of(json.loads(found.raw), per_four_chars) == found.how.tokens
        assert found.how.tokens < facts_of(messages[index]).tokens
