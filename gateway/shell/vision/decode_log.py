"""A decoder whose readings reach the log, for an operator who has asked for that (`log_redact_text: false`)."""

from __future__ import annotations

import logging

from gateway.core.vision.document import Fidelity, Reading
from gateway.exchange import Exchange
from gateway.ports_vision import Decoder, ToDecode

_log = logging.getLogger("gateway.vision")


class LoggedDecoder:
    """`ports.Decoder` around another.

    Args:
        decoder: whose readings are logged.
    """

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self.version = decoder.version

    async def decode(self, exchange: Exchange, wanted: ToDecode, fidelity: Fidelity) -> Reading:
        reading = await self._decoder.decode(exchange, wanted, fidelity)
        told = {"request_id": exchange.request_id, "region_id": wanted.region.id, "text": reading.text}
        _log.info("region decoded", extra=told)
        return reading
