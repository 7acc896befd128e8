"""Many memories in one request: lines come in, are stored in batches, and each is answered by a line, in order.

What is held is a batch, and of the answer what the client has not read yet, up to a bound: many clients
read nothing until they have sent everything, and would wait for ever for a gateway that waits for them. A bad line
stops nothing. The first batch decides whether there is an answer at all: a store that fails then refuses the request;
if it fails later, the lines that are not stored say so.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import msgspec

from gateway.core.coded_errors import told_error
from gateway.core.errors import Refusal
from gateway.core.facts.lines import LineSplitter
from gateway.core.facts.memory import Kind, Scope
from gateway.core.facts.wire_facts import Draft
from gateway.core.facts.wire_json import invalid, read_json
from gateway.core.facts.wire_portable import MAX_LINE_BYTES
from gateway.core.wire.headers import Headers
from gateway.exchange import Exchange, Outbound
from gateway.remembering import Remembering

NDJSON: Headers = [("Content-Type", "application/x-ndjson")]
NDJSON_TYPES = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"})
_BATCH_LINES, _BATCH_BYTES = 200, 524_288
_PARSE_INLINE_BYTES = 8_192
_MAX_SPOOLED_BYTES = 16_777_216
_WRITE_BYTES = 65_536
Line = tuple[int, bytes | None]
"""Its number, from 1, and its bytes; None for one that is too long."""
Parse = Callable[[Any, int, str], Draft]
"""From a value, the moment and an id to what is stored; raises `Refusal`."""


async def lines_of(exchange: Exchange) -> AsyncIterator[Sequence[Line]]:
    """The lines of a request's body as they come, in batches; blank ones are counted and left out.

    Raises:
        Refusal: the body does not arrive.
    """
    splitter = LineSplitter(MAX_LINE_BYTES)
    number = 0
    async for piece in exchange.inbound.decoded():
        batch: list[Line] = []
        size = 0
        for line in splitter.feed(piece):
            number += 1
            if line is None or line.strip():
                batch.append((number, line))
                size += len(line or b"")
            if len(batch) >= _BATCH_LINES or size >= _BATCH_BYTES:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch
    last = [(number + 1, line) for line in splitter.finish() if line is None or line.strip()]
    if last:
        yield last


async def items_of(body: bytes) -> AsyncIterator[Sequence[Line]]:
    """The items of a JSON list, in batches, as if each were a line.

    Raises:
        Refusal: 400, it is none.
    """
    items = await asyncio.to_thread(_cut, body) if len(body) > _BATCH_BYTES else _cut(body)
    for start in range(0, len(items), _BATCH_LINES):
        yield [(start + place + 1, bytes(item)) for place, item in enumerate(items[start : start + _BATCH_LINES])]


def _cut(body: bytes) -> list[msgspec.Raw]:
    try:
        return msgspec.json.decode(body, type=list[msgspec.Raw])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        read_json(body)  # says what is wrong, if this sees it as well
        raise invalid("The body is no list of JSON objects.", expected="a list of objects", found="another") from None


async def store_lines(
    exchange: Exchange,
    remembering: Remembering,
    scope: Scope,
    batches: AsyncIterator[Sequence[Line]],
    parse: Parse,
    max_spooled_bytes: int = _MAX_SPOOLED_BYTES,
) -> None:
    """Store all lines, and answer each.

    Args:
        exchange: whose request it is.
        remembering: the store and its rules.
        scope: where they are stored.
        batches: of lines, as they come.
        parse: from a line's value to what is stored.
        max_spooled_bytes: of the answer, what is held while the client does not read.

    Raises:
        Refusal: nothing of it was stored.
    """
    spool: _Spool | None = None
    failed: Refusal | None = None
    try:
        async for batch in batches:
            drafts = await _parsed(batch, parse, remembering) if failed is None else [failed] * len(batch)
            try:
                told = await _stored(remembering, scope, drafts)
            except Refusal as refusal:
                if spool is None:
                    raise
                failed = refusal
                told = [_told_failure(refusal if isinstance(draft, Draft) else draft) for draft in drafts]
            if spool is None:
                exchange.outcome.status = 200
                await exchange.outbound.start(200, NDJSON, None)
                spool = _Spool(exchange.outbound, max_spooled_bytes)
            replies = [msgspec.json.encode({"line": line[0], **row}) for line, row in zip(batch, told, strict=True)]
            await spool.put(b"".join(reply + b"\n" for reply in replies))
        if spool is not None:
            await spool.finish()
        else:
            exchange.outcome.status = 200
            await exchange.outbound.start(200, NDJSON, 0)
            await exchange.outbound.end()
    finally:
        if spool is not None:
            spool.close()


async def _parsed(batch: Sequence[Line], parse: Parse, remembering: Remembering) -> list[Draft | Refusal]:
    now_us = remembering.now_us()
    ids = [remembering.new_id() for _ in batch]

    def parse_all() -> list[Draft | Refusal]:
        return [_parse_line(line, parse, now_us, new_id) for (_, line), new_id in zip(batch, ids, strict=True)]

    if sum(len(line or b"") for _, line in batch) <= _PARSE_INLINE_BYTES:
        return parse_all()
    return await asyncio.to_thread(parse_all)


def _parse_line(line: bytes | None, parse: Parse, now_us: int, new_id: str) -> Draft | Refusal:
    if line is None:
        expected = f"at most {MAX_LINE_BYTES:,} bytes"
        return invalid(f"The line is too long; {expected} are taken.", expected=expected, found="more")
    try:
        return parse(read_json(line), now_us, new_id)
    except Refusal as refusal:
        return refusal


async def _stored(
    remembering: Remembering, scope: Scope, drafts: Sequence[Draft | Refusal]
) -> Sequence[dict[str, Any]]:
    """What is told of each; those that can be are stored, all or none."""
    memories = [draft.memory for draft in drafts if isinstance(draft, Draft)]
    stored = iter(await remembering.ask(lambda: remembering.store.put(scope, memories)) if memories else ())
    told = []
    for draft in drafts:
        if isinstance(draft, Refusal):
            told.append(_told_failure(draft))
            continue
        found = next(stored)
        is_fact = draft.memory.kind is Kind.FACT
        count_stored(remembering, draft, is_duplicate=found.is_duplicate)
        name = "fact_id" if is_fact else "context_id"
        told.append({name: found.id, "hash": draft.hash, "duplicate": found.is_duplicate})
    return told


def count_stored(remembering: Remembering, draft: Draft, *, is_duplicate: bool) -> None:
    """For metrics: a memory was stored, or was there already."""
    remembering.tally["duplicate" if is_duplicate else "stored", draft.memory.kind.value] += 1


def _told_failure(refusal: Refusal) -> dict[str, Any]:
    return {"error": told_error(refusal)}


class _Spool:
    """An answer that is written as fast as it is read, while its writer goes on up to a bound.

    Args:
        outbound: has been started.
        max_bytes: that wait at most, but for what was said last.
    """

    def __init__(self, outbound: Outbound, max_bytes: int) -> None:
        self._outbound = outbound
        self._max_bytes = max_bytes
        self._waiting = bytearray()
        self._is_last = False
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._writer = asyncio.create_task(self._write())

    async def put(self, data: bytes) -> None:
        """Say this; waits where too much has not been read.

        Raises:
            ConnectionError: the client has left.
        """
        self._waiting += data
        self._wake.set()
        while len(self._waiting) > self._max_bytes and not self._writer.done():
            self._room.clear()
            await self._room.wait()
        if self._writer.done():
            self._writer.result()

    async def finish(self) -> None:
        """Wait until all is written, and end the answer."""
        self._is_last = True
        self._wake.set()
        await self._writer
        await self._outbound.end()

    def close(self) -> None:
        """Nothing more is written."""
        if not self._writer.cancel() and not self._writer.cancelled():
            self._writer.exception()  # that the client left is known to who reads from it

    async def _write(self) -> None:
        try:
            while self._waiting or not self._is_last:
                await self._wake.wait()
                self._wake.clear()
                while self._waiting:
                    piece = bytes(self._waiting[:_WRITE_BYTES])
                    del self._waiting[:_WRITE_BYTES]
                    self._room.set()
                    await self._outbound.write(piece)
        finally:
            self._room.set()
