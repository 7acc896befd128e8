"""Stage 4: how many tokens is this prompt, by section?

A chat resends its history, so what is known of a message is kept by the digest of its raw bytes; only new messages
are parsed and tokenised, and more than a few kB of them off the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

import msgspec

from gateway.core.context.facts import PINNED_ROLES, MessageFacts, learn_facts
from gateway.core.errors import invalid_request
from gateway.core.tokens.cache import TwoGenerationCache
from gateway.core.tokens.profiles import Profile, profile_of
from gateway.core.tokens.weight import Weight, weigh_message, weigh_value
from gateway.core.wire.body import json_fault
from gateway.core.wire.message import parse_message
from gateway.core.wire.request import Endpoint, MeteredRequest
from gateway.exchange import Count, Exchange
from gateway.ports import TextCounter

Digest = Callable[[Sequence[msgspec.Raw | bytes]], list[bytes]]
"""128 bits over the bytes of each."""
FACTS_ENTRY_BYTES = 420
SECTION_ENTRY_BYTES = 130
_PARSE_INLINE_BYTES = 65_536
"""New messages up to this many bytes are parsed on the event loop: about 0.3 ms."""
_TEXT_SECTIONS = frozenset({"tools", "functions", "response_format", "text"})
"""Sections that are counted as the JSON they are, until their own billing rules stand in `core/tokens`."""
_MAX_PROFILES = 1000
"""Model names that are remembered; clients may make up any number."""


class CountCaches:
    """What was counted once, by profile: messages and whole sections, bounded together."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.facts: dict[Profile, TwoGenerationCache[MessageFacts]] = {}
        self.sections: dict[Profile, TwoGenerationCache[int]] = {}

    def of(self, profile: Profile) -> tuple[TwoGenerationCache[MessageFacts], TwoGenerationCache[int]]:
        """The caches of one profile; there are only as many profiles as model families."""
        facts = self.facts.get(profile)
        if facts is None:
            facts = self.facts[profile] = TwoGenerationCache(self._max_bytes * 7 // 8, FACTS_ENTRY_BYTES)
            self.sections[profile] = TwoGenerationCache(self._max_bytes // 8, SECTION_ENTRY_BYTES)
        return facts, self.sections[profile]

    def totals(self) -> tuple[int, int]:
        """Hits and misses of message look-ups so far."""
        return sum(c.hits for c in self.facts.values()), sum(c.misses for c in self.facts.values())


class CountStage:
    """Writes `count` of a metered call.

    Args:
        counter: tokenizers.
        caches: what was counted before.
        digest: 128 bits over the bytes of each, seeded per process.
        encodings: model pattern -> encoding, from the configuration.
    """

    def __init__(self, counter: TextCounter, caches: CountCaches, digest: Digest, encodings: Mapping[str, str]) -> None:
        self._counter = counter
        self._caches = caches
        self._digest = digest
        self._encodings = encodings
        self._profiles: dict[str, Profile] = {}

    async def __call__(self, exchange: Exchange) -> None:
        request = exchange.request
        if request is None:
            return
        profile = self._profile_of(request.model)
        sections = await self._count_sections(profile, request)
        fixed = sum(sections.values())
        if request.endpoint is not Endpoint.CHAT:
            exchange.count = Count(profile, fixed, fixed, sections=sections)
            return
        facts = await self._learn(profile, request.messages)
        fixed += profile.priming_tokens
        system = sum([fact.tokens for fact in facts if fact.role in PINNED_ROLES])
        messages = sum([fact.tokens for fact in facts])
        sections["system"] = system
        sections["turns"] = messages - system
        sections["priming"] = profile.priming_tokens
        exchange.count = Count(profile, fixed + messages, fixed, facts, sections)

    def _profile_of(self, model: str) -> Profile:
        profile = self._profiles.get(model)
        if profile is None:
            profile = profile_of(model, self._encodings)
            if len(self._profiles) < _MAX_PROFILES:
                self._profiles[model] = profile
        return profile

    async def _learn(self, profile: Profile, messages: Sequence[msgspec.Raw]) -> list[MessageFacts]:
        cache, _ = self._caches.of(profile)
        keys = self._digest(messages)
        found = cache.get_many(keys)
        missing = [index for index, fact in enumerate(found) if fact is None]
        if missing:
            raws = [(index, messages[index]) for index in missing]
            is_big = sum(memoryview(raw).nbytes for _, raw in raws) > _PARSE_INLINE_BYTES
            weighed = await asyncio.to_thread(_weigh, raws, profile) if is_big else _weigh(raws, profile)
            texts = [text for _, weight in weighed for text in weight.texts]
            tokens = iter(await self._counter.count(profile, texts))
            for index, (half_learned, weight) in zip(missing, weighed, strict=True):
                fact = msgspec.structs.replace(
                    half_learned, tokens=half_learned.tokens + sum(next(tokens) for _ in weight.texts)
                )
                found[index] = fact
                cache.put(keys[index], fact)
        return [fact for fact in found if fact is not None]

    async def _count_sections(self, profile: Profile, request: MeteredRequest) -> dict[str, int]:
        _, cache = self._caches.of(profile)
        counted: dict[str, int] = {}
        for name, raw in request.sections.items():
            key = self._digest([raw])[0] + name.encode()
            tokens = cache.get(key)
            if tokens is None:
                tokens = await self._count_section(profile, name, raw)
                cache.put(key, tokens)
            counted[name] = tokens
        return counted

    async def _count_section(self, profile: Profile, name: str, raw: bytes) -> int:
        try:
            value = msgspec.json.decode(raw)
            is_json = name in _TEXT_SECTIONS
            texts, fixed = ([raw.decode()], 0) if is_json else weigh_value(value)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise invalid_request(
                f"`{name}` could not be parsed as JSON: {json_fault(error, raw)}.", param=name, code="invalid_json"
            ) from None
        if value is None:
            return 0
        return fixed + sum(await self._counter.count(profile, texts))


def _weigh(raws: Sequence[tuple[int, msgspec.Raw]], profile: Profile) -> list[tuple[MessageFacts, Weight]]:
    """Parse new messages; their facts lack only the tokens of the weights' texts."""
    weighed = []
    for index, raw in raws:
        message = parse_message(bytes(raw), index)
        weight = weigh_message(message, profile)
        weighed.append((learn_facts(message, weight, 0), weight))
    return weighed
