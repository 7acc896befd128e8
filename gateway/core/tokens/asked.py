"""What a request's own values ask for, as far as it changes what its prompt costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

from gateway.core.errors import invalid_request
from gateway.core.tokens.profiles import Profile
from gateway.core.wire.body import json_fault
from gateway.core.wire.request import MeteredRequest

T = TypeVar("T")


def is_one_by_one(request: MeteredRequest) -> bool:
    """Whether tools are to be called one at a time."""
    return request.options.get("parallel_tool_calls") == b"false"


def thinks(request: MeteredRequest, profile: Profile) -> bool:
    """Whether the model reasons in this request: as asked, else as it does by itself."""
    effort = reasoning_of(request).get("effort")
    return profile.thinks if effort is None else effort != "none"


def reasoning_of(request: MeteredRequest) -> Mapping[str, Any]:
    """The Responses endpoint's `reasoning`; empty where it is none."""
    raw = request.options.get("reasoning")
    asked = read_section("reasoning", raw, as_is) if raw else None
    return asked if isinstance(asked, dict) else {}


def as_is(value: Any) -> Any:
    """The value."""
    return value


def read_section(name: str, raw: bytes, use: Callable[[Any], T]) -> T:
    """What is made of a value's bytes.

    Args:
        name: its key, for the error message.
        raw: JSON text.
        use: of the parsed value.

    Raises:
        Refusal: it cannot be parsed, or is nested too deeply to be weighed.
    """
    try:
        return use(msgspec.json.decode(raw))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise invalid_request(
            f"`{name}` could not be parsed as JSON: {json_fault(error, raw)}.", param=name, code="invalid_json"
        ) from None
