"""Making a brief: the earlier one and newly folded turns become the next.

A new segment goes behind the earlier ones while there is room for it; else all are told anew as one, which takes a
part of the share only, so that the next folds can add to it. Whoever writes a segment's body, what comes out is held
against the hard values of what was folded, and what it lacks is added while there is room. Secrets are masked before
anything else is done with a text, so that nothing made of it holds them.

Invariants, each with a test of its own:
  1. A brief never takes more than its job allows, wherever its bare frame does not.
  2. A quote that was in the ledger stays in it while the ledger has room for all.
  3. A brief that only adds a segment begins with the earlier one's bytes.
  4. No secret that `secrets` knows stands in a brief, whoever wrote it.
  5. No line of a summary passes for a rule of the user's, and none of its constraints is news to the user.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from gateway.core.context.brief import Brief, FoldJob, Level, Segment, render_brief
from gateway.core.context.elide_names import list_names, names_in
from gateway.core.context.extractive import Turn, extract_brief
from gateway.core.context.ledger import LEDGER_SHARE, bound_ledger, quote_rules, render_quote
from gateway.core.context.marks import defuse_lines
from gateway.core.context.secrets import mask_secrets
from gateway.core.context.summary import without_news
from gateway.core.context.supersede import Quote, settle_rules
from gateway.core.context.values import HardValue, cover, hard_values, render_missing

CountTokens = Callable[[str], int]
"""Tokens of a text."""
CountBrief = Callable[[str], int]
"""Tokens of a whole message of `BRIEF_ROLE` with this text."""
_MIN_SEGMENT_TOKENS = 96
"""Where less is left of the share, the segments are told anew as one."""
_SEGMENT_SHARE = 0.6
"""Of what is left of the share, what a new segment may take: the next ones need room too."""
_WHOLE_SHARE = 0.7
"""The same where all is told anew."""
_LEAST_SHARE = 0.25
"""Of the share, what a new segment needs: with less, what came late would be told worse than what came early."""
_VALUES_SHARE = 0.12
"""Of a segment's room, what is kept for hard values that its body lacks."""
_NAMES_SHARE = 0.5
"""The same for names and values where results of tools are folded: next steps use them letter for letter."""
_TOOL_ROLES = ("tool", "function")
_NAMES_HEAD = "Names and values seen: "
_MIN_NAMES_TOKENS = 24


@dataclass(frozen=True, slots=True)
class Frame:
    """A brief before the body of its newest segment.

    Attributes:
        kept: earlier segments that stay as they are; empty when all is told anew.
        first: number of the first message that the new segment tells of.
        ledger: the new segment's.
        lost_quotes: rules that no ledger had room for, so far.
        body_tokens: what the new body may take.
        values: what the whole brief should hold of what was folded.
        turns: what is folded, secrets masked.
    """

    kept: tuple[Segment, ...]
    first: int
    ledger: tuple[Quote, ...]
    lost_quotes: int
    body_tokens: int
    values: tuple[HardValue, ...]
    turns: tuple[Turn, ...]


def frame_brief(job: FoldJob, count: CountTokens, count_brief: CountBrief) -> Frame:
    """What of a brief does not depend on who writes its body.

    Args:
        job: what to fold.
        count: tokens of a text.
        count_brief: tokens of the brief's whole message.
    """
    job = replace(job, turns=tuple(turn._replace(text=mask_secrets(turn.text)) for turn in job.turns))
    values = tuple(hard_values(job.turns))
    stated = [quote for turn in job.turns if turn.role == "user" for quote in quote_rules(turn.number, turn.text)]
    settled = settle_rules([*(job.earlier.ledger if job.earlier else ()), *stated])
    return _added(job, settled, values, count, count_brief) or _anew(job, settled, values, count, count_brief)


def _added(
    job: FoldJob, settled: Sequence[Quote], values: tuple[HardValue, ...], count: CountTokens, count_brief: CountBrief
) -> Frame | None:
    """One more segment, where there is room for it and for every new rule."""
    earlier = job.earlier
    if earlier is None or not job.turns:
        return None
    kept = earlier.segments
    known = {quote.text: quote for quote in earlier.ledger}
    fresh = [quote for quote in settled if quote.text not in known]
    if any(quote.after > known[quote.text].after for quote in settled if quote.text in known):
        return None  # one of them comes before a rule that stands already
    held = sum(count(render_quote(quote) + "\n") for quote in earlier.ledger)
    ledger, lost = bound_ledger(fresh, int(job.max_tokens * LEDGER_SHARE) - held, count)
    bare = count_brief(render_brief([*kept, _segment(job, earlier.covers + 1, ledger, ".")]))
    room = job.max_tokens - bare
    least = max(_MIN_SEGMENT_TOKENS, int(job.max_tokens * _LEAST_SHARE))
    if lost or room < least:
        return None
    body_tokens = max(least, int(room * _SEGMENT_SHARE))
    return Frame(kept, earlier.covers + 1, ledger, earlier.lost_quotes, body_tokens, values, job.turns)


