"""The demo: a long chat through the running gateway, with the client library that applications use.

A reader gives a few facts and rules, then sends a book passage by passage and resends the whole growing chat
each turn, as every chat application does. The chat outgrows the token budget. The demo prints, turn by turn,
what the gateway did about it (as its headers say); at the end it asks for what was said at the start only.

It judges mechanically, not by taste: every turn answered, every forwarded prompt within the budget, and the
stated values in the last answer.
"""

import re
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from itertools import cycle
from shutil import get_terminal_size
from typing import Any

MAX_ANSWER_TOKENS = 400
BRIEF_LINES = 25
BAR = 12
LEFT = "left_s"
HEADER = "turn msgs    chat   sent  budget used        level       saved ttft  answer"
SYSTEM = "You are a patient reading companion. Answer briefly, from what was read or said in this chat."
OPENING = (
    "Good evening! My name is Margit Oyelaran. Please never spoil the ending, and keep every answer under "
    "three sentences. I will send you the book passage by passage.",
    "Before we begin: my reading club meets every Wednesday at the Harbour Library in Bergen. The code of my "
    "locker there is 7T-4093. I have to return the book by 14 May.",
)
LAST_QUESTION = "What is the code of my locker, and on which day does my reading club meet?"
LAST_VALUES = ("7T-4093", "Wednesday")
# (turn, question, what the answer should hold): only about what was read well before that turn.
QUESTIONS: tuple[tuple[int, str, str], ...] = (
    (12, "What was the jar that Alice took from the shelf labelled?", "MARMALADE"),
    (24, "Which words were on the very small cake?", "EAT ME"),
    (36, "How deep was the pool of tears, in inches?", "four inches"),
    (48, "What is the best thing to get dry, according to the Dodo?", "Caucus-race"),
    (60, "Whose name was engraved on the bright brass plate?", "RABBIT"),
)


@dataclass(slots=True)
class Turn:
    """One question and what came back; token counts are None where no header and no usage told."""

    number: int
    messages: int
    expects: Sequence[str] = ()
    level: str = "-"
    sent: int | None = None
    saved: int | None = None
    billed: int | None = None
    upstream: str = "-"
    first_ms: float | None = None
    answer: str = ""
    error: str = ""

    @property
    def chat_tokens(self) -> int | None:
        """What the client's chat costs when it is sent as it is."""
        return None if self.sent is None else self.sent + (self.saved or 0)

    @property
    def is_found(self) -> bool:
        return all(value in self.answer for value in self.expects)


@dataclass(slots=True)
class Screen:
    """Prints; colours only on a terminal, and nothing that the terminal's encoding lacks."""

    is_tty: bool = field(default_factory=lambda: sys.stdout.isatty())
    width: int = field(default_factory=lambda: max(100, min(160, get_terminal_size((120, 24)).columns)))

    def say(self, text: str = "", colour: str = "") -> None:
        encoding = sys.stdout.encoding or "ascii"
        text = text.encode(encoding, "replace").decode(encoding)
        print(f"\033[{colour}m{text}\033[0m" if colour and self.is_tty else text, flush=True)

    def block(self, text: str, limit: int | None = None) -> None:
        """Indented, wrapped, at most `limit` lines."""
        wrap = textwrap.TextWrapper(self.width - 8, subsequent_indent="  ")
        lines = [part for line in text.strip().splitlines() for part in wrap.wrap(line) or [""]]
        for line in lines[:limit]:
            self.say(f"      | {line}", "2")
        if limit is not None and len(lines) > limit:
            self.say(f"      | ... {len(lines) - limit} more lines", "2")


def read_passages(min_words: int = 100) -> list[str]:
    """The book in passages of whole paragraphs, each of at least min_words words but the last."""
    text = resources.files("gateway").joinpath("data", "alice.txt").read_text(encoding="utf-8")
    passages: list[str] = []
    part: list[str] = []
    for paragraph in text.strip().split("\n\n"):
        part.append(paragraph)
        if sum(len(p.split()) for p in part) >= min_words:
            passages.append("\n\n".join(part))
            part = []
    return [*passages, "\n\n".join(part)] if part else passages


