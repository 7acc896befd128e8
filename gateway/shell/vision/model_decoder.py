"""`ports.Decoder` by a vision model, such as DeepSeek-OCR, behind an OpenAI-compatible server."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from gateway.core.routing.routes import Route
from gateway.core.vision.document import Fidelity, Reading, RegionType
from gateway.core.vision.fidelity import vision_side
from gateway.core.vision.model_calls import agreed, read_answer, render_call
from gateway.core.wire.headers import Headers, credential
from gateway.exchange import Exchange
from gateway.ports import Upstream, UpstreamCall
from gateway.ports_vision import Reader, ToDecode
from gateway.shell.vision.backend import StatusFault, ask_backend, unreadable_answer

_READ_INLINE_BYTES = 65_536
_REFUSED = frozenset({400, 422})
_SECOND_SHARE = 0.75
"""How large the picture of a second reading is beside that of the first."""


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """Which model, and what it is asked.

    Attributes:
        route: the server.
        model: as it knows it.
        prompt: for text, figures and code.
        table_prompt: for tables.
        max_tokens: of an answer.
        options: sent along with each call.
        timeout_s: of one call.
        reads_twice: where the server says nothing of how sure it is, another reading at another size does.
    """

    route: Route
    model: str
    prompt: str
    table_prompt: str
    max_tokens: int
    options: Mapping[str, Any]
    timeout_s: float
    reads_twice: bool = False

    @property
    def version(self) -> str:
        """Names all that an answer depends on."""
        route = self.route.base_url
        shaping = (route, self.model, self.prompt, self.table_prompt, self.max_tokens, self.options, self.reads_twice)
        return f"openai:{hashlib.sha256(msgspec.json.encode(shaping)).hexdigest()[:16]}"


class ModelDecoder:
    """Decodes by asking a model what stands on a region's picture.

    Args:
        options: which model.
        upstream: the way there.
        reader: makes the pictures.
    """

    def __init__(self, options: ModelOptions, upstream: Upstream, reader: Reader) -> None:
        self._options = options
        self._upstream = upstream
        self._reader = reader
        self._knows_logprobs = True
        self.version = options.version

    async def decode(self, exchange: Exchange, wanted: ToDecode, fidelity: Fidelity) -> Reading:
        data = await wanted.fetch_data()
        region = wanted.region
        side_px = vision_side(region.laid.box, region.token_estimate, fidelity)
        reading = await self._read(wanted, data, side_px)
        if reading.confidence is not None or not self._options.reads_twice:
            return reading
        return agreed(reading, await self._read(wanted, data, round(side_px * _SECOND_SHARE)))

    async def _read(self, wanted: ToDecode, data: bytes, side_px: int) -> Reading:
        region, options = wanted.region, self._options
        picture = await self._reader.render(data, region.page, region.laid.box, side_px)
        prompt = options.table_prompt if region.laid.type is RegionType.TABLE else options.prompt
        body = await self._ask(prompt, picture)
        is_short = len(body) <= _READ_INLINE_BYTES
        reading = read_answer(body) if is_short else await asyncio.to_thread(read_answer, body)
        if reading is None:
            raise unreadable_answer("it is no chat completion")
        return reading

    async def _ask(self, prompt: str, picture: bytes) -> bytes:
        """The answer's body; a server that refuses to tell probabilities is asked without, and so from then on."""
        asks = self._knows_logprobs
        try:
            return await self._send(prompt, picture, asks_for_logprobs=asks)
        except StatusFault as fault:
            if not asks or fault.status not in _REFUSED or b"logprobs" not in fault.said:
                raise
        self._knows_logprobs = False
        return await self._send(prompt, picture, asks_for_logprobs=False)

    async def _send(self, prompt: str, picture: bytes, *, asks_for_logprobs: bool) -> bytes:
        options = self._options
        body = render_call(
            options.model, prompt, picture, options.max_tokens, options.options, asks_for_logprobs=asks_for_logprobs
        )
        headers = backend_headers(options.route)
        call = UpstreamCall(options.route, "POST", "/chat/completions", headers, body)
        return await ask_backend(self._upstream, call, options.timeout_s)


def backend_headers(route: Route) -> Headers:
    """Of a call on the gateway's own account."""
    headers: Headers = [("Content-Type", "application/json"), ("Accept-Encoding", "identity")]
    return [*headers, credential(route.api_key, route.key_header)] if route.api_key else headers
