"""Long messages that stay are shortened: results of tools, arguments of calls, long answers, old pictures.

What is decided at a compaction is kept as an `Arrangement`, so that later requests shorten the same messages to the
same bytes; a message is shortened by a rule that looks at its text, its bound and the names in use at that compaction.

Invariants, each with a test of its own:
  1. System, developer and user texts, and an assistant's open prefill, are never shortened.
  2. A call keeps its id and its name, a result the id of its call; a function's arguments stay a JSON object.
  3. The same message, bound and names give the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec

from gateway.core.context.elide import elide_arguments, elide_text
from gateway.core.context.elide_names import names_in
from gateway.core.context.elide_parts import picture_key, picture_url, pictures_of, stub_parts
from gateway.core.context.elide_plan import MIN_RESULT_TOKENS, Result, note_of_repeat, plan_elisions
from gateway.core.context.plan import LEAST_PART_TOKENS, LEAST_RESULT_TOKENS
from gateway.core.context.secrets import mask_secrets
from gateway.core.context.units import Outline
from gateway.core.wire.message import encode_message, reread_message, text_of

CountTokens = Callable[[str], int]
"""Tokens of a text."""
CountMessage = Callable[[int, Mapping[str, Any]], int]
"""Tokens of a message, in the place of the one with this index."""
_WANTED_UNITS = 6
"""How many of the newest units tell which names are in use."""
_MAX_ROUNDS = 8
_GUARD_BYTES = 8
_STUB_TOKENS = 12
"""What stands around the text that was read in a picture, beside the line that stands for it anyway."""
NO_TEXTS: Mapping[str, str] = MappingProxyType({})
"""Of pictures, by `picture_key`: nothing was read."""
RECALL_ID_CHARS = 8
"""Of the digest of a shortened message, by which its whole text can be asked for."""


class Shortened(NamedTuple):
    """How one message is forwarded.

    Attributes:
        number: among foldable messages.
        guard: the beginning of the message's canonical digest: another message in its place stays whole.
        bound: what its texts may take together, of a user's message those that were read in its pictures; 0 where its
            pictures, sounds and files are left out and nothing is told of them.
        same_as: the number of a later message with the same text, for which a note stands here; 0 for none.
        tokens: what the message then costs.
    """

    number: int
    guard: bytes
    bound: int
    same_as: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Arrangement:
    """What a compaction has decided beside its brief.

    Attributes:
        covers: how many messages that brief stands for; 0 where there is none.
        shortened: messages after those that are forwarded shorter than they are.
        names: in use at that time.
        asked: the number of the latest user message where more had followed it, 0 where it waited for its answer.
        recall_tokens: what could then be recalled for it.
    """

    covers: int
    shortened: tuple[Shortened, ...] = ()
    names: tuple[str, ...] = ()
    asked: int = 0
    recall_tokens: int = 0


class Shorter(NamedTuple):
    """A message as it is forwarded: how it was shortened, and its bytes."""

    how: Shortened
    raw: bytes


def names_in_use(raws: Sequence[msgspec.Raw | bytes], outline: Outline) -> tuple[str, ...]:
    """Names, paths and numbers that the newest steps use, results of tools aside; sorted.

    Args:
        raws: all messages of the chat.
        outline: the chat.
    """
    units = outline.units
    start = units[-min(_WANTED_UNITS, len(units))].start
    said = [
        _said(reread_message(raws[index]))
        for index in range(start, len(raws))
        if not outline.facts[index].is_tool_result
    ]
    return tuple(sorted(set(names_in(mask_secrets("\n".join(said))))))  # they are stored


def _said(message: Mapping[str, Any]) -> str:
    arguments = [function.get("arguments", function.get("input", "")) for function in _functions(message)]
    return "\n".join([text_of(message), *(argument for argument in arguments if isinstance(argument, str))])


def _functions(message: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    calls = [call.get("function") or call.get("custom") for call in message.get("tool_calls") or ()]
    return [function for function in (*calls, message.get("function_call")) if isinstance(function, Mapping)]


def shorten_messages(
    raws: Sequence[msgspec.Raw | bytes],
    outline: Outline,
    kept: Sequence[int],
    excess_tokens: int,
    names: Collection[str],
    count_message: CountMessage,
    count: CountTokens,
    texts: Mapping[str, str] = NO_TEXTS,
) -> dict[int, Shorter]:
    """Messages that must be shortened for the kept ones to lose so much, as far as they can.

    Args:
        raws: all messages of the chat.
        outline: the chat.
        kept: indices of those that are forwarded.
        excess_tokens: what they are to lose together.
        names: in use.
        count_message: tokens of a message, in the place of the one with this index.
        count: tokens of a text.
        texts: what was read in pictures.

    Returns:
        The shortened ones, by index.
    """
    candidates = _candidates(raws, outline, kept, names, count_message, count, texts)
    held = sum(each.result.tokens for each in candidates.values())
    room = held - excess_tokens
    for left in reversed(range(_MAX_ROUNDS)):
        shorter: dict[int, Shorter] = {}
        lost = 0
        plan = plan_elisions([each.result for each in candidates.values()], max(0, room))
        for number, elision in plan.items():
            each = candidates[number]
            bound = 0 if each.is_stubbed else _bound(each, elision.tokens)
            how = Shortened(number, each.guard, bound, elision.same_as or 0, 0)
            message = shorten_message(each.message, how, names, count, texts)
            tokens = count_message(each.at, message)
            if tokens < each.tokens:
                shorter[each.at] = Shorter(how._replace(tokens=tokens), encode_message(message))
                lost += each.tokens - tokens
        if lost >= excess_tokens or room <= 0:
            break
        # Some could not lose what their size promised; at last all go as far down as they can.
        room = room - max(8, excess_tokens - lost) if left > 1 else 0
    return shorter


class _Candidate(NamedTuple):
    """A message that may be shortened; `result` is what there is to be shortened of it.

    A text may count more in its place than by itself (among other results it stands as JSON): `text_share` is what it
    counts by itself, as a share of that.
    """

    at: int
    message: dict[str, Any]
    tokens: int
    guard: bytes
    is_stubbed: bool
    frame_tokens: int
    text_share: float
    result: Result


def _candidates(
    raws: Sequence[msgspec.Raw | bytes],
    outline: Outline,
    kept: Sequence[int],
    names: Collection[str],
    count_message: CountMessage,
    count: CountTokens,
    texts: Mapping[str, str],
) -> dict[int, _Candidate]:
    """By number, oldest first."""
    facts = outline.facts
    staying = set(kept)
    units = outline.units
    ages = {index: len(units) - 1 - place for place, unit in enumerate(units) for index in range(unit.start, unit.end)}
    found = {}
    for number, index in enumerate(outline.places, 1):
        fact = facts[index]
        is_media = fact.role == "user" and number != outline.last_user and b'"type"' in bytes(raws[index])
        is_said = fact.role == "assistant" and (fact.calls or index < len(facts) - 1)
        if index not in staying or not (fact.is_tool_result or is_said or is_media):
            continue
        message = reread_message(raws[index])
        is_stubbed = is_media and not (texts and _is_read(message, texts))
        if is_media:
            elidable = fact.tokens - count_message(index, stub_parts(message))
            frame = 0
        elif fact.is_tool_result:
            frame = count_message(index, {**message, "content": ""})
            elidable = fact.tokens - frame
        else:
            frame = 0
            elidable = sum(tokens for tokens in _part_tokens(message, count) if tokens > LEAST_PART_TOKENS)
        if elidable <= 0:
            continue
        text = _said(message) if is_said else text_of(message)
        is_related = not set(names).isdisjoint(names_in(text))
        digest = (
            hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() if fact.is_tool_result else fact.canonical
        )
        result = Result(number, elidable, ages[index], digest, is_related)
        share = min(1.0, count(text) / elidable) if fact.is_tool_result and text else 1.0
        guard = fact.canonical[:_GUARD_BYTES]
        found[number] = _Candidate(index, message, fact.tokens, guard, is_stubbed, frame, share, result)
    return found


def _bound(each: _Candidate, tokens: int) -> int:
    """What the message's texts may take; a result with a large frame may keep less than others.

    Of a user's pictures nothing is told where too little is left.
    """
    if each.message["role"] == "user":
        return tokens - _STUB_TOKENS if tokens > MIN_RESULT_TOKENS else 0
    if each.message["role"] != "assistant" and tokens <= MIN_RESULT_TOKENS:
        tokens = min(tokens, LEAST_RESULT_TOKENS - each.frame_tokens)
    return max(1, int(tokens * each.text_share))


def _part_tokens(message: Mapping[str, Any], count: CountTokens) -> list[int]:
    """Tokens of what an assistant said, and of the arguments of each call."""
    content = message.get("content")
    arguments = [function.get("arguments", function.get("input")) for function in _functions(message)]
    return [count(text) if isinstance(text, str) else 0 for text in (content, *arguments)]


def _picture_texts(message: Mapping[str, Any], texts: Mapping[str, str]) -> list[str]:
    """What was read in the message's pictures, as far as anything was."""
    content = message.get("content")
    urls = filter(None, map(picture_url, content)) if isinstance(content, list) else ()
    return [text for url in urls if (text := texts.get(picture_key(url), ""))]