def plan_turns(turns: int) -> Iterator[tuple[str, Sequence[str]]]:
    """What the reader says, turn by turn, with what the answer should hold."""
    passages = cycle(read_passages())
    asked = {number: (question, (expects,)) for number, question, expects in QUESTIONS}
    opening = OPENING[: turns - 1]
    yield from ((said, ()) for said in opening)
    for number in range(len(opening) + 1, turns):
        yield asked.get(number) or (f"Here is the next passage:\n\n{next(passages)}\n\nWhat happens?", ())
    yield LAST_QUESTION, LAST_VALUES


async def run_demo(
    base_url: str,
    *,
    turns: int = 64,
    budget: int,
    verbose: bool = False,
    brief_text: Callable[[], str | None] | None = None,
) -> int:
    """Talk to the gateway for `turns` turns and judge what came back.

    Args:
        base_url: the gateway's data port, e.g. http://127.0.0.1:40123/v1.
        turns: questions to ask, at least 3.
        budget: the gateway's max_total in tokens, prompt and completion together.
        verbose: print every answer whole.
        brief_text: the newest running brief, asked for when the budget overflowed; None shows no brief.

    Returns:
        0 if every turn was answered, every forwarded prompt fitted and the last answer holds what was stated
        in the first turns; 1 if not; 2 if the openai package is missing.
    """
    try:
        from openai import AsyncOpenAI, DefaultAsyncHttpxClient
    except ImportError:
        print('The demo talks through the openai package: pip install "llm-gateway[demo]"', file=sys.stderr)
        return 2
    screen, began = Screen(), time.perf_counter()
    screen.say(f"A reading chat of {turns} turns through {base_url}, budget {budget:,} tokens (prompt + completion).")
    screen.say(HEADER, "1")
    done: list[Turn] = []
    http = DefaultAsyncHttpxClient(event_hooks={"request": [note_departure]})
    async with AsyncOpenAI(base_url=base_url, api_key="demo", max_retries=0, http_client=http) as client:
        async for turn in chat(client, max(3, turns)):
            if is_new_brief(turn, done):
                print_overflow(screen, turn, budget, brief_text, is_first=not any(is_folded(t) for t in done))
            print_turn(screen, turn, budget, verbose)
            done.append(turn)
    return print_verdict(screen, done, budget, time.perf_counter() - began, brief_text)


async def chat(client: Any, turns: int) -> AsyncIterator[Turn]:
    """Ask turn by turn, resending everything said so far; a turn that fails is left out of the chat."""
    messages: list[dict[str, str]] = [{"role": "system", "content": SYSTEM}]
    for number, (question, expects) in enumerate(plan_turns(turns), 1):
        messages.append({"role": "user", "content": question})
        turn = Turn(number, len(messages), expects)
        try:
            await ask(client, messages, turn)
        except Exception as error:  # noqa: BLE001  the verdict reports it
            turn.error = f"{type(error).__name__}: {error}"
        if turn.answer:
            messages.append({"role": "assistant", "content": turn.answer})
        else:
            messages.pop()
        yield turn


async def note_departure(request: Any) -> None:
    """When a request leaves: preparing a long chat takes the client library longer than the gateway needs."""
    request.extensions[LEFT] = time.perf_counter()


async def ask(client: Any, messages: Sequence[Mapping[str, str]], turn: Turn) -> None:
    """Stream one answer into `turn`, with what its headers and its usage say."""
    raw = await client.chat.completions.with_raw_response.create(
        model="demo",
        messages=messages,
        max_tokens=MAX_ANSWER_TOKENS,
        stream=True,
        stream_options={"include_usage": True},
    )
    turn.sent = number_in(raw.headers, "x-gateway-tokens-prompt")
    turn.saved = number_in(raw.headers, "x-gateway-tokens-saved")
    turn.level = raw.headers.get("x-gateway-compaction", "-")
    turn.upstream = raw.headers.get("x-gateway-upstream", "-")
    async for chunk in raw.parse():
        if chunk.usage:
            turn.billed = chunk.usage.prompt_tokens
        if chunk.choices and chunk.choices[0].delta.content:
            turn.first_ms = turn.first_ms or (time.perf_counter() - raw.http_request.extensions[LEFT]) * 1000
            turn.answer += chunk.choices[0].delta.content
    if turn.sent is None:
        turn.sent = turn.billed


