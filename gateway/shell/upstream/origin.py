"""One upstream's address: connections to it, and requests written to them.

Connections come from aiohttp's connector (pool, DNS, TLS, happy eyeballs), answers are read by its parser. What is
left out is its session and its request and response objects: half of a forwarded request's time goes there, into
features that a gateway must not have (cookies, redirects, automatic headers, decompression).

Relies on these details of aiohttp, each held by a test: a connector takes a `ClientRequest` for what it is to connect
to, and `ResponseHandler` yields a message and its payload once `set_response_params` was called.
"""

from __future__ import annotations

import aiohttp
from aiohttp import hdrs
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http import RawResponseMessage
from yarl import URL

from gateway.core.wire.headers import Headers
from gateway.core.wire.http1 import render_request_head

READ_BUFFER_BYTES = 2**18
MAX_FIELD_BYTES = 32_768
SWITCHING = 101
_JOINED_BYTES = 16_384
"""A longer body is not copied to stand behind its head."""


class Origin:
    """Where requests for one base URL go.

    Args:
        base_url: with the scheme; its path goes before every target.
        connector: the pool.
        session: an aiohttp session; only named, never used.
        connect_s: until connected.
    """

    __slots__ = ("_connector", "_host", "_path", "_template", "_timeout")

    def __init__(
        self, base_url: str, connector: aiohttp.BaseConnector, session: aiohttp.ClientSession, connect_s: float
    ) -> None:
        url = URL(base_url, encoded=True)
        self._connector = connector
        self._template = aiohttp.ClientRequest("GET", url, loop=connector._loop, session=session)
        self._host = self._template.headers[hdrs.HOST]
        self._path = url.raw_path.rstrip("/")
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_s)

    async def connect(self) -> Connection:
        """A connection from the pool, or a new one.

        Raises:
            aiohttp.ClientError, OSError, TimeoutError: there is none to be had.
        """
        return await self._connector.connect(self._template, [], self._timeout)

    def write(self, connection: Connection, method: str, target: str, headers: Headers, body: bytes | None) -> None:
        """Write a whole request; its answer is `read_answer`'s to read.

        Args:
            connection: fresh from `connect`.
            method: of the request.
            target: below the base URL, with its query, as the client sent it.
            headers: end to end ones; those of this hop are added.
            body: None for none.

        Raises:
            ValueError: a header holds a line end.
            ConnectionResetError: the upstream closed the connection just now.
        """
        hop: Headers = [("Host", self._host), *headers]
        if body is not None:
            hop.append(("Content-Length", str(len(body))))
        head = render_request_head(method, self._path + target, hop)
        protocol, transport = connection.protocol, connection.transport
        if protocol is None or transport is None or transport.is_closing():
            raise ConnectionResetError("the connection was closed before the request was sent")
        protocol.set_response_params(
            skip_payload=method == hdrs.METH_HEAD,
            read_until_eof=True,
            auto_decompress=False,
            read_bufsize=READ_BUFFER_BYTES,
            max_field_size=MAX_FIELD_BYTES,
        )
        if body and len(body) > _JOINED_BYTES:
            transport.writelines((head, body))
        else:
            transport.write(head + body if body else head)


async def read_answer(protocol: ResponseHandler) -> tuple[RawResponseMessage, aiohttp.StreamReader]:
    """The head of the answer and its body; interim answers (100 Continue, 103 Early Hints) are passed over.

    Raises:
        aiohttp.ClientError, aiohttp.http_exceptions.HttpProcessingError, OSError: the connection broke, or what came
            is no HTTP.
    """
    while True:
        message, content = await protocol.read()
        if message.code >= 200 or message.code == SWITCHING:
            return message, content
