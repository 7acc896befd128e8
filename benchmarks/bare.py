"""A bare aiohttp reverse proxy: `python -m benchmarks.bare --port 9200 --upstream 9100`.

The least that any gateway on aiohttp must do: read the request, send it on, send the answer back, on uvloop,
with no router, no middleware, no access log. It parses no body and counts nothing, so the distance from here
to the gateway is what the gateway's own work costs.
"""

from __future__ import annotations

import argparse
import asyncio

import aiohttp
from aiohttp import web
from multidict import CIMultiDictProxy

from benchmarks.upstream import loop_factory

NOT_FORWARDED = frozenset(
    ("connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "content-length", "host")
)


def end_to_end(headers: CIMultiDictProxy[str]) -> dict[str, str]:
    """The headers that travel on."""
    return {name: value for name, value in headers.items() if name.lower() not in NOT_FORWARDED}


class Proxy:
    """One upstream, one session."""

    def __init__(self, upstream: str, session: aiohttp.ClientSession) -> None:
        self.upstream = upstream
        self.session = session

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Forward one request."""
        body = await request.read()
        calling = self.session.request(
            request.method,
            self.upstream + request.path_qs,
            headers=end_to_end(request.headers),
            data=body or None,
            skip_auto_headers=("user-agent", "accept-encoding", "accept"),
        )
        async with calling as answer:
            headers = end_to_end(answer.headers)
            if answer.content_type != "text/event-stream":
                return web.Response(status=answer.status, headers=headers, body=await answer.read())
            response = web.StreamResponse(status=answer.status, headers=headers)
            await response.prepare(request)
            async for piece in answer.content.iter_any():
                await response.write(piece)
            await response.write_eof()
            return response


async def serve(port: int, upstream: str) -> None:
    """Listen on loopback until stopped."""
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=60)
    session = aiohttp.ClientSession(
        connector=connector,
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),
    )
    async with session:
        runner = web.ServerRunner(web.Server(Proxy(upstream, session).handle, access_log=None))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
        await asyncio.Event().wait()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--upstream", type=int, required=True, help="its port on loopback")
    chosen = parser.parse_args()
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(serve(chosen.port, f"http://127.0.0.1:{chosen.upstream}"))


if __name__ == "__main__":
    main()
