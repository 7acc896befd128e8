"""Ways of cutting a byte stream into chunks, as networks do."""

from collections.abc import Iterator

from hypothesis import strategies as st

_LONG = 8192
"""Longer streams are not cut everywhere, but around every line end and, sparsely, between."""


def byte_by_byte(raw: bytes) -> list[bytes]:
    """One byte a chunk."""
    return [raw[at : at + 1] for at in range(len(raw))]


def in_two(raw: bytes) -> Iterator[list[bytes]]:
    """Every split into two chunks, the empty ones at both ends included."""
    places: set[int] | range = range(len(raw) + 1)
    if len(raw) > _LONG:
        ends = [at for at, byte in enumerate(raw) if byte in b"\r\n"]
        places = {at + near for at in ends for near in range(-8, 9) if 0 <= at + near <= len(raw)}
        places.update(range(0, len(raw), 9973))
    for at in places:
        yield [raw[:at], raw[at:]]


def cuts(raw: bytes) -> st.SearchStrategy[list[bytes]]:
    """Any split into up to nine chunks, empty ones included."""
    places = st.lists(st.integers(0, len(raw)), max_size=8).map(sorted)
    return places.map(lambda at: [raw[i:j] for i, j in zip([0, *at], [*at, len(raw)], strict=True)])
