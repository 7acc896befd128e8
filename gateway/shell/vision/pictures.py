"""`ports_vision.Pictures`: pictures of chats are read once, behind the requests, and what was read is kept.

A picture is read when a chat that nears its budget first shows it, so that its text is there when it has to go. Nothing
waits for that: what is not read yet is not told. Texts are kept by client and picture, in the store of state, so that a
prompt stays as it is when another process goes on with the chat; secrets in them are masked first.

Invariants, each with a test of its own:
  1. Each picture is read once for a client, whatever becomes of it, however often and by how many chats it is shown.
  2. No client gets what was read for another.
  3. What waits to be read is bounded, in number and in bytes; one that finds no room is read when it comes again.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import aclosing
from typing import NamedTuple

import msgspec

from gateway.core.context.elide_parts import pictures_of, tell_pictures
from gateway.core.context.secrets import mask_secrets
from gateway.core.tokens.cache import TwoGenerationCache
from gateway.core.vision.document import LaidPage
from gateway.core.wire.message import encode_message, reread_message
from gateway.exchange import Exchange
from gateway.ports import StateStore
from gateway.ports_vision import Reader, ReadPictures, VisionFault
from gateway.tasks import TaskGroup

_SPACE = "picture_texts"
_MESSAGE_BYTES, _MESSAGE_ENTRY_BYTES = 1 << 20, 260
_TEXT_BYTES, _TEXT_ENTRY_BYTES = 8 << 20, 260
_MAX_TEXT_CHARS = 20_000
_LEAST_CONFIDENCE = 0.5
"""Below it a reading is a guess at what may be no writing at all."""
_ENCODED = b";base64,"
_NOTHING = "-"
"""Kept for a picture in which nothing was read; texts that were read begin with a plus sign."""


class _Shown(NamedTuple):
    """A picture that is to be read: what it is kept under, and its data URL."""

    key: bytes
    url: str


class PictureTexts:
    """`ports_vision.Pictures`.

    Args:
        reader: reads them.
        state: where what was read is kept.
        tasks: that reading is done in.
        ttl_s: how long it is kept.
        max_waiting: pictures that wait.
        max_waiting_bytes: of their URLs together.

    Attributes:
        tally: pictures by what became of them: read, empty (nothing stands in them), failed, dropped.
    """

    def __init__(
        self,
        reader: Reader,
        state: StateStore,
        tasks: TaskGroup,
        ttl_s: float,
        max_waiting: int = 64,
        max_waiting_bytes: int = 32 << 20,
    ) -> None:
        self.tally: Counter[str] = Counter()
        self._reader = reader
        self._state = state
        self._tasks = tasks
        self._ttl_s = ttl_s
        self._max_waiting = max_waiting
        self._max_waiting_bytes = max_waiting_bytes
        self._keys = TwoGenerationCache[tuple[str, ...]](
            _MESSAGE_BYTES, _MESSAGE_ENTRY_BYTES, lambda keys: 120 * len(keys)
        )
        self._known = TwoGenerationCache[str](_TEXT_BYTES, _TEXT_ENTRY_BYTES, lambda text: 2 * len(text))
        self._told = TwoGenerationCache[bytes](_TEXT_BYTES, _TEXT_ENTRY_BYTES, len)
        self._waiting: dict[bytes, int] = {}
        self._turn = asyncio.Lock()

    async def look(
        self, exchange: Exchange, messages: Mapping[int, bytes], read: Callable[[int], msgspec.Raw | bytes]
    ) -> ReadPictures:
        assert exchange.client is not None
        owner = exchange.client.scope
        texts: dict[str, str] = {}
        told: dict[int, bytes] = {}
        for at, digest in messages.items():
            keys = self._keys.get(digest)
            if keys is None or any(self._is_unknown(owner, key) for key in keys):
                keys = await self._look(owner, digest, read(at))
            settled = {key: text for key in keys if (text := self._text(owner, key)) is not None}
            texts |= settled
            if known := {key: text for key, text in settled.items() if text}:
                told[at] = await self._told_with(owner, digest, known, read, at)
        return ReadPictures(texts, told)

    def _text(self, owner: bytes, key: str) -> str | None:
        """What was read in a picture, "" for nothing; None where it is not read yet."""
        kept = self._known.get(_kept_as(owner, key))
        return None if kept is None else "" if kept == _NOTHING else kept[1:]

    async def _told_with(
        self,
        owner: bytes,
        digest: bytes,
        known: Mapping[str, str],
        read: Callable[[int], msgspec.Raw | bytes],
        at: int,
    ) -> bytes:
        """A message with these texts in it; made once."""
        name = hashlib.blake2b(owner + digest + "".join(known).encode(), digest_size=24).digest()
        made = self._told.get(name)
        if made is None:
            raw = read(at)
            made = await asyncio.to_thread(lambda: encode_message(tell_pictures(reread_message(raw), known)))
            self._told.put(name, made)
        return made

    def _is_unknown(self, owner: bytes, key: str) -> bool:
        name = _kept_as(owner, key)
        return self._known.get(name) is None and name not in self._waiting

    async def _look(self, owner: bytes, digest: bytes, raw: msgspec.Raw | bytes) -> tuple[str, ...]:
        """Take up what is known of a message's pictures, and have the others read."""
        has_any = _ENCODED in bytes(raw)
        pictures = await asyncio.to_thread(lambda: pictures_of(reread_message(raw))) if has_any else {}
        keys = tuple(pictures)
        self._keys.put(digest, keys)
        for key, url in pictures.items():
            name = _kept_as(owner, key)
            if not self._is_unknown(owner, key):
                continue
            kept = await self._state.get(_SPACE, name)
            if kept is not None:
                self._known.put(name, kept.decode("utf-8", "replace"))
            elif name not in self._waiting:
                self._order(_Shown(name, url))
        return keys

    def _order(self, picture: _Shown) -> None:
        waiting = sum(self._waiting.values())
        if len(self._waiting) >= self._max_waiting or waiting + len(picture.url) > self._max_waiting_bytes:
            self.tally["dropped"] += 1
            return
        self._waiting[picture.key] = len(picture.url)
        self._tasks.spawn(self._read(picture), "read a picture")

    async def _read(self, picture: _Shown) -> None:
        try:
            async with self._turn:
                text = await self._text_of(picture.url)
        except VisionFault as fault:
            text = ""
            self.tally["failed"] += 1
            if fault.kind != "unreadable":  # another time it may be read
                self._known.put(picture.key, _NOTHING)
                return
        else:
            self.tally["read" if text else "empty"] += 1
        finally:
            del self._waiting[picture.key]
        kept = f"+{text}" if text else _NOTHING
        self._known.put(picture.key, kept)
        await self._state.put(_SPACE, picture.key, kept.encode("utf-8", "replace"), self._ttl_s)

    async def _text_of(self, url: str) -> str:
        data = await asyncio.to_thread(_data_of, url)
        if not data:
            return ""
        async with aclosing(self._reader.pages(data, 1)) as pages:
            async for page in pages:
                return await asyncio.to_thread(_written_on, page)
        return ""


def _kept_as(owner: bytes, key: str) -> bytes:
    return hashlib.blake2b(owner + key.encode(), digest_size=24).digest()


def _data_of(url: str) -> bytes:
    """The bytes of an encoded picture; none where it is not in base64."""
    head, _, encoded = url.partition(",")
    if not head.endswith(";base64"):
        return b""
    try:
        return base64.b64decode(encoded)
    except (binascii.Error, ValueError):
        return b""


def _written_on(page: LaidPage) -> str:
    """What stands in a picture, in reading order."""
    parts = [region.text.strip() for region in page.regions if region.confidence >= _LEAST_CONFIDENCE]
    return mask_secrets("\n\n".join(filter(None, parts))[:_MAX_TEXT_CHARS])
