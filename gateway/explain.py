"""`compact --explain`: a chat before and after, side by side, and why it looks so. Plain text for a terminal.

Everything is read off what the fitter decided; nothing is decided here. Control characters of the chat never reach the
terminal. No line is wider than the columns that are given, or 100.
"""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Iterator, Mapping
from itertools import groupby

from gateway.core.context.brief import render_brief
from gateway.core.context.receipt import Receipt
from gateway.core.context.render import turn_of
from gateway.core.wire.message import reread_message
from gateway.fitting.draft import Chat, Draft
from gateway.fitting.fitter import ChatFitter

MIN_COLUMNS = 100
_FATE_CHARS = 30
_SHOWN_OF_MANY = 4
"""Of many folded messages in a row, so many at either end have a line of their own."""
_WHY_WORDS = 12


class WatchedFitter(ChatFitter):
    """A fitter that remembers the chat it was given last, and what it made of it."""

    chat: Chat | None = None
    draft: Draft | None = None

    async def fit(self, chat: Chat) -> Draft | None:
        self.chat = chat
        self.draft = await super().fit(chat)
        return self.draft


def explain(chat: Chat, draft: Draft, receipt: Receipt, columns: int) -> str:
    """The whole explanation.

    Args:
        chat: as it came.
        draft: what is forwarded in its place.
        receipt: of the request.
        columns: of the terminal.
    """
    width = max(MIN_COLUMNS, columns)
    blocks = [
        _table(chat, draft, width),
        _sections(chat.count.sections, receipt.sections),
        _recalled(chat, draft, width),
        _brief(draft, width),
    ]
    return "\n\n".join(block for block in blocks if block)


def _table(chat: Chat, draft: Draft, width: int) -> str:
    """A line a message: its tokens before and after, what became of it, and how it begins."""
    lines = [f"{'#':>5}  {'role':<9}  {'before':>7}  {'after':>7}  {'':<{_FATE_CHARS}}  text"]
    fates = [_fate(chat, draft, index) for index in range(len(chat.raws))]
    inserted = _inserted(chat, draft)
    for fate, group in groupby(range(len(fates)), key=fates.__getitem__):
        run = list(group)
        many = run[_SHOWN_OF_MANY:-_SHOWN_OF_MANY] if fate == "folded" else []
        for index in run:
            lines += [_row("+", "user", "", str(tokens), what, "", width) for what, tokens in inserted.get(index, ())]
            if index not in many:
                fact = chat.outline.facts[index]
                after = _tokens_after(draft, index, fact.tokens)
                lines.append(_row(str(index), fact.role, str(fact.tokens), after, fate, _text(chat, index), width))
            elif index == many[0]:
                tokens = sum(chat.outline.facts[other].tokens for other in many)
                lines.append(_row("...", "", str(tokens), "-", fate, f"{len(many)} more messages", width))
    return "\n".join(lines)


def _row(place: str, role: str, before: str, after: str, fate: str, text: str, width: int) -> str:
    head = f"{place:>5}  {role:<9}  {before:>7}  {after:>7}  {fate:<{_FATE_CHARS}}  "
    return (head + _fitted(text, width - len(head))).rstrip()


def _tokens_after(draft: Draft, index: int, tokens: int) -> str:
    if index in draft.shorter:
        return str(draft.shorter[index].how.tokens)
    return str(tokens) if index in draft.plan.kept else "-"


def _fate(chat: Chat, draft: Draft, index: int) -> str:
    """What became of a message, in at most `_FATE_CHARS` characters."""
    shorter = draft.shorter.get(index)
    if shorter is not None:
        before, how = chat.outline.facts[index].tokens, shorter.how
        if how.same_as:
            return f"repeats #{chat.outline.places[how.same_as - 1]}"
        return f"shortened {before} -> {how.tokens}"
    if index in set(draft.plan.kept):
        number = chat.outline.places.index(index) + 1 if chat.outline.facts[index].is_foldable else 0
        return "kept beside the brief" if 0 < number <= draft.plan.covers else "kept"
    picks = draft.recalled.picks if draft.recalled else ()
    passages = sum(chat.outline.places[pick.number - 1] == index for pick in picks)
    if passages:
        return f"folded, recalled ({passages} passage{'s' if passages > 1 else ''})"
    return "folded"


def _inserted(chat: Chat, draft: Draft) -> Mapping[int, list[tuple[str, int]]]:
    """What stands before which of the client's messages, by its index, and what it takes."""
    kept = draft.plan.kept
    found: dict[int, list[tuple[str, int]]] = {}
    if draft.brief is not None:
        found.setdefault(kept[draft.plan.brief_before], []).append(("the running brief", draft.brief.tokens))
    if draft.recalled is not None:
        found.setdefault(kept[draft.recall_before], []).append(("what is recalled", draft.recalled.tokens))
    return found


def _sections(before: Mapping[str, int], after: Mapping[str, int]) -> str:
    names = sorted(before.keys() | after.keys(), key=lambda name: -max(before.get(name, 0), after.get(name, 0)))
    lines = [f"{'tokens by section':<24}  {'before':>9}  {'after':>9}"]
    lines += [f"  {name:<22}  {before.get(name, 0):>9}  {after.get(name, 0):>9}" for name in names]
    total = f"  {'all':<22}  {sum(before.values()):>9}  {sum(after.values()):>9}"
    return "\n".join([*lines, total])


def _recalled(chat: Chat, draft: Draft, width: int) -> str:
    """Each passage that came back, best first, with the words that it shares with the question."""
    if draft.recalled is None:
        return ""
    lines = [f"recalled, best first ({draft.recalled.tokens} tokens, word for word)"]
    for pick in draft.recalled.picks:
        index = chat.outline.places[pick.number - 1]
        said = _text(chat, index)[pick.start : pick.end]
        words = ", ".join(_plain(word) for word in pick.why[:_WHY_WORDS]) or "beside what was found"
        role = chat.outline.facts[index].role
        lines.append(_fitted(f"  #{index} {role}, {pick.score:.2f}, because of: {words}", width).rstrip())
        lines.append(_fitted(f"      {said}", width).rstrip())
    return "\n".join(lines)


def _brief(draft: Draft, width: int) -> str:
    if draft.brief is None:
        return ""
    wrapped = [
        line
        for text in render_brief(draft.brief.segments).splitlines()
        for line in textwrap.wrap(_plain(text), width // 2 if _is_wide(text) else width) or [""]
    ]
    return "\n".join(["the running brief", "", *wrapped])


def _text(chat: Chat, index: int) -> str:
    return turn_of(index, reread_message(chat.raws[index])).text


def _plain(text: str) -> str:
    """One line of it that a terminal may be shown."""
    return "".join(char if char.isprintable() else " " for char in text)


def _is_wide(text: str) -> bool:
    return any(unicodedata.east_asian_width(char) in "WF" for char in text)


def _fitted(text: str, columns: int) -> str:
    """The beginning of a text in exactly so many columns of a terminal."""
    shown: list[str] = []
    used = 0
    for char, taken in _measured(text[: 2 * columns]):
        if used + taken > columns:
            return _fitted("".join(shown)[: -3 if len(shown) > 3 else 0], columns - 3) + "..."
        shown.append(char)
        used += taken
    return "".join(shown) + " " * (columns - used)


def _measured(text: str) -> Iterator[tuple[str, int]]:
    for char in text:
        width = 0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        yield (char if char.isprintable() else " "), width
