"""Stage 4: how many tokens is this prompt, by section?

A chat resends its history, so what is known of a message is kept by the digest of its raw bytes; only new messages
are parsed and tokenised, and more than a few kB of them off the event loop. Tools, formats and the items of a
Responses input are kept in the same way.
"""

from __future__ import annotations

import asyncio
import datetime
import time
from array import array
from collections.abc import Mapping, Sequence

import msgspec

from gateway.core.context.count_caches import NOTHING_LEARNED, Caches, CountCaches, LearnedChat
from gateway.core.context.facts import MessageFacts, learn_facts, places_together
from gateway.core.context.items import LearnedItem, learn_item
from gateway.core.tokens.asked import as_is, is_one_by_one, read_section, reasoning_of, thinks
from gateway.core.tokens.frames import (
    FORMAT_KEYS,
    PRO_MODE_TOKENS,
    TOOLS_KEYS,
    Counted,
    Surroundings,
    choice_tokens,
    frame_of,
    frame_sections,
)
from gateway.core.tokens.items import CountedItem, Item, settle_each, weigh_item
from gateway.core.tokens.profiles import NO_TEMPLATES, Profile, Template, profile_of
from gateway.core.tokens.sections import Section, weigh_section
from gateway.core.tokens.weight import PINNED_ROLES, Company, Weight, weigh_company, weigh_message
from gateway.core.wire.message import parse_message
from gateway.core.wire.prefix import MIN_BYTES, KnownMessages, places_of
from gateway.core.wire.request import Endpoint, MeteredRequest
from gateway.exchange import Count, Exchange
from gateway.ports import TextCounter

_PARSE_INLINE_BYTES = 65_536
"""New messages up to this many bytes are parsed on the event loop: about 0.3 ms."""
_PAUSE_EVERY, _PAUSE_S = 64, 1e-5
_MAX_PROFILES = 1000
"""Model names that are remembered; clients may make up any number."""


