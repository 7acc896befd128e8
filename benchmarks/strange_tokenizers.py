"""Providers whose tokenizers are not ours, built on the spot, and realistic sequences of requests to them.

Each `Provider` says what it would report for a request: the tokens of its own tokenizer, its chat template, a system
text that it adds, and what it makes of tools. Ours is always o200k_base with the usual message overhead. Conversations
are the recorded ones of ../shared/data where they are, and generated ones everywhere.
"""

from __future__ import annotations

import functools
import gzip
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import tiktoken

from gateway.core.tokens.profiles import CL100K, O200K
from gateway.core.tokens.robust_fit import Sample
from gateway.shell.tokens.rank_files import load_encoding, unpack

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
TURN_TOKENS_MAX = 24_000
_SPLIT = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_TEXT = (
    "the of and to in a is that for it as was with be by on not he his but at are this have from or had an they which "
    "one you were her all she there would their we him been has when who will more no if out so said what up its about "
    "into than them can only other new some could time these two may then do first any my now such like our over man "
    "me even most made after also did many before must through back years where much your way well down should because "
    "each just those people how too little state good very make world still own see men work long get here between "
    "tokenizer gateway calibration retry upstream deployment latency kubernetes function parameter response migration"
)
_WORDS = _TEXT.split()


@dataclass(frozen=True)
class Provider:
    """What a provider bills: `count` of each text, plus its template's fixed numbers."""

    name: str
    count: Callable[[str], int]
    message_tokens: int
    system_tokens: int
    tools_tokens: int


@dataclass(frozen=True)
class Request:
    """One prompt: its messages' texts, and the JSON of its tools."""

    texts: tuple[str, ...]
    tools: str = ""


def encoding_counter(name: str) -> Callable[[str], int]:
    """Tokens by one of tiktoken's encodings."""
    encoding = _encoding(name)
    return lambda text: sum(len(encoding.encode_ordinary(line)) for line in text.splitlines(keepends=True))


_encoding = functools.cache(load_encoding)


def small_bpe_counter(merges: int) -> Callable[[str], int]:
    """A byte-pair encoding of few merges, learned elsewhere, that splits words like the first of its kind."""
    tokens, _ = unpack(resources.files("gateway.data").joinpath(f"{CL100K}.ranks").read_bytes())
    ranks = {token: rank for rank, token in enumerate(tokens[:merges])}
    encoding = tiktoken.Encoding("small", pat_str=_SPLIT, mergeable_ranks=ranks, special_tokens={})
    return lambda text: sum(len(encoding.encode_ordinary(line)) for line in text.splitlines(keepends=True))


def byte_counter(text: str) -> int:
    """Three and a half bytes a token, whatever they say."""
    return round(len(text.encode("utf-8", "replace")) / 3.5)


@functools.cache
def providers() -> list[Provider]:
    """The strange ones; built from what is in the package."""
    return [
        Provider("cl100k, template of 5, system text of 71", encoding_counter(CL100K), 5, 71, 330),
        Provider("32,000 merges, template of 8", small_bpe_counter(32_000), 8, 0, 150),
        Provider("bytes / 3.5, system text of 684", byte_counter, 4, 684, 0),
        Provider("o200k, exactly ours", encoding_counter(O200K), 4, 3, 0),
    ]


def samples_of(provider: Provider, requests: list[Request]) -> Iterator[Sample]:
    """What the gateway would learn from: our count and the provider's report."""
    ours, theirs = cached(encoding_counter(O200K)), cached(provider.count)
    for request in requests:
        raw = 3 + sum(4 + ours(text) for text in request.texts) + (ours(request.tools) if request.tools else 0)
        reported = provider.system_tokens + sum(provider.message_tokens + theirs(text) for text in request.texts)
        reported += theirs(request.tools) + provider.tools_tokens if request.tools else 0
        yield Sample(raw, bool(request.tools), reported)


def cached(count: Callable[[str], int]) -> Callable[[str], int]:
    """Chats resend their texts."""
    return functools.lru_cache(100_000)(count)


@functools.cache
def conversations(kind: str) -> list[Request]:
    """Whole conversations: prose, agents (with tools where known), mixed (all, with Chinese), or generated only."""
    recorded = [request for name in _SOURCES[kind] for request in _recorded(*name)]
    return [*recorded, *(_generated(random.Random(seed)) for seed in range(4 if recorded else 40))]


_SOURCES: dict[str, tuple[tuple[str, str], ...]] = {
    "generated": (),
    "prose": (("conversations", ""), ("chats", "memorybank-en")),
    "agents": (("traces", ""), ("chats", "specstory")),
    "mixed": (("conversations", ""), ("traces", ""), ("chats", "")),
}


def _recorded(name: str, prefix: str) -> Iterator[Request]:
    path = DATA / f"{name}_dev.jsonl.gz"
    if not path.is_file():
        return
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            record = json.loads(line)
            if not record["id"].startswith(prefix):
                continue
            tools = record.get("tools")
            texts = tuple(_text_of(message) for message in record["messages"])
            yield Request(texts, json.dumps(tools, separators=(",", ":")) if tools else "")


def _text_of(message: dict[str, Any]) -> str:
    calls = [call["function"]["name"] + call["function"]["arguments"] for call in message.get("tool_calls") or ()]
    return "".join([message.get("content") or "", *calls])


def _generated(rng: random.Random) -> Request:
    def text() -> str:
        words = [rng.choice(_WORDS) + rng.choice(("", "", "", ",", ".", f" {rng.randint(0, 9999)}")) for _ in range(80)]
        return " ".join(words[: rng.randint(3, 80)])

    return Request(tuple(text() for _ in range(60)))


def growing(count: int, rng: random.Random, kind: str) -> list[Request]:
    """One chat after another, each resending its history with a turn more, cut at `TURN_TOKENS_MAX` or so."""
    requests: list[Request] = []
    while len(requests) < count:
        chat = rng.choice(conversations(kind))
        requests += _prefixes(chat, rng)[: rng.randint(4, 30)]
    return requests[:count]


def interleaved(count: int, rng: random.Random, kind: str) -> list[Request]:
    """Many chats at once: each request is the next turn of one of them."""
    open_chats: list[list[Request]] = []
    requests: list[Request] = []
    while len(requests) < count:
        open_chats = [chat for chat in open_chats if chat]
        if len(open_chats) < 8:
            open_chats.append(_prefixes(rng.choice(conversations(kind)), rng))
            continue
        requests.append(rng.choice(open_chats).pop(0))
    return requests


def short(count: int, rng: random.Random, kind: str) -> list[Request]:
    """Single questions: one message, taken from anywhere."""
    texts = [text for chat in conversations(kind) for text in chat.texts if text]
    return [Request((rng.choice(texts)[: rng.choice((40, 200, 1000, 4000))],)) for _ in range(count)]


def _prefixes(chat: Request, rng: random.Random) -> list[Request]:
    step = rng.choice((1, 2, 2, 4))
    found = []
    size = 0
    for end in range(1, len(chat.texts) + 1):
        size += len(chat.texts[end - 1])
        if size > 4 * TURN_TOKENS_MAX:
            break
        if end % step == 0:
            found.append(Request(chat.texts[:end], chat.tools))
    return found or [Request(chat.texts[:1], chat.tools)]
