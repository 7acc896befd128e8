"""`ports.Decoder` on this machine: a document's own text, or what is read of its page at the size of the fidelity."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from gateway.core.routing.breaker import Event
from gateway.core.vision.document import Fidelity, Reading
from gateway.core.vision.fidelity import LOCAL_DPI
from gateway.exchange import Exchange
from gateway.ports_vision import Reader, ToDecode, VisionFault
from gateway.shell.vision.backend import BackendFault

_PACKAGES = ("pypdfium2", "rapidocr")


class LocalDecoder:
    """Decodes with a reader.

    Args:
        reader: of documents.
    """

    def __init__(self, reader: Reader, *, reads_pictures: bool) -> None:
        self._reader = reader
        versions = ",".join(map(_version_of, _PACKAGES))
        self.version = f"local:{versions}:{'ocr' if reads_pictures else 'text'}"

    async def decode(self, exchange: Exchange, wanted: ToDecode, fidelity: Fidelity) -> Reading:
        region = wanted.region
        data = await wanted.fetch_data()
        try:
            return await self._reader.decode(data, region.page, region.laid.box, LOCAL_DPI[fidelity])
        except VisionFault as fault:
            # The same page takes as long again; only a machine that is overloaded is left alone.
            event = Event.FAILURE if fault.kind == "timeout" else None
            raise BackendFault(fault.kind, fault.message, is_passing=False, event=event) from None


def _version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