def number_in(headers: Mapping[str, str], name: str) -> int | None:
    value = headers.get(name, "")
    return int(value) if value.isdigit() else None


def is_folded(turn: Turn) -> bool:
    return turn.level not in ("-", "none")


def is_new_brief(turn: Turn, before: Sequence[Turn]) -> bool:
    """Was older text folded for this turn? Then less was sent than for the turn before."""
    last = next((t for t in reversed(before) if t.sent is not None), None)
    if not is_folded(turn) or turn.sent is None:
        return False
    return last is None or not is_folded(last) or turn.sent < (last.sent or 0)


def print_turn(screen: Screen, turn: Turn, budget: int, verbose: bool) -> None:
    """One line, and with `verbose` the whole answer."""
    used = (turn.sent + MAX_ANSWER_TOKENS) / budget if turn.sent is not None else 0.0
    full = min(BAR, int(used * BAR))
    bar = f"[{'#' * full}{'.' * (BAR - full)}]{used:>4.0%}"
    mark = "NOT ANSWERED: " if turn.error else "" if not turn.expects else "ok: " if turn.is_found else "MISSED: "
    counts = f"{turn.number:>4} {turn.messages:>4} {show(turn.chat_tokens):>7} {show(turn.sent):>6}"
    row = f"{counts}  {bar:<{BAR + 6}} {turn.level:<10} {show(turn.saved):>6} {show(turn.first_ms):>4}  {mark}"
    said = " ".join((turn.error or turn.answer).split())
    colour = "31" if turn.error or not turn.is_found else "36" if is_folded(turn) else ""
    screen.say(row + said[: max(20, screen.width - len(row))], colour)
    if verbose:
        screen.block(turn.error or turn.answer)


def show(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def print_overflow(
    screen: Screen, turn: Turn, budget: int, brief_text: Callable[[], str | None] | None, is_first: bool
) -> None:
    """What overflowed, and the first time the brief that stands for it."""
    brief = brief_text() if brief_text else None
    covered = re.search(r"first (\d+) messages", brief or "")
    folded = f"{int(covered[1]) // 2} older turns" if covered else "older turns"
    asked = f"{show(turn.chat_tokens)} tokens + {MAX_ANSWER_TOKENS} completion > max_total {budget:,}"
    outcome = f"{folded} folded into the running brief, {show(turn.saved)} tokens saved"
    screen.say(f"  >>> budget overflowed: {asked}; {outcome}", "1;33")
    if brief and is_first:
        screen.say("      the running brief:", "1")
        screen.block(brief, BRIEF_LINES)


def print_verdict(
    screen: Screen,
    done: Sequence[Turn],
    budget: int,
    seconds: float,
    brief_text: Callable[[], str | None] | None,
) -> int:
    """The last brief, the last answer, the totals and the exit code."""
    last = done[-1]
    brief = brief_text() if brief_text else None
    if brief:
        screen.say("\nThe running brief at the end:", "1")
        screen.block(brief, BRIEF_LINES)
    screen.say(f"\nAsked at the end, told only in the first turns: {LAST_QUESTION}", "1")
    screen.block(last.answer or last.error)
    screen.say(f"found in the answer: {'yes' if last.is_found else 'no'} ({', '.join(LAST_VALUES)})")
    chat_tokens = sum(turn.chat_tokens or 0 for turn in done)
    sent = sum(turn.sent or 0 for turn in done)
    failed = sum(bool(t.error) for t in done)
    over = sum(max(t.sent or 0, t.billed or 0) + MAX_ANSWER_TOKENS > budget for t in done)
    recalled = [t.is_found for t in done[:-1] if t.expects]
    saved = 1 - sent / chat_tokens if chat_tokens else 0.0
    screen.say(
        f"\nthe client's chats: {chat_tokens:,} tokens; sent: {sent:,}; saved {saved:.0%}\n"
        f"turns over budget: {over}/{len(done)}; turns not answered: {failed}/{len(done)}; "
        f"recalled along the way: {sum(recalled)}/{len(recalled)}; {seconds:.1f} s"
    )
    return int(bool(failed or over or not last.is_found or not last.answer))
