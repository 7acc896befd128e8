"""Canonical form: a message that was written anew is the same message, and no other one is."""

from __future__ import annotations

import json
from fractions import Fraction
from itertools import combinations
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from gateway.core.context.canonical import canonical_digest
from gateway.core.wire.message import parse_message
from tests.histories import turns
from tests.rewritings import EDITS, REWRITINGS, Rewriting, rewritten

Message = dict[str, Any]
chances = st.integers(0, 2**32).map(Random)
messages = turns().filter(bool).flatmap(st.sampled_from)
more = settings(max_examples=200, suppress_health_check=list(HealthCheck), deadline=None)

# What the libraries were seen to send in runs of tests/test_e2e_clients.py, by message and library:
# openai 2.54, langchain-openai 1.7, llama-index-llms-openai 0.8, pydantic-ai 2.31, ai 6.0 with @ai-sdk/openai 3.0.
WRITTEN: dict[str, dict[str, Message]] = json.loads(
    Path(__file__).parents[1].joinpath("clients", "written.json").read_text("utf-8")
)


def digest_of(text: str) -> bytes:
    return canonical_digest(parse_message(text.encode(), 0))


@pytest.mark.parametrize("writings", WRITTEN.values(), ids=WRITTEN.keys())
def test_what_the_libraries_write_is_one_message(writings: dict[str, Message]) -> None:
    """The same message, as each library resends it."""
    assert len({digest_of(json.dumps(written)) for written in writings.values()}) == 1


def test_what_they_write_of_another_message_is_another() -> None:
    assert len({canonical_digest(next(iter(writings.values()))) for writings in WRITTEN.values()}) == len(WRITTEN)


def calling(arguments: str | None, **fields: Any) -> Message:
    """One call of f; None writes no arguments at all."""
    function = {"name": "f", **({} if arguments is None else {"arguments": arguments})}
    return {"role": "assistant", "tool_calls": [{"id": "a", "type": "function", "function": function, **fields}]}


