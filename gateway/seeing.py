"""What the stages of vision share: the store, who reads and decodes, what clients are told when one of them cannot.

No stage sees a `VisionFault`: each kind is one status. A foreign id is refused as one that does not exist.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from msgspec.structs import replace

from gateway.core.coded_errors import DISABLED
from gateway.core.errors import Refusal
from gateway.core.facts.memory import Scope
from gateway.core.facts.wire_json import invalid
from gateway.core.vision.document import Fidelity, Job, RegionsSought
from gateway.core.wire.paths import memory_name_of
from gateway.exchange import Exchange
from gateway.ports_memory import Embedding
from gateway.ports_vision import Decoder, DocumentStore, Reader, VisionFault

T = TypeVar("T")
USE_HEADER = "x-use-ocr"
_RETRY_S, _QUEUE_RETRY_S = 1, 5
_is_id = re.compile(r"[0-9a-f]{32}").fullmatch
_STATUSES: Mapping[str, tuple[int, str]] = {
    "disabled": (503, DISABLED),
    "timeout": (504, "vision_timeout"),
    "upstream": (502, "vision_upstream"),
    "unreadable": (422, "unreadable_document"),
    "forbidden": (400, "invalid_value"),
    "full": (507, "vision_full"),
    "busy": (503, "vision_queue_full"),
    "down": (503, "vision_unavailable"),
}
_USES = {"true": True, "1": True, "false": False, "0": False}


class Jobs(Protocol):
    """Orders to index, which are carried out in the background."""

    async def submit(
        self, scope: Scope, source: str, data: bytes | None, metadata: Mapping[str, Any], *, is_forced: bool
    ) -> Job:
        """Take an order: a URL, or bytes with their file's name.

        Raises:
            VisionFault: `full`, `busy`, `down`, `disabled` or `forbidden`.
        """

    async def cancel(self, owner: bytes, job_id: str) -> Job | None:
        """End a job; returns what became of it, None where it is not this owner's."""


@dataclass(frozen=True, slots=True)
class VisionRules:
    """What holds for all clients.

    Attributes:
        max_regions: in one call of decode.
        fidelity: where none is named.
        max_document_bytes: of an upload.
        wait_s: how long a call waits for the store.
        takes_files: documents may be uploaded; else they come by URL only.
    """

    max_regions: int = 16
    fidelity: Fidelity = Fidelity.DEFAULT
    max_document_bytes: int = 33_554_432
    wait_s: float = 10.0
    takes_files: bool = True


@dataclass(frozen=True, slots=True)
class Seeing:
    """What stages of vision need.

    Attributes:
        store: of documents.
        reader: reads and renders them.
        decoder: reads regions again.
        jobs: orders to index.
        rules: that hold.
        tally: what failed, by what and kind.
        check_source: raises a `VisionFault` for a URL that may not be fetched, as far as it says so itself.
        embedder: makes the vectors of questions; None where nobody does.
    """

    store: DocumentStore
    reader: Reader
    decoder: Decoder
    jobs: Jobs
    rules: VisionRules
    tally: Counter[tuple[str, str]]
    check_source: Callable[[str], None]
    embedder: Embedding | None = None

    async def with_vector(self, exchange: Exchange, query: str, sought: RegionsSought) -> RegionsSought:
        """What is looked for, by its meaning too where that is known in time."""
        if self.embedder is None or not query.strip():
            return sought
        (vector,) = await self.embedder.embed(exchange, [query])
        return sought if vector is None else replace(sought, vector=vector, model=self.embedder.model)

    async def ask(self, call: Awaitable[T]) -> T:
        """What the store, or who reads, answers.

        Raises:
            Refusal: it does not, or not in time.
        """
        try:
            async with asyncio.timeout(self.rules.wait_s):
                return await call
        except TimeoutError:
            late = VisionFault("timeout", f"The store of documents did not answer within {self.rules.wait_s:g} s.")
            raise self.refusal_of(late) from None
        except VisionFault as fault:
            raise self.refusal_of(fault) from None

    def refusal_of(self, fault: VisionFault) -> Refusal:
        """What a client is told of a fault."""
        self.tally["fault", fault.kind] += 1
        return refusal_of(fault)

    async def bytes_of(self, owner: bytes, doc_id: str) -> bytes:
        """A document's bytes.

        Raises:
            VisionFault: the store does not answer, or the document has just been deleted.
        """
        data = await self.store.data_of(owner, doc_id)
        if data is None:
            raise VisionFault("unreadable", "The document was deleted meanwhile.")
        return data


def refusal_of(fault: VisionFault) -> Refusal:
    """A fault as it is told, with the status of its kind."""
    status, code = _STATUSES.get(fault.kind, (502, "vision_upstream"))
    retry_s = _RETRY_S if status in (503, 504) and code != DISABLED else None
    retry_s = _QUEUE_RETRY_S if fault.kind == "busy" else retry_s
    param = "doc_url" if fault.kind == "forbidden" else None
    return Refusal(status, code, fault.message, param=param, retry_after_s=retry_s)


def id_in_path(exchange: Exchange, what: str) -> str:
    """The id that stands in a request's path.

    Raises:
        Refusal: 404, it cannot be one.
    """
    found = memory_name_of(exchange.path) or ""
    if not _is_id(found):
        raise unknown(what, found)
    return found


def unknown(what: str, found: str) -> Refusal:
    """The refusal of an id that is none of this client's, whoever else's it is."""
    return Refusal(404, f"{what}_not_found", f"There is no {what} {found[:64]!a} of this client.")


async def refuse_unwanted(exchange: Exchange) -> None:
    """First of the stages of vision: who says that nothing shall be read is taken at its word.

    Raises:
        Refusal: 503, or 400 for a header that says neither.
    """
    value = exchange.header(USE_HEADER)
    if value is None or exchange.method != "POST":
        return
    wanted = _USES.get(value.strip().lower())
    if wanted is None:
        raise invalid(f"The header {USE_HEADER} takes true or false.", USE_HEADER, "true or false", "another text")
    if not wanted:
        raise Refusal(503, DISABLED, f"This request switched vision off: its {USE_HEADER} is false.")


async def refuse_switched_off(exchange: Exchange) -> None:
    """In place of the stages of vision where there is none.

    Raises:
        Refusal: 503.
    """
    message = (
        "Vision is switched off on this gateway: vision.enabled is false, or vision.url is memory:// with several"
        " workers, of which each would keep other documents."
    )
    raise Refusal(503, DISABLED, message)
