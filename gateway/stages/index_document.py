"""In place of the last stages: `POST /api/v1/vision/index` orders a document to be indexed, in the background.

It comes by URL, in JSON, or as a file of a form. A file is bounded by its own limit, not by that of other bodies, and
counts among the bodies that the process holds.
"""

from __future__ import annotations

from typing import NamedTuple

from gateway.core.errors import Refusal
from gateway.core.facts.wire_json import invalid
from gateway.core.vision.multipart import FormReader, Head, boundary_of
from gateway.core.vision.wire_asked import Order, parse_form, parse_order
from gateway.core.vision.wire_told import told_job
from gateway.exchange import Exchange
from gateway.ports_vision import VisionFault
from gateway.remembering import answer_json, media_type_of, read_body, scope_of
from gateway.seeing import Seeing

_FORM = "multipart/form-data"
_MAX_FIELD_BYTES = 65_536
_MAX_BESIDE_BYTES = 1 << 20
"""Of a form, beside its file: without a bound, one that never ends would take the room of all bodies."""
_MAX_NAME_CHARS = 512


class _Form(NamedTuple):
    """What was uploaded."""

    file_name: str
    data: bytes
    fields: dict[str, bytes]


class IndexDocumentStage:
    """Answers 202 with the job.

    Args:
        seeing: the store and its rules.
    """

    def __init__(self, seeing: Seeing) -> None:
        self._seeing = seeing

    async def __call__(self, exchange: Exchange) -> None:
        order, data = await self._read(exchange)
        seeing, scope = self._seeing, scope_of(exchange)
        try:
            job = await seeing.jobs.submit(scope, order.source, data, order.metadata, is_forced=order.is_forced)
        except VisionFault as fault:
            raise seeing.refusal_of(fault) from None
        await answer_json(exchange, told_job(job), 202)

    async def _read(self, exchange: Exchange) -> tuple[Order, bytes | None]:
        """What is ordered, and the bytes that came with it.

        Raises:
            Refusal: 400, 408, 413 or 415.
        """
        if media_type_of(exchange) != _FORM:
            order = parse_order(await read_body(exchange))
            self._check(order.source)
            return order, None
        if not self._seeing.rules.takes_files:
            message = "This gateway's vision service fetches documents itself: send a `doc_url`, no file."
            raise invalid(message, "file", "a doc_url", "a file")
        form = await self._read_form(exchange)
        return parse_form(form.file_name, form.fields), form.data

    def _check(self, url: str) -> None:
        try:
            self._seeing.check_source(url)
        except VisionFault as fault:
            expected = "a URL whose document may be fetched"
            raise invalid(f"`doc_url`: {fault.message}.", "doc_url", expected) from None

    async def _read_form(self, exchange: Exchange) -> _Form:
        reader = FormReader(boundary_of(exchange.header("content-type") or ""))
        most = self._seeing.rules.max_document_bytes
        parts: dict[str, bytearray] = {}
        file_name: str | None = None
        part, bound, size = bytearray(), 0, 0
        async for data in exchange.inbound.decoded(holds=True):
            size += len(data)
            if size > most + _MAX_BESIDE_BYTES:
                raise _too_large(most, is_file=True)
            for event in reader.feed(data):
                if isinstance(event, Head):
                    if event.name in parts:
                        raise invalid(f"The form has the part `{event.name[:64]}` twice.", event.name[:64])
                    bound = most if event.name == "file" else _MAX_FIELD_BYTES
                    file_name = event.file_name if event.name == "file" else file_name
                    part = parts[event.name] = bytearray()
                    continue
                if len(part) + len(event.data) > bound:
                    raise _too_large(bound, is_file=part is parts.get("file"))
                part += event.data
        reader.end()
        if not parts.get("file"):
            raise invalid("The form's part `file` is missing, or empty.", "file", "a file with bytes", "none")
        uploaded = bytes(parts.pop("file"))
        return _Form(_plain_name(file_name or ""), uploaded, {name: bytes(value) for name, value in parts.items()})


def _too_large(bound: int, *, is_file: bool) -> Refusal:
    what = "file (vision.max_document_bytes)" if is_file else "field of the form"
    return invalid(f"A {what} may have {bound:,} bytes.", "file" if is_file else "form", f"{bound:,}", "more", 413)


def _plain_name(name: str) -> str:
    """A file's name without folders, as it may be told again."""
    last = name.replace("\\", "/").rpartition("/")[2]
    return "".join(letter for letter in last if letter.isprintable())[:_MAX_NAME_CHARS]
