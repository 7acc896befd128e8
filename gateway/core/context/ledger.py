"""The constraint ledger: sentences in which the user forbids or requires something, quoted exactly.

Deterministic, no language model. Quotes come only from the user's own words, never from code fences, quoted lines,
pasted documents and logs, earlier briefs, or other roles. The ledger is bounded. When it overflows, orders ("never",
"you must", "after all") are kept before wishes ("I prefer"), the newest of each first, and what had no room is counted.

Invariants, each with a test of its own:
  1. Every quote stands, letter for letter, in a user message.
  2. The same quote is kept once.
  3. The ledger never takes more than its bound, and no wish displaces an order.
  4. A rule does not stay where a later one on the same subject had no room.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from gateway.core.context.marks import is_own_line
from gateway.core.context.rules import force_of
from gateway.core.context.rules_force import Force
from gateway.core.context.sentences import own_paragraphs, split_sentences
from gateway.core.context.supersede import Quote, is_same_subject

LEDGER_SHARE = 0.4
"""Of the brief's share, at most."""
_MAX_QUOTE_CHARS = 320
_pasted_blocks = re.compile(
    r"^[ \t]*<(running_brief|recalled|documents?|doc|files?|file_contents?|context|email|article|page|webpage|source"
    r"|content|logs?|outputs?|results?|search_results?|tool_results?|transcript|attachments?|quote|snippet|code|data|html|text)(?=[\s>])"
    r"[^>\n]{0,200}>.*?</\1>|(\"\"\"|''').*?\2",
    re.DOTALL | re.IGNORECASE | re.MULTILINE,
).sub
_is_log_line = re.compile(
    r"^\s*(?:\[?\d{4}-\d\d-\d\d[ T]\d|\[?\d\d:\d\d:\d\d|(?:\[?(?:TRACE|DEBUG|INFO|WARN(?:ING)?"
    r"|ERROR|FATAL)\b)|Traceback|File \"|at \S+\("
    r"|\$ |diff --git|@@ |[+-]{3} [ab]/|(?:From|To|Subject|Date|Sent|Cc): \S)"
).match
_speaks_for_itself = re.compile(
    r"\b(?:i|i['’](?:m|d|ve|ll)|my|me|please|ich|mir|mich|mein\w*|bitte|du|dir|dich|dein\w*|yo|mi|he \w+[ai]do|tengo"
    r"|prefiero|por favor|tú|te|tus?|tienes|debes|\w+[aei]mos|je|moi|mon|eu|meu|io|mio|я|мне|мой|пожалуйста)\b"
    r"|我|请|請|私|僕|俺|ください|下さい|أنا|أريد|رأيي|من فضلك|إياك|\w{2,}نا\b|저|제가|나는",
    re.IGNORECASE,
).search
"""A long paragraph among others is a pasted one, unless it says "I", "please" or the like."""
_is_in_quotes = re.compile(r"^[\"“„«‘「『].*[\"”“»’」』]\W*$", re.DOTALL).match


def quote_rules(turn: int, user_text: str) -> list[Quote]:
    """The rules that a user message states.

    Args:
        turn: the message's place among foldable messages, from 1.
        user_text: the message's text.
    """
    return [
        Quote(turn, sentence.text)
        for sentence in split_sentences(_own_lines(user_text))
        if sentence.is_own
        and len(sentence.text) <= _MAX_QUOTE_CHARS
        and force_of(sentence.text)
        and not _is_in_quotes(sentence.text)
    ]


def _own_lines(text: str) -> str:
    """A user's text without what looks pasted, and without lines that look like a brief's."""
    if "<" in text or '"""' in text or "'''" in text:
        text = _pasted_blocks("\n", text)
    lines = own_paragraphs(text, _speaks_for_itself).splitlines(keepends=True)
    return "".join(line for line in lines if not _is_log_line(line) and not is_own_line(line))


def render_quote(quote: Quote) -> str:
    """One line of the brief."""
    where = f"turn {quote.turn}, later than turn {quote.after}" if quote.after else f"turn {quote.turn}"
    return f'- [{where}] "{quote.text}"'


def bound_ledger(
    quotes: Iterable[Quote], max_tokens: int, count_tokens: Callable[[str], int]
) -> tuple[tuple[Quote, ...], int]:
    """The quotes that fit, oldest first, and how many were left out.

    Args:
        quotes: oldest first; repeats are dropped in favour of the newest.
        max_tokens: the ledger's bound.
        count_tokens: tokens of a text.
    """
    newest: dict[str, Quote] = {}
    for quote in quotes:
        newest.pop(quote.text, None)
        newest[quote.text] = quote
    ordered = list(newest.values())
    costs = [count_tokens(render_quote(quote) + "\n") for quote in ordered]
    kept: set[int] = set()
    lost: list[int] = []
    for place in sorted(range(len(ordered)), key=_precedence(ordered), reverse=True):
        if costs[place] <= max_tokens:
            max_tokens -= costs[place]
            kept.add(place)
        else:
            lost.append(place)
    for later in lost:  # which grows
        alone = {place for place in kept if place < later and is_same_subject(ordered[place].text, ordered[later].text)}
        kept -= alone
        lost.extend(alone)
    return tuple(ordered[place] for place in sorted(kept)), len(ordered) - len(kept)


def _precedence(quotes: list[Quote]) -> Callable[[int], tuple[bool, int]]:
    """Orders before wishes, newest first; a wish that may change an earlier order counts as one."""
    is_order = [force_of(quote.text) >= Force.ORDER for quote in quotes]
    turns = {quote.turn for quote, orders in zip(quotes, is_order, strict=True) if orders}
    return lambda place: (is_order[place] or (quotes[place].after > 0 and quotes[place].after in turns), place)
