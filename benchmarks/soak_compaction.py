"""Ten thousand turns of one conversation, and a thousand conversations at once, through count and assemble.

    python3 dev.py soak [--turns 10000] [--conversations 1000] [--rounds 12] [--size 120]

The client resends everything at each turn, as clients do. Tokens are guessed by length, so that what is measured is
the stages and not the tokenizer. Printed: milliseconds a turn by tenths of the conversation (the part that grows is
reading what the client resends), folds, the largest brief, bytes in the brief store, resident memory. The exit status
is 1 if a brief outgrows its share, a request is refused, or compactions come oftener than one turn in four.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import sys
import time
from dataclasses import dataclass, field

from gateway.core.context.budget import Budget
from tests.histories import Sent, World, budget_of

BRIEF_TOKENS = 300
LIMIT = 2400
_TOPICS = ("the roof", "invoices", "the ferry", "db-7.internal", "the lease", "crate K-17")


def budget() -> Budget:
    """A budget that a conversation fills every few dozen turns."""
    return budget_of(LIMIT, completion=200, brief=BRIEF_TOKENS, recent=200)


def encoded(role: str, text: str) -> bytes:
    return json.dumps({"role": role, "content": text}, ensure_ascii=False).encode()


@dataclass
class Conversation:
    """One that grows turn by turn; `raws` is all that its client sends."""

    name: str
    size: int = 120
    turn: int = 0
    raws: list[bytes] = field(default_factory=lambda: [encoded("system", "You are terse.")])

    def ask(self) -> bytes:
        """One more question; the whole body."""
        self.turn += 1
        topic = _TOPICS[self.turn % len(_TOPICS)]
        run = f"R-{self.turn * 7919 % 100_003}"
        text = f"{self.name}, turn {self.turn}: about {topic}, run {run} took {self.turn % 97} s. "
        if self.turn % 50 == 0:
            text += f"Never touch run R-{self.turn} again. "
        self.raws.append(encoded("user", text + "And so it went on. " * (self.size // 19)))
        return b'{"model": "gpt-4o", "messages": [' + b",".join(self.raws) + b"]}"

    def answer(self) -> None:
        """What came back."""
        self.raws.append(encoded("assistant", f"Noted turn {self.turn}. " + "All is well. " * (self.size // 13)))


@dataclass
class Tally:
    """What became of many requests."""

    sent: int = 0
    folds: int = 0
    refused: int = 0
    largest_brief: int = 0
    largest_prompt: int = 0

    def add(self, sent: Sent) -> None:
        """Count one."""
        self.sent += 1
        self.folds += sent.receipt.is_new_brief
        self.refused += sent.refusal is not None
        self.largest_brief = max(self.largest_brief, sent.receipt.brief.tokens if sent.receipt.brief else 0)
        self.largest_prompt = max(self.largest_prompt, sent.receipt.prompt_tokens)

    @property
    def is_sound(self) -> bool:
        """Whether nothing grew, failed or looped."""
        is_bounded = self.largest_brief <= BRIEF_TOKENS and self.largest_prompt <= LIMIT
        return is_bounded and not self.refused and self.folds * 4 <= self.sent


async def long_conversation(world: World, turns: int, size: int, *, is_shown: bool = False) -> Tally:
    """One conversation of so many turns."""
    talk, tally, spent_s = Conversation("Anna", size), Tally(), 0.0
    tenth = max(1, turns // 10)
    for turn in range(1, turns + 1):
        body = talk.ask()
        began_s = time.perf_counter()
        sent = await world.send_body(body, ())
        spent_s += time.perf_counter() - began_s
        tally.add(sent)
        talk.answer()
        if is_shown and turn % tenth == 0:
            print(
                f"{turn:7} turns  {spent_s / tenth * 1000:7.2f} ms a turn  {len(body) / 1e6:6.2f} MB a body"
                f"  {tally.folds:5} folds  {world.store.held_bytes / 1024:7.0f} KiB of briefs"
                f"  {resident_mib():6.0f} MiB resident",
                flush=True,
            )
            spent_s = 0.0
    return tally


async def many_conversations(
    world: World, conversations: int, rounds: int, size: int, *, is_shown: bool = False
) -> Tally:
    """So many conversations at once, each of so many turns, each client with a scope of its own."""
    talks = [Conversation(f"Client {number}", size) for number in range(conversations)]
    tally = Tally()
    for turn in range(1, rounds + 1):
        began_s = time.perf_counter()
        answers = [world.send_body(talk.ask(), (), talk.name.encode()) for talk in talks]
        for sent in await asyncio.gather(*answers):
            tally.add(sent)
        for talk in talks:
            talk.answer()
        if is_shown and turn % 4 == 0:
            spent_ms = (time.perf_counter() - began_s) / conversations * 1000
            print(
                f"{turn:7} turns  {spent_ms:7.2f} ms a turn  {tally.folds:5} folds"
                f"  {world.store.held_bytes / 1024:7.0f} KiB of briefs  {resident_mib():6.0f} MiB resident",
                flush=True,
            )
    return tally


def resident_mib() -> float:
    """The most that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> int:
    """Run both; 1 if anything grew, failed or looped."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--turns", type=int, default=10_000)
    options.add_argument("--conversations", type=int, default=1_000)
    options.add_argument("--rounds", type=int, default=40, help="turns of each of the many conversations")
    options.add_argument("--size", type=int, default=120, help="characters of a message, about")
    chosen = options.parse_args()
    print(f"one conversation of {chosen.turns} turns")
    one = asyncio.run(long_conversation(World(budget()), chosen.turns, chosen.size, is_shown=True))
    print(one)
    print(f"{chosen.conversations} conversations at once, {chosen.rounds} turns each")
    world = World(budget())
    many = asyncio.run(many_conversations(world, chosen.conversations, chosen.rounds, chosen.size, is_shown=True))
    print(many)
    return 0 if one.is_sound and many.is_sound else 1


if __name__ == "__main__":
    sys.exit(main())
