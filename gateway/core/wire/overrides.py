"""What one request asks of the gateway itself, in `x-gateway-*` headers that never reach an upstream.

`x-gateway-budget: N` lowers `max_total` for this request; `x-gateway-compaction: off | shadow` forwards the client's
own messages (refused above the budget, or only planned and recorded); `x-gateway-explain: 1` returns the receipt in a
header; `x-gateway-session: NAME` names the conversation, within what is the client's own, and `x-gateway-memory: NAME`
one of its memories; `x-gateway-cache: off` keeps the response cache out of it. A value that its header does not take
is a 400: a setting that is silently ignored is worse than none.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence

import msgspec

from gateway.core.errors import Refusal, invalid_request
from gateway.core.wire.headers import GATEWAY_PREFIX

_MAX_NAMES = 1024
_MAX_TOKENS, _MAX_DIGITS = 2**31 - 1, 12


class Compacting(enum.Enum):
    """What a request wants of compaction."""

    ON = "on"
    OFF = "off"
    SHADOW = "shadow"


class Overrides(msgspec.Struct, frozen=True):
    """What a request asks for; the defaults are what the configuration says.

    Attributes:
        max_total_tokens: at most this in place of the budget's, or None.
        compacting: off and shadow in place of the configured mode.
        explains: the receipt is to be returned.
        session: the name of the conversation, or None.
        caches: an earlier answer may be returned, and this one kept.
        memory: the name of a memory, or None.
    """

    max_total_tokens: int | None = None
    compacting: Compacting = Compacting.ON
    explains: bool = False
    session: str | None = None
    caches: bool = True
    memory: str | None = None


NO_OVERRIDES = Overrides()
_BUDGET, _COMPACTION, _EXPLAIN = "x-gateway-budget", "x-gateway-compaction", "x-gateway-explain"
_SESSION, _CACHE = "x-gateway-session", "x-gateway-cache"
MEMORY_HEADER = "x-gateway-memory"
_MAX_NAME_CHARS = 128


class _Names(dict[str, str]):
    """Header names as spelled -> in lower case if they are ours, else "": most requests have none of them."""

    def __missing__(self, name: str) -> str:
        lower = name.lower()
        ours = lower if lower.startswith(GATEWAY_PREFIX) else ""
        if len(self) < _MAX_NAMES:
            self[name] = ours
        return ours


_names = _Names()


def read_overrides(headers: Sequence[tuple[str, str]]) -> Overrides:
    """The overrides among a request's headers.

    Raises:
        Refusal: 400, a value that is none of those that its header takes.
    """
    ours = [(found, pair[1].strip()) for pair in headers if (found := _names[pair[0]])]
    if not ours:
        return NO_OVERRIDES
    given = dict(ours)
    return Overrides(
        max_total_tokens=_tokens(given.get(_BUDGET)),
        compacting=_compacting(given.get(_COMPACTION)),
        explains=_is_on(given.get(_EXPLAIN)),
        session=_name(_SESSION, given.get(_SESSION)),
        caches=_caches(given.get(_CACHE)),
        memory=_name(MEMORY_HEADER, given.get(MEMORY_HEADER)),
    )


def _tokens(value: str | None) -> int | None:
    if value is None:
        return None
    is_number = value.isascii() and value.isdigit() and len(value) <= _MAX_DIGITS
    if not is_number or not 1 <= int(value) <= _MAX_TOKENS:
        raise _invalid(_BUDGET, value, "a whole number of tokens above 0")
    return int(value)


def _compacting(value: str | None) -> Compacting:
    try:
        return Compacting((value or "on").lower())
    except ValueError:
        raise _invalid(_COMPACTION, value or "", "on, off or shadow") from None


def _is_on(value: str | None) -> bool:
    if value is not None and value.lower() not in ("0", "1", "true", "false"):
        raise _invalid(_EXPLAIN, value, "1 or 0")
    return value is not None and value.lower() in ("1", "true")


def _caches(value: str | None) -> bool:
    if value is not None and value.lower() not in ("on", "off"):
        raise _invalid(_CACHE, value, "on or off")
    return value is None or value.lower() == "on"


def _name(header: str, value: str | None) -> str | None:
    if value is not None and not is_session_name(value):
        raise _invalid(header, value, f"a name of 1 to {_MAX_NAME_CHARS} printable ASCII characters")
    return value


def is_session_name(name: str) -> bool:
    """Whether a conversation, or a memory, may have this name."""
    return 1 <= len(name) <= _MAX_NAME_CHARS and name.isascii() and name.isprintable() and name == name.strip()


def _invalid(name: str, value: str, expected: str) -> Refusal:
    return invalid_request(
        f"The header {name} takes {expected}, found {value[:64]!r}.", param=name, code="invalid_value"
    )