class CountStage:
    """Writes `count` of a metered call.

    Args:
        counter: tokenizers.
        caches: what was counted before.
        encodings: model pattern -> encoding, from the configuration.
        templates: model pattern -> what its chat template adds, from the configuration.
        day: whose prices hold; None for today's. Bills of the past are judged by those of their day.
    """

    def __init__(
        self,
        counter: TextCounter,
        caches: CountCaches,
        encodings: Mapping[str, str],
        day: datetime.date | None = None,
        templates: Mapping[str, Template] = NO_TEMPLATES,
    ) -> None:
        self._counter = counter
        self.caches = caches
        self._digest = caches.digest
        self._encodings = encodings
        self._templates = templates
        self._day = day
        self._profiles: dict[str, tuple[Profile, Caches]] = {}

    async def __call__(self, exchange: Exchange) -> None:
        request = exchange.request
        if request is None:
            return
        profile, caches = self._profile_of(request.model)
        if request.endpoint is Endpoint.CHAT:
            exchange.count = await self._count_chat(request, profile, caches)
            return
        counted = await self._count_sections(request, profile, caches)
        if request.endpoint is Endpoint.RESPONSES:
            exchange.count = await self._count_responses(request, profile, caches, counted)
            return
        sections = {key: found.tokens for key, found in counted.items()}
        total = sum(sections.values())
        exchange.count = Count(profile, total, total, sections=sections)

    def _profile_of(self, model: str) -> tuple[Profile, Caches]:
        found = self._profiles.get(model)
        if found is None:
            profile = profile_of(model, self._encodings, self._templates)
            found = (profile, self.caches.of(profile))
            if len(self._profiles) < _MAX_PROFILES:
                self._profiles[model] = found
        return found

    async def _count_chat(self, request: MeteredRequest, profile: Profile, caches: Caches) -> Count:
        facts, special, messages = await self._learn_all(request, profile, caches)
        if any(len(fact.calls) > 1 for fact in special):
            await self._place_results(request.messages, facts, profile, caches)
            messages = sum([fact.tokens for fact in facts])
        system = sum(fact.tokens for fact in special if fact.role in PINNED_ROLES)
        sections: dict[str, int] = {}
        if request.sections or request.options:
            counted = await self._count_sections(request, profile, caches)
            around = await self._surroundings(request, facts, counted, profile, caches)
            frame = frame_of(profile.family, Endpoint.CHAT, self._day)
            sections = frame_sections(frame, counted, around)
            sections |= await self._count_choice(request, profile)
        sections["system"] = system
        sections["turns"] = messages - system
        sections["priming"] = profile.priming_tokens
        total = sum(sections.values())
        return Count(profile, total, total - messages, facts, sections)

    async def _surroundings(
        self,
        request: MeteredRequest,
        facts: list[MessageFacts],
        counted: Mapping[str, Counted],
        profile: Profile,
        caches: Caches,
    ) -> Surroundings:
        joint = None
        if facts[0].role in PINNED_ROLES and any(found.is_text for found in counted.values()):
            await self._learn_company(request.messages, facts, [0], profile, caches)
            joint = facts[0].company[0] if facts[0].company else 0
        is_format = any(counted[key].is_text for key in FORMAT_KEYS if key in counted)
        answers = sum(fact.role == "assistant" and not fact.calls for fact in facts) if is_format else 0
        return Surroundings(joint, answers, is_one_by_one(request))

    async def _count_responses(
        self, request: MeteredRequest, profile: Profile, caches: Caches, counted: dict[str, Counted]
    ) -> Count:
        items: Sequence[LearnedItem] = ()
        facts: list[MessageFacts] = []
        if request.messages:
            items = await self._learn_items(request.messages, profile, caches)
            settled = settle_each([item.counted for item in items], profile, thinks=thinks(request, profile))
            counted["input"] = Counted(sum(settled), is_text=False)
            if all(item.fact is not None for item in items):
                facts = [_settled(item, tokens) for item, tokens in zip(items, settled, strict=True) if item.fact]
        sections = await self._frame_responses(request, profile, counted)
        total = sum(sections.values())
        return Count(
            profile, total, total - sum(fact.tokens for fact in facts), facts, sections, items if facts else ()
        )

    async def _frame_responses(
        self, request: MeteredRequest, profile: Profile, counted: Mapping[str, Counted]
    ) -> dict[str, int]:
        frame = frame_of(profile.family, Endpoint.RESPONSES, self._day)
        around = Surroundings(is_one_by_one=is_one_by_one(request))
        sections = frame_sections(frame, counted, around)
        sections |= await self._count_choice(request, profile)
        if sections:
            sections["priming"] = profile.priming_tokens + frame.hidden_tokens
        if reasoning_of(request).get("mode") == "pro":
            sections["mode"] = PRO_MODE_TOKENS
        return sections

    async def _count_choice(self, request: MeteredRequest, profile: Profile) -> dict[str, int]:
        """`tool_choice` and its elder are small, so they are read anew each time."""
        counted: dict[str, int] = {}
        frame = frame_of(profile.family, request.endpoint, self._day)
        has_tools = any(key in request.sections for key in TOOLS_KEYS)
        for key, raw in request.options.items():
            if key not in ("tool_choice", "function_call") or raw == b'"auto"' or not has_tools:
                continue
            value = read_section(key, raw, as_is)
            section = weigh_section(key, value, request.endpoint, profile)
            found = section.counted(await self._counter.count(profile, section.all_texts))
            if tokens := choice_tokens(frame, value, found.name_tokens):
                counted[key] = tokens
        return counted

    async def _learn_all(self, request: MeteredRequest, profile: Profile, caches: Caches) -> LearnedChat:
        """The facts of all messages: those of a known beginning as they were learned, and those that follow it."""
        messages, beginning = request.messages, request.beginning
        before = beginning.learned.get(profile, NOTHING_LEARNED) if beginning is not None else NOTHING_LEARNED
        new = await self._learn(messages[len(before.facts) :], profile, caches, len(before.facts))
        facts = [*before.facts, *new]
        special = [*before.special, *(fact for fact in new if fact.stands_out)]
        tokens = before.tokens + sum([fact.tokens for fact in new])
        if len(new) > 1 and len(request.body) >= MIN_BYTES:
            self._remember(request, profile, LearnedChat(facts, special, tokens))
        return LearnedChat(facts, special, tokens)

    def _remember(self, request: MeteredRequest, profile: Profile, learned: LearnedChat) -> None:
        """Keep what was learned of all messages but the last."""
        messages, place = request.messages, request.spans["messages"]
        if isinstance(messages, KnownMessages):
            ends: array[int] | None = messages.ends
        else:
            ends = places_of(place.start + 1, place.end - 1, [memoryview(raw).nbytes for raw in messages])
        if ends is not None:
            last, special = learned.facts[-1], learned.special
            before = LearnedChat(
                learned.facts[:-1], special[:-1] if last.stands_out else special, learned.tokens - last.tokens
            )
            self.caches.prefixes.put(request.body, place.start + 1, ends, profile, before)

    async def _learn(
        self, messages: Sequence[msgspec.Raw | bytes], profile: Profile, caches: Caches, number: int
    ) -> list[MessageFacts]:
        """The facts of messages of which the first has this number in the chat."""
        keys = self._digest(messages, caches.salt)
        found = caches.facts.get_many(keys)
        missing = [index for index, fact in enumerate(found) if fact is None]
        if missing:
            raws = [(number + index, messages[index]) for index in missing]
            weighed = (
                await asyncio.to_thread(_weigh, raws, profile, pauses=True) if _is_big(raws) else _weigh(raws, profile)
            )
            totals = await self._count_weights([weight for _, weight in weighed], profile)
            for index, (half_learned, weight), total in zip(missing, weighed, totals, strict=True):
                fact = msgspec.structs.replace(half_learned, tokens=half_learned.tokens - weight.fixed_tokens + total)
                found[index] = fact
                caches.facts.put(keys[index], fact)
        return [fact for fact in found if fact is not None]

    async def _count_weights(self, weights: Sequence[Weight], profile: Profile) -> list[int]:
        """The tokens of each weight, all texts counted at once."""
        tokens = await self._counter.count(profile, [text for weight in weights for text in weight.all_texts])
        totals = []
        at = 0
        for weight in weights:
            end = at + len(weight.all_texts)
            totals.append(weight.total(tokens[at:end]))
            at = end
        return totals

    async def _place_results(
        self, messages: Sequence[msgspec.Raw | bytes], facts: list[MessageFacts], profile: Profile, caches: Caches
    ) -> None:
        """Give results that stand among others what they cost there."""
        places = places_together(facts)
        await self._learn_company(messages, facts, list(places), profile, caches)
        for index, place in places.items():
            if company := facts[index].company:
                facts[index] = msgspec.structs.replace(facts[index], tokens=company[place])

    async def _learn_company(
        self,
        messages: Sequence[msgspec.Raw | bytes],
        facts: list[MessageFacts],
        wanted: Sequence[int],
        profile: Profile,
        caches: Caches,
    ) -> None:
        """Learn what these messages cost in company, where it is not known yet."""
        unknown = [index for index in wanted if facts[index].company is None]
        if not unknown:
            return
        raws = [(index, messages[index]) for index in unknown]
        asked = await asyncio.to_thread(_ask_company, raws, profile) if _is_big(raws) else _ask_company(raws, profile)
        weights = [weight for company in asked if company for weight in company.weights]
        totals = iter(await self._count_weights(weights, profile))
        keys = self._digest([messages[index] for index in unknown], caches.salt)
        for index, key, company in zip(unknown, keys, asked, strict=True):
            tokens = tuple(next(totals) for _ in company.weights) if company else ()
            facts[index] = msgspec.structs.replace(facts[index], company=tokens)
            caches.facts.put(key, facts[index])

    async def _count_sections(self, request: MeteredRequest, profile: Profile, caches: Caches) -> dict[str, Counted]:
        counted: dict[str, Counted] = {}
        for name, raw in request.sections.items():
            if name == "input" and request.messages:
                continue  # item by item
            key = self._digest([raw], caches.salt)[0] + f"{request.endpoint.value}.{name}".encode()
            found = caches.sections.get(key)
            if found is None:
                section = await self._weigh_section(name, raw, request.endpoint, profile)
                found = section.counted(await self._counter.count(profile, section.all_texts))
                caches.sections.put(key, found)
            counted[name] = found
        return counted

    async def _weigh_section(self, name: str, raw: bytes, endpoint: Endpoint, profile: Profile) -> Section:
        def weigh() -> Section:
            return read_section(name, raw, lambda value: weigh_section(name, value, endpoint, profile))

        return await asyncio.to_thread(weigh) if _is_work([raw]) else weigh()

    async def _learn_items(
        self, raws: Sequence[msgspec.Raw | bytes], profile: Profile, caches: Caches
    ) -> list[LearnedItem]:
        """The items of a Responses input, each learned once."""
        keys = self._digest(raws, caches.salt)
        found = caches.items.get_many(keys)
        missing = {index: bytes(raws[index]) for index, item in enumerate(found) if item is None}

        def weigh() -> list[Item]:
            return [read_section("input", raw, lambda item: weigh_item(item, profile)) for raw in missing.values()]

        def learn(counted: Sequence[CountedItem]) -> list[LearnedItem]:
            return [learn_item(raw, one) for raw, one in zip(missing.values(), counted, strict=True)]

        is_work = _is_work(list(missing.values()))
        items = await asyncio.to_thread(weigh) if is_work else weigh()
        totals = await self._count_weights([item.weight for item in items], profile)
        counted = [CountedItem(total, item.kind) for item, total in zip(items, totals, strict=True)]
        learned = await asyncio.to_thread(learn, counted) if is_work else learn(counted)
        for index, item in zip(missing, learned, strict=True):
            found[index] = item
            caches.items.put(keys[index], item)
        return [item for item in found if item is not None]