def image(**fields: Any) -> Message:
    return {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:x", **fields}}]}


HI = {"role": "assistant", "content": "hi"}
SAID = {"role": "user", "content": "hi"}
LONE = {"type": "text", "text": "hi"}
SAME: dict[str, tuple[Message, Message]] = {
    "key order": (SAID, {"content": "hi", "role": "user"}),
    "a null field": (SAID, {**SAID, "name": None}),
    "a lone text part": (SAID, {**SAID, "content": [LONE]}),
    "a cache mark": (SAID, {**SAID, "cache_control": {"type": "ephemeral"}}),
    "a cache mark on the part": (SAID, {**SAID, "content": [{**LONE, "cache_control": {"type": "ephemeral"}}]}),
    "an id of its own": (SAID, {**SAID, "id": "msg_1"}),
    "an empty list of calls": (SAID, {**SAID, "tool_calls": []}),
    "no refusal": (HI, {**HI, "refusal": ""}),
    "annotations": (HI, {**HI, "annotations": [{"type": "url_citation", "url_citation": {"url": "x"}}]}),
    "thinking left out": ({**HI, "reasoning_content": "Hm."}, HI),
    "thinking under other names": ({**HI, "reasoning": "Hm.", "reasoning_details": [{}], "thinking_blocks": []}, HI),
    "a parsed answer": (HI, {**HI, "parsed": {"a": 1}}),
    "a recording, heard and by its id": (
        {"role": "assistant", "audio": {"id": "audio_1", "data": "UklGRg==", "transcript": "hi", "expires_at": 1}},
        {"role": "assistant", "content": None, "audio": {"id": "audio_1"}},
    ),
    "a mark on a call": (calling("{}"), calling("{}", cache_control={"type": "ephemeral"})),
    "a call's place": (calling("{}"), calling("{}", index=0)),
    "no kind of call": (calling("{}"), {**calling("{}"), "tool_calls": [{"id": "a", "function": {"name": "f"}}]}),
    "no arguments": (calling("{}"), calling("")),
    "arguments not written": (calling("{}"), calling(None)),
    "blanks where there are no arguments": (calling("{}"), calling(" {\n}")),
    "white space in arguments": (calling('{"a": [1, {"b": "x y"}]}'), calling('{"a":[1,{"b":"x y"}]}\n')),
    "key order in arguments": (calling('{"a": {"c": 1, "b": 2}, "d": 3}'), calling('{"d": 3, "a": {"b": 2, "c": 1}}')),
    "escapes in arguments": (calling('{"a": "\\u00e9\\/\\ud83d\\ude00"}'), calling('{"a": "é/😀"}')),
    "a number written otherwise": (calling('{"a": [1.0, 2.50, 1e3, 1e-5]}'), calling('{"a": [1, 2.5, 1000, 0.00001]}')),
    "an old function call": (
        {"role": "assistant", "function_call": {"name": "f", "arguments": '{"a": 1}'}},
        {"role": "assistant", "content": None, "function_call": {"arguments": '{"a":1}', "name": "f"}},
    ),
    "the default detail": (image(), image(detail="auto")),
    "a url without its object": (image(), {"role": "user", "content": [{"type": "image_url", "image_url": "data:x"}]}),
    "a mark within a part": (image(), image(cache_control={"type": "ephemeral"})),
}


@pytest.mark.parametrize("pair", SAME.values(), ids=SAME.keys())
def test_written_otherwise(pair: tuple[Message, Message]) -> None:
    """Each of these pairs is one message."""
    assert canonical_digest(pair[0]) == canonical_digest(pair[1])


OTHER_ARGUMENTS = [
    "{}", '{"a": null}', '{"a": 1}', '{"a": "1"}', '{"a": true}', '{"a": 10}', '{"a": -1}', '{"a": 1.1}',
    '{"a": 0}', '{"a": false}', '{"a": ""}', '{"a": []}', '{"a": {}}', '{"a": [1, 2]}', '{"a": [2, 1]}',
    '{"A": 1}', '{"a ": 1}', '{"a": "x y"}', '{"a": "x  y"}', '{"a": " x y"}', '{"a": 1, "b": 1}',
    # beyond what a double holds
    '{"a": 9007199254740992}', '{"a": 9007199254740993}', '{"a": 12345678901234567890}',
    '{"a": 12345678901234567000}', '{"a": 0.1}', '{"a": 0.1000000000000000055}', '{"a": 1e400}', '{"a": 1e401}',
    '{"a": 1e99999999999999999999}', '{"a": 1e-400}',
    # no JSON object, or not for everyone the same
    '{"a": 1, "a": 1}', '{"a": 1, "a": 2}', '{"a": 2, "a": 1}', '{"a": 1', "a=1", "[]", "[1]", '"a"', "a",
    "null", "1", "1.0", '{"a": NaN}', '{"a": "NaN"}', '{"a": 1.50}', '{"a": -1.50}',
    '{"a": Infinity}', '{"a": "\\ud800"}', '{"a": "\\ud801"}', '{"\\ud800": 1}',
    "{'a': 1}", '{"a": 1,}', '{"a": 01}', '{"a": "\n"}', "{" * 3000, "[" * 3000, '{"a":' * 300 + "1" + "}" * 300,
    '{"a": ' + '{"a":' * 299 + "1" + "}" * 300,
]  # fmt: skip


def test_other_arguments_are_others() -> None:
    """No two of these say the same, though many parsers read some of them alike."""
    found = {arguments: canonical_digest(calling(arguments)) for arguments in OTHER_ARGUMENTS}
    equal = [(one, other) for one, other in combinations(found, 2) if found[one] == found[other]]

    assert equal == []


OTHER: dict[str, tuple[Message, Message]] = {
    "another role": (SAID, HI),
    "another text": (SAID, {**SAID, "content": "hi "}),
    "a name": (SAID, {**SAID, "name": "ann"}),
    "another kind of part": (SAID, {**SAID, "content": [{"type": "refusal", "refusal": "hi"}]}),
    "a call": (HI, {**HI, "tool_calls": [{"id": "a"}]}),
    "an image by another detail": (image(), image(detail="low")),
    "another image": (image(), image(url="data:y")),
    "a custom call": (
        {"role": "assistant", "tool_calls": [{"id": "a", "type": "custom", "custom": {"name": "f", "input": "{}"}}]},
        calling("{}"),
    ),
    "white space in a custom call's input": (
        {"role": "assistant", "tool_calls": [{"id": "a", "type": "custom", "custom": {"name": "f", "input": "{ }"}}]},
        {"role": "assistant", "tool_calls": [{"id": "a", "type": "custom", "custom": {"name": "f", "input": "{}"}}]},
    ),
    "an old call and a new one": (
        {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}},
        calling("{}"),
    ),
    "another recording": ({"role": "assistant", "audio": {"id": "a"}}, {"role": "assistant", "audio": {"id": "b"}}),
    "a refusal and a text": ({"role": "assistant", "refusal": "no"}, {"role": "assistant", "content": "no"}),
    "parts and their text": (
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "user", "content": "ab"},
    ),
    "parts and their lines": (
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "user", "content": "a\nb"},
    ),
    "a text like arguments": ({"role": "user", "content": '{"a": 1}'}, {"role": "user", "content": '{"a":1}'}),
    "blanks around a text": ({"role": "user", "content": "a"}, {"role": "user", "content": "a\n"}),
    "a tool's name": (
        {"role": "tool", "tool_call_id": "a", "name": "f", "content": "x"},
        {"role": "tool", "tool_call_id": "a", "name": "g", "content": "x"},
    ),
    "a call of another type": (calling("{}"), calling("{}", type="server_function")),
    "an empty name": (SAID, {**SAID, "name": ""}),
    "a field that nobody knows": (HI, {**HI, "prefix": True}),
}


