"""`ports.IdMemory`: which upstream an id lives at, near in memory and in the state store for other processes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from gateway.core.tokens.cache import TwoGenerationCache
from gateway.ports import StateStore
from gateway.tasks import TaskGroup

_SPACE = "ids"
_TTL_S = 30 * 86_400.0
_NEAR_BYTES, _ENTRY_BYTES = 2 * 1024 * 1024, 160


class StoredIds:
    """Ids by digest: the store holds none that anybody could use.

    Args:
        store: for all processes.
        tasks: where writing goes on after the request.
    """

    def __init__(self, store: StateStore, tasks: TaskGroup) -> None:
        self._store = store
        self._tasks = tasks
        self._near = TwoGenerationCache[str](_NEAR_BYTES, _ENTRY_BYTES)

    async def upstream_of(self, ids: Sequence[str]) -> str | None:
        keys = [_key_of(name) for name in ids]
        for key in keys:
            if (found := self._near.get(key)) is not None:
                return found
        values = await self._store.get_many(_SPACE, keys) if keys else None
        for key, value in zip(keys, values or (), strict=False):
            if value is not None:
                upstream = value.decode("utf-8", "replace")
                self._near.put(key, upstream)
                return upstream
        return None

    def remember(self, ids: Sequence[str], upstream: str) -> None:
        new = [key for key in map(_key_of, ids) if self._near.get(key) != upstream]
        for key in new:
            self._near.put(key, upstream)
        if new:
            self._tasks.spawn(self._write(new, upstream.encode()), "remember where ids live")

    async def _write(self, keys: Sequence[bytes], upstream: bytes) -> None:
        for key in keys:
            await self._store.put(_SPACE, key, upstream, _TTL_S)


def _key_of(name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=16).digest()