def _settled(item: LearnedItem, tokens: int) -> MessageFacts:
    """The facts of an item where it stands."""
    assert item.fact is not None
    return item.fact if item.fact.tokens == tokens else msgspec.structs.replace(item.fact, tokens=tokens)


def _is_work(raws: Sequence[bytes]) -> bool:
    """Whether reading these takes a while: they are large, or hold schemas whose references may multiply."""
    return sum(map(len, raws)) > _PARSE_INLINE_BYTES or any(b'"$ref"' in raw for raw in raws)


def _is_big(raws: Sequence[tuple[int, msgspec.Raw | bytes]]) -> bool:
    return sum(memoryview(raw).nbytes for _, raw in raws) > _PARSE_INLINE_BYTES


def _ask_company(raws: Sequence[tuple[int, msgspec.Raw | bytes]], profile: Profile) -> list[Company | None]:
    return [weigh_company(parse_message(bytes(raw), index), profile) for index, raw in raws]


def _weigh(
    raws: Sequence[tuple[int, msgspec.Raw | bytes]], profile: Profile, *, pauses: bool = False
) -> list[tuple[MessageFacts, Weight]]:
    """Parse new messages; their facts lack only the tokens of the weights' texts."""
    weighed = []
    for place, (index, raw) in enumerate(raws):
        if pauses and place % _PAUSE_EVERY == 0:
            time.sleep(_PAUSE_S)  # the event loop gets Python's lock, which it would not get by asking
        message = parse_message(bytes(raw), index)
        weight = weigh_message(message, profile)
        weighed.append((learn_facts(message, weight, 0), weight))
    return weighed
