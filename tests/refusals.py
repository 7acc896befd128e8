"""What a parser says: its result or its refusal; anything else that it raises is for the test to fail on."""

from collections.abc import Callable
from typing import Any

from gateway.core.errors import Refusal


def result_of(parse: Callable[..., Any], *arguments: Any) -> Any:
    """The result, or the refusal instead of it."""
    try:
        return parse(*arguments)
    except Refusal as refusal:
        return refusal