def _is_read(message: Mapping[str, Any], texts: Mapping[str, str]) -> bool:
    """Whether it is known of all of the message's pictures what stands in them, and something does in one.

    Otherwise what is forwarded of it would be another thing once the rest is read, and cost more than was planned.
    """
    read = [texts.get(key) for key in pictures_of(message)]
    return any(read) and None not in read


def _told_pictures(
    message: Mapping[str, Any], how: Shortened, names: Collection[str], count: CountTokens, texts: Mapping[str, str]
) -> dict[str, Any]:
    """A user's message with what was read in its pictures in place of them; each has a share by its length."""
    whole = max(1, sum(map(count, _picture_texts(message, texts))))

    def read(part: Mapping[str, Any]) -> str:
        text = texts.get(picture_key(picture_url(part)), "")
        tokens = count(text) if text else 0
        room = tokens if whole <= how.bound else tokens * how.bound // whole
        return elide_text(text, room, count, names, recall_id_of(how)) if room else ""

    return stub_parts(message, read)


def shorten_message(
    message: Mapping[str, Any],
    how: Shortened,
    names: Collection[str],
    count: CountTokens,
    texts: Mapping[str, str] = NO_TEXTS,
) -> dict[str, Any]:
    """A message as an arrangement says.

    Args:
        message: as parsed.
        how: the bound; `tokens` plays no part.
        names: in use when that was decided.
        count: tokens of a text.
        texts: what was read in pictures.
    """
    if not how.bound and not how.same_as:
        return stub_parts(message)
    if message["role"] == "user" and not how.same_as:
        return _told_pictures(message, how, names, count, texts)
    if message["role"] != "assistant":
        if how.same_as:
            return {**message, "content": note_of_repeat(how.same_as)}
        text = text_of(stub_parts(message))
        return {**message, "content": elide_text(text, how.bound, count, names, recall_id_of(how))}
    parts = _part_tokens(message, count)
    share = how.bound / max(1, sum(tokens for tokens in parts if tokens > LEAST_PART_TOKENS))
    rooms = [int(tokens * share) if tokens > LEAST_PART_TOKENS else tokens for tokens in parts]
    shorter = dict(message)
    if isinstance(message.get("content"), str):
        shorter["content"] = elide_text(message["content"], rooms[0], count, names, recall_id_of(how))
    left = iter(rooms[1:])
    if message.get("tool_calls"):
        shorter["tool_calls"] = [_shorter_call(call, left, names, count, how) for call in message["tool_calls"]]
    legacy = message.get("function_call")
    if isinstance(legacy, Mapping):
        shorter["function_call"] = _shorter_function(legacy, next(left), names, count)
    return shorter