def _anew(
    job: FoldJob, settled: Sequence[Quote], values: tuple[HardValue, ...], count: CountTokens, count_brief: CountBrief
) -> Frame:
    """One segment for all, with the rules that still hold."""
    ledger, lost = bound_ledger(settled, int(job.max_tokens * LEDGER_SHARE), count)
    lost += job.earlier.lost_quotes if job.earlier else 0
    room = job.max_tokens - count_brief(render_brief([_segment(job, 1, ledger, ".")]))
    while room < 0 and ledger:
        ledger, lost = ledger[1:], lost + 1
        room = job.max_tokens - count_brief(render_brief([_segment(job, 1, ledger, ".")]))
    body_tokens = room if room < 2 * _MIN_SEGMENT_TOKENS else int(room * _WHOLE_SHARE)
    return Frame((), 1, ledger, lost, max(0, body_tokens), values, job.turns)


def _segment(job: FoldJob, first: int, ledger: tuple[Quote, ...], body: str) -> Segment:
    return Segment(min(first, job.covers), job.covers, ledger, body)


def fold_extractive(job: FoldJob, frame: Frame, count: CountTokens, count_brief: CountBrief) -> Brief:
    """The brief that needs nothing, and fits wherever its bare frame does.

    Args:
        job: what to fold.
        frame: `frame_brief(job)`.
        count: tokens of a text.
        count_brief: tokens of the brief's whole message.
    """
    told, _ = _without_names(job.earlier.body) if job.earlier and not frame.kept else ("", ())
    return _fitted(job, frame, Level.EXTRACTIVE, told, frame.turns, count, count_brief)


def fold_written(job: FoldJob, frame: Frame, written: str, count: CountTokens, count_brief: CountBrief) -> Brief | None:
    """The brief with a body that a language model wrote, or None if there is none.

    Args:
        job: what was folded.
        frame: `frame_brief(job)`.
        written: the summary, read by `summary.read_summary`; of one that is too long the best lines are taken.
        count: tokens of a text.
        count_brief: tokens of the brief's whole message.
    """
    told = job.earlier.body if job.earlier else ""
    body = without_news(defuse_lines(mask_secrets(written.strip())), told, frame.turns).strip()
    if not body:
        return None
    if count(body) <= frame.body_tokens:
        brief = _verified(job, frame, Level.BRIEF, body, count, count_brief)
        if brief.tokens <= job.max_tokens:
            return brief
    brief = _fitted(job, frame, Level.BRIEF, body, (), count, count_brief)
    return brief if brief.segments[-1].body else None


def _fitted(
    job: FoldJob,
    frame: Frame,
    level: Level,
    told: str,
    turns: Sequence[Turn],
    count: CountTokens,
    count_brief: CountBrief,
) -> Brief:
    """The brief with the best lines; a text may cost more than its lines do, so what is over is taken off again."""
    names_room = int(frame.body_tokens * _NAMES_SHARE) if any(turn.role in _TOOL_ROLES for turn in turns) else 0
    room = frame.body_tokens - max(names_room, int(frame.body_tokens * _VALUES_SHARE))
    quoted = {quote.text for quote in frame.ledger}
    while True:
        body = extract_brief(told, turns, room, count, quoted) if room > 0 else ""
        if body and names_room:
            body += _names_line(job, frame, body, min(names_room, frame.body_tokens - count(body)), count)
        brief = _verified(job, frame, level, body, count, count_brief)
        if brief.tokens <= job.max_tokens or not body:
            return brief
        room -= max(4, brief.tokens - job.max_tokens)


def _names_line(job: FoldJob, frame: Frame, body: str, room: int, count: CountTokens) -> str:
    """Names and values that neither the brief nor what stays tells, best first; "" for none."""
    room -= count("\n" + _NAMES_HEAD)
    if room < _MIN_NAMES_TOKENS:
        return ""
    turns = [(turn.role, tuple(names_in(turn.text))) for turn in frame.turns]
    if job.earlier and not frame.kept:
        turns.insert(0, ("assistant", _without_names(job.earlier.body)[1]))
    visible = "\n".join([job.staying, body, *(segment.body for segment in frame.kept)])
    names = list_names(turns, visible, room, count)
    return f"\n{_NAMES_HEAD}{names}" if names else ""


def _without_names(body: str) -> tuple[str, tuple[str, ...]]:
    """A body without its lines of names, and these."""
    lines = body.splitlines()
    names = [line.removeprefix(_NAMES_HEAD).split(", ") for line in lines if line.startswith(_NAMES_HEAD)]
    told = [line for line in lines if not line.startswith(_NAMES_HEAD)]
    return "\n".join(told), tuple(name for line in names for name in line)


def _verified(
    job: FoldJob, frame: Frame, level: Level, body: str, count: CountTokens, count_brief: CountBrief
) -> Brief:
    """The brief with this body, and with the hard values that it lacks as far as there is room."""
    brief = _brief(job, frame, level, body, count_brief)
    values = frame.values
    found = cover(values, render_brief(brief.segments))
    if found.missing and body:
        left = min(frame.body_tokens - count(body), job.max_tokens - brief.tokens) - 2
        if line := render_missing(found.missing, left, count):
            longer = _brief(job, frame, level, f"{body}\n{line}", count_brief)
            if longer.tokens <= job.max_tokens:
                brief, found = longer, cover(values, render_brief(longer.segments))
    return replace(brief, coverage=round(found.ratio, 4))


def _brief(job: FoldJob, frame: Frame, level: Level, body: str, count_brief: CountBrief) -> Brief:
    segments = (*frame.kept, _segment(job, frame.first, frame.ledger, body))
    tokens = count_brief(render_brief(segments))
    return Brief(job.covers, level, segments, frame.lost_quotes, tokens, job.pinned)