@pytest.mark.parametrize("pair", OTHER.values(), ids=OTHER.keys())
def test_another_message(pair: tuple[Message, Message]) -> None:
    """Each of these pairs is two messages."""
    assert canonical_digest(pair[0]) != canonical_digest(pair[1])


def test_no_content_and_empty_content_are_the_same() -> None:
    """Clients write `null`, an empty string or nothing where an assistant only calls tools."""
    contents: list[Message] = [{}, {"content": None}, {"content": ""}, {"content": []}]

    assert len({canonical_digest({**calling("{}"), **content}) for content in contents}) == 1


def test_long_arguments_are_compared_as_text() -> None:
    """Parsing them would hold up everyone else; a blank more makes them others."""
    numbers = json.dumps({"rows": list(range(40_000))})

    assert canonical_digest(calling(numbers)) == canonical_digest(calling(numbers))
    assert canonical_digest(calling(numbers)) != canonical_digest(calling(numbers + " "))


@pytest.mark.parametrize("rewriting", REWRITINGS.values(), ids=REWRITINGS.keys())
@settings(more, max_examples=60)
@given(message=messages, chance=chances)
def test_each_rewriting_leaves_the_digest(rewriting: Rewriting, message: Message, chance: Random) -> None:
    """What a client does to a message between turns does not make it another."""
    assert canonical_digest(rewriting(message, chance)) == canonical_digest(message)


@more
@given(message=messages)
def test_a_digest_survives_json(message: Message) -> None:
    """White space, escapes and key order of the JSON do not matter."""
    again = json.loads(json.dumps(dict(reversed(message.items())), indent=2, ensure_ascii=True))

    assert canonical_digest(again) == canonical_digest(message)


@more
@given(message=messages, chance=chances)
def test_rewritings_together_leave_the_digest(message: Message, chance: Random) -> None:
    """Nor do several of them, one over the other, over the wire."""
    again = rewritten(message, chance)

    assert digest_of(json.dumps(again)) == canonical_digest(message)


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS.keys())
@settings(more, max_examples=60)
@given(message=messages, chance=chances)
def test_each_edit_makes_another_message(edit: Rewriting, message: Message, chance: Random) -> None:
    """However both are written."""
    edited = edit(message, chance)
    assume(edited != message)

    assert canonical_digest(rewritten(edited, chance)) != canonical_digest(rewritten(message, chance))