def arranged_messages(arrangement: Arrangement, outline: Outline, kept: Sequence[int]) -> dict[int, Shortened]:
    """Which of the forwarded messages an earlier compaction shortened, by index.

    Args:
        arrangement: what that decided.
        outline: the chat now.
        kept: indices of the messages that are forwarded.
    """
    staying = set(kept)
    found = {}
    for how in arrangement.shortened:
        if how.number <= len(outline.places):
            index = outline.places[how.number - 1]
            if index in staying and outline.facts[index].canonical.startswith(how.guard):
                found[index] = how
    return found


def shorten_again(
    raws: Sequence[msgspec.Raw | bytes],
    wanted: Mapping[int, Shortened],
    names: Collection[str],
    count: CountTokens,
    texts: Mapping[str, str] = NO_TEXTS,
) -> dict[int, bytes]:
    """The same messages as at that compaction, shortened to the same bytes.

    Args:
        raws: all messages of the chat.
        wanted: of `arranged_messages`.
        names: the arrangement's.
        count: tokens of a text.
        texts: what was read in pictures; of one that is not known any more nothing is told.
    """
    return {
        index: encode_message(shorten_message(reread_message(raws[index]), how, names, count, texts))
        for index, how in wanted.items()
    }


def recall_id_of(how: Shortened) -> str:
    """What stands in a shortened message, so that a user can ask for the whole."""
    return how.guard.hex()[:RECALL_ID_CHARS]


def _shorter_call(call: Any, rooms: Any, names: Collection[str], count: CountTokens, how: Shortened) -> Any:
    if isinstance(call.get("function"), Mapping):
        return {**call, "function": _shorter_function(call["function"], next(rooms), names, count)}
    custom = call.get("custom")
    if not isinstance(custom, Mapping):
        return call
    room, text = next(rooms), custom.get("input")
    if not isinstance(text, str):
        return call
    return {**call, "custom": {**custom, "input": elide_text(text, room, count, names, recall_id_of(how))}}


def _shorter_function(
    function: Mapping[str, Any], room: int, names: Collection[str], count: CountTokens
) -> dict[str, Any]:
    arguments = function.get("arguments")
    if not isinstance(arguments, str):
        return dict(function)
    return {**function, "arguments": elide_arguments(arguments, room, count, names)}
