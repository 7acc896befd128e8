"""A form gives the same parts however it is divided; what is no form is refused, and little is held."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import Refusal
from gateway.core.vision.multipart import MAX_HEAD_BYTES, FormReader, Head, Piece, boundary_of

BOUNDARY = b"----form7f3a"
FILE = b"%PDF-1.7\r\n\r\n--\r\n------form7f3\r\nnot a boundary\r\n------form7f3b\r\n"


def form(*parts: tuple[bytes, bytes], boundary: bytes = BOUNDARY) -> bytes:
    body = b"".join(b"--%b\r\n%b\r\n\r\n%b\r\n" % (boundary, head, data) for head, data in parts)
    return body + b"--%b--\r\n" % boundary


def disposition(name: str, file_name: str | None = None) -> bytes:
    named = f'Content-Disposition: form-data; name="{name}"'
    return (named + (f'; filename="{file_name}"' if file_name is not None else "")).encode()


WHOLE = form(
    (disposition("file", "a b.pdf") + b"\r\nContent-Type: application/pdf", FILE),
    (disposition("metadata"), b'{"a": 1}'),
    (disposition("empty"), b""),
)
PARTS = [("file", "a b.pdf", FILE), ("metadata", None, b'{"a": 1}'), ("empty", None, b"")]


def read(pieces: Iterable[bytes], boundary: bytes = BOUNDARY) -> list[tuple[str, str | None, bytes]]:
    reader = FormReader(boundary)
    parts: list[tuple[str, str | None, bytes]] = []
    for piece in pieces:
        for event in reader.feed(piece):
            if isinstance(event, Head):
                parts.append((event.name, event.file_name, b""))
            elif isinstance(event, Piece):
                name, file_name, data = parts[-1]
                parts[-1] = (name, file_name, data + event.data)
    reader.end()
    return parts


def test_a_form_whole_and_byte_by_byte() -> None:
    assert read([WHOLE]) == PARTS
    assert read(WHOLE[at : at + 1] for at in range(len(WHOLE))) == PARTS


@pytest.mark.parametrize("at", range(len(WHOLE) + 1))
def test_a_form_in_two_pieces(at: int) -> None:
    assert read([WHOLE[:at], WHOLE[at:]]) == PARTS


@given(st.lists(st.binary(max_size=60), min_size=1, max_size=5), st.integers(1, 40))
def test_any_bytes_come_back(bodies: list[bytes], step: int) -> None:
    """As long as they hold no boundary."""
    bodies = [body.replace(b"--" + BOUNDARY, b"") for body in bodies]
    whole = form(*((disposition(f"p{number}"), body) for number, body in enumerate(bodies)))
    parts = read(whole[at : at + step] for at in range(0, len(whole), step))

    assert [data for _, _, data in parts] == bodies


def test_what_stands_around_a_form_is_ignored() -> None:
    assert read([b"a preamble\r\n", WHOLE, b"an epilogue" * 1000]) == PARTS


@pytest.mark.parametrize(
    ("head", "name", "file_name"),
    [
        (b"content-disposition:form-data;name=file;filename=x.pdf", "file", "x.pdf"),
        (b'Content-Disposition: form-data; filename="a\\"b; name=c.pdf"; name="file"', "file", 'a"b; name=c.pdf'),
        ('Content-Disposition: form-data; name="file"; filename="Größe 表.pdf"'.encode(), "file", "Größe 表.pdf"),
        (b'X-Other: 1\r\nContent-Disposition: form-data; name="file"; filename=""', "file", ""),
    ],
)
def test_names_are_read_as_clients_write_them(head: bytes, name: str, file_name: str) -> None:
    assert read([form((head, b"x"))]) == [(name, file_name, b"x")]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no form at all",
        WHOLE[:-5],
        form((b"Content-Type: text/plain", b"nameless")),
        form((b'Content-Disposition: attachment; name="file"', b"x")),
        form((b"", b"x")),
        b"--" + BOUNDARY + b"junk\r\n\r\n",
        b"--" + BOUNDARY + b"\r\n" + b"x" * (MAX_HEAD_BYTES + 5),
        b"--" + BOUNDARY + b" " * (MAX_HEAD_BYTES + 5),
        form(*((disposition(f"p{number}"), b"") for number in range(17))),
    ],
)
def test_what_is_no_form_is_refused(body: bytes) -> None:
    for pieces in ([body], [body[at : at + 7] for at in range(0, len(body), 7)]):
        with pytest.raises(Refusal) as refused:
            read(pieces)

        assert refused.value.status == 400


def test_little_is_held() -> None:
    """Of a long part as much as could be the beginning of a boundary."""
    reader = FormReader(BOUNDARY)
    reader.feed(b"--" + BOUNDARY + b"\r\n" + disposition("file") + b"\r\n\r\n")
    given_on = sum(len(event.data) for event in reader.feed(b"\r\n--" * 100_000) if isinstance(event, Piece))

    assert 400_000 - given_on < len(BOUNDARY) + 4


@pytest.mark.parametrize(
    "header", ["multipart/form-data; boundary=----form7f3a", 'multipart/form-data; boundary="----form7f3a"']
)
def test_a_boundary(header: str) -> None:
    assert boundary_of(header) == BOUNDARY


@pytest.mark.parametrize(
    "header",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=" + "x" * 71,
        'multipart/form-data; boundary="ends with space "',
        'multipart/form-data; boundary="\u00fc"',
    ],
)
def test_no_boundary(header: str) -> None:
    with pytest.raises(Refusal):
        boundary_of(header)