# Arguments: equal digests only for equal values

numbers = st.one_of(
    st.integers().map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.from_regex(r"-?(0|[1-9]\d{0,3})(\.\d{1,3})?([eE][+-]?\d{1,2})?", fullmatch=True, alphabet="0123456789.eE+-"),
    st.sampled_from(["0", "-0", "0.0", "1", "1.0", "10e-1", "0.1e1", "1E+0", "100", "1e2", "1.00e+02"]),
)


@st.composite
def json_writings(draw: st.DrawFn, depth: int = 2) -> str:
    """A JSON text, in any writing; often one that means the same as another."""
    kind = draw(st.sampled_from(["number"] * 3 + ["word", "text"] + ["list", "object"] * (depth > 0)))
    if kind == "number":
        return draw(numbers)
    if kind == "word":
        return draw(st.sampled_from(["true", "false", "null"]))
    if kind == "text":
        return draw(
            st.sampled_from(['""', '"1"', '"a"', '"\\u0061"', '"é"', '"\\u00e9"', '"\\ud83d"', '"[1]"', '"{}"'])
        )
    blank = draw(st.sampled_from(["", " ", "\n\t"]))
    inner = draw(st.lists(json_writings(depth - 1), max_size=2))
    if kind == "list":
        return f"[{blank}{f',{blank}'.join(inner)}]"
    keys = [draw(st.sampled_from(['"a"', '"\\u0061"', '"b"', '""'])) for _ in inner]
    return (
        "{" + blank + f",{blank}".join(f"{key}{blank}: {value}" for key, value in zip(keys, inner, strict=True)) + "}"
    )


def meaning_of(text: str) -> Any:
    """What a JSON text says, exactly: every value with its type, numbers as fractions; doubles as they stand."""

    def tagged(value: Any) -> Any:
        if isinstance(value, list):
            return ("list", tuple(map(tagged, value)))
        return value if isinstance(value, tuple) else (type(value).__name__, value)

    def pairs_of(pairs: list[tuple[str, Any]]) -> Any:
        found = [(key, tagged(value)) for key, value in pairs]
        is_unique = len({key for key, _ in found}) == len(found)
        return ("object", tuple(sorted(found)) if is_unique else (text, *found))

    def number(literal: str) -> Any:
        return ("number", Fraction(literal))

    return json.loads(text, object_pairs_hook=pairs_of, parse_int=number, parse_float=number)


objects = st.builds(lambda value, blank: f'{{"x":{blank}{value}}}', json_writings(), st.sampled_from(["", " "]))


@settings(more, max_examples=400)
@given(one=objects, other=objects)
def test_equal_arguments_say_the_same(one: str, other: str) -> None:
    """Two texts of one digest have the same value, exactly."""
    if canonical_digest(calling(one)) == canonical_digest(calling(other)):
        assert meaning_of(one) == meaning_of(other)


@more
@given(one=numbers, other=numbers)
def test_numbers_are_equal_as_fractions_are(one: str, other: str) -> None:
    """Within what 40 digits can say, the other way round too; the two zeros aside."""
    is_same = Fraction(one) == Fraction(other)
    digests = {canonical_digest(calling(f'{{"x": {number}}}')) for number in (one, other)}

    assert is_same or len(digests) == 2
    if is_same and Fraction(one) != 0 and 1e-15 < abs(Fraction(one)) < 1e15:
        assert len(digests) == 1


@given(arguments=st.text(max_size=40))
def test_any_text_is_taken_for_arguments(arguments: str) -> None:
    """Whatever it is, it has a digest, and a letter more makes it another."""
    assume(arguments.strip())

    assert canonical_digest(calling(arguments)) != canonical_digest(calling(f"{arguments}x"))
