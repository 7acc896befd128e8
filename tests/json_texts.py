"""JSON texts whose every byte is known, as different writers render them."""

import json
from typing import Any, NamedTuple

from hypothesis import strategies as st

SPACE = st.text(" \t\n\r", max_size=3)
PLAIN_KEYS = st.text(st.characters(codec="utf-8", exclude_characters='"\\', min_codepoint=32), max_size=6)
"""Keys that stand for themselves."""
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


class Member(NamedTuple):
    """One member of an object: its key with quotes, and its value, as they stand in the text."""

    key: str
    quoted: bytes
    value: bytes


@st.composite
def renderings(draw: st.DrawFn, values: st.SearchStrategy[Any] = VALUES) -> bytes:
    """One value, rendered compactly, with spaces, or indented; non-ASCII escaped or not."""
    value = draw(values)
    layout = draw(st.sampled_from([{"separators": (",", ":")}, {}, {"indent": 2}, {"separators": (" ,\t", " :\r\n")}]))
    return json.dumps(value, ensure_ascii=draw(st.booleans()), **layout).encode("utf-8", "replace")


@st.composite
def members(draw: st.DrawFn, keys: st.SearchStrategy[str] = PLAIN_KEYS, min_size: int = 0) -> list[Member]:
    """An object's members, keys without escapes and without duplicates."""
    names = draw(st.lists(keys, unique=True, min_size=min_size, max_size=6))
    return [Member(name, f'"{name}"'.encode(), draw(renderings())) for name in names]


@st.composite
def objects(draw: st.DrawFn, parts: list[Member]) -> bytes:
    """The object of these members, with white space anywhere between."""
    if draw(st.booleans()):
        return b"{" + b",".join(part.quoted + b":" + part.value for part in parts) + b"}"

    def space() -> bytes:
        return draw(SPACE).encode()

    inside = [b"".join((space(), part.quoted, space(), b":", space(), part.value, space())) for part in parts]
    return space() + b"{" + (b",".join(inside) or space()) + b"}" + space()
