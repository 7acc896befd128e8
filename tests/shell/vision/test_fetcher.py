"""Documents come from where they may, whole, in time and within their bound; nothing else is connected to.

A real server on 127.0.0.1 is what may be connected to (`allow_addresses`), and on 127.0.0.2 is what may not.
"""

from __future__ import annotations

import asyncio
import gzip
import ipaddress
import os
import shutil
import socket
import ssl
import subprocess
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.vision.sources import SourceRules, is_public
from gateway.ports_vision import VisionFault
from gateway.shell.vision.fetcher import DocumentFetcher
from tests.core.vision.test_sources import NOT_PUBLIC, PUBLIC, REFUSED

OPEN, CLOSED = "127.0.0.1", "127.0.0.2"
PDF = b"%PDF-1.7 and the rest"
MAX_BYTES = 100_000
Serve = Callable[[asyncio.StreamWriter], Awaitable[None]]


def answer(body: bytes = PDF, *heads: str, status: str = "200 OK", length: int | None = None) -> Serve:
    """A whole answer, with a length that may be wrong."""

    async def serve(writer: asyncio.StreamWriter) -> None:
        told = len(body) if length is None else length
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {told}", "Connection: close", *heads]
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)

    return serve


def redirect(to: str, status: str = "302 Found") -> Serve:
    return answer(b"", f"Location: {to}", status=status)


async def endless(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    while True:
        writer.write(b"x" * 65536)
        await writer.drain()


async def silent(writer: asyncio.StreamWriter) -> None:
    await writer.wait_closed()


async def dripping(writer: asyncio.StreamWriter) -> None:
    """A byte whenever the other side has had its turn: it never ends, and is never quiet."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n")
    while not writer.is_closing():
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.01)


class Server:
    """Answers by path, on an address that may be connected to and on one that may not."""

    def __init__(self) -> None:
        self.paths: dict[str, Serve] = {}
        self.heads: list[str] = []
        self.closed_connections = 0
        self.port = 0
        self._servers: list[asyncio.Server] = []

    async def start(self) -> None:
        self._servers.append(await asyncio.start_server(self._serve, OPEN, 0))
        self.port = self._servers[0].sockets[0].getsockname()[1]
        self._servers.append(await asyncio.start_server(self._refuse, CLOSED, self.port))

    async def stop(self) -> None:
        for server in self._servers:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.heads.append(head)
            await self.paths[head.split(" ")[1]](writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _refuse(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.closed_connections += 1
        writer.close()

    def url(self, path: str, host: str = OPEN) -> str:
        return f"http://{host}:{self.port}{path}"


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    await made.start()
    yield made
    await made.stop()


class Names:
    """DNS whose answers are told one after the other; the last one stays."""

    def __init__(self, **answers: Sequence[Sequence[str]]) -> None:
        self._answers = {name.replace("_", "."): list(each) for name, each in answers.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        if host not in self._answers:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        found = self._answers[host]
        return found.pop(0) if len(found) > 1 else found[0]


def fetcher(look_up: Names | None = None, allow: Sequence[str] = ("*",), **rest: Any) -> DocumentFetcher:
    told: dict[str, Any] = {"max_bytes": MAX_BYTES, "timeout_s": 30.0, "look_up": look_up or Names()}
    return DocumentFetcher(SourceRules(allow, [f"{OPEN}/32"]), **(told | rest))


async def refused(made: DocumentFetcher, url: str) -> VisionFault:
    with pytest.raises(VisionFault) as failed:
        await made.fetch(url)
    return failed.value


async def test_a_document_is_fetched(server: Server) -> None:
    """By address and by name; the server is asked for the name, and told nothing that is not needed."""
    server.paths["/a.pdf?x=1"] = answer()
    names = Names(docs_example=[[OPEN]])
    url = server.url("/a.pdf?x=1#page=2", "docs.example")

    assert await fetcher().fetch(server.url("/a.pdf?x=1")) == PDF
    assert await fetcher(names, ["docs.example"]).fetch(url) == PDF
    assert names.asked == ["docs.example"]
    head = server.heads[-1]
    told = dict(line.split(": ", 1) for line in head.strip().split("\r\n")[1:])
    assert head.startswith("GET /a.pdf?x=1 HTTP/1.1\r\n")
    assert told["Host"] == f"docs.example:{server.port}"
    assert told["Accept-Encoding"] == "identity"
    assert set(told) <= {"Host", "Accept", "Accept-Encoding", "User-Agent", "Connection"}


@pytest.mark.parametrize("url", REFUSED.values(), ids=REFUSED)
async def test_odd_spellings_are_forbidden(url: str) -> None:
    """Before a name is looked up, let alone a connection made."""
    names = Names()
    fault = await refused(fetcher(names), url)

    assert fault.kind == "forbidden"
    assert names.asked == []


async def test_a_private_address_is_forbidden(server: Server) -> None:
    """As an address, as a name, as one of a name's; there is no word of which, nor of whether it answers."""
    names = Names(inside_example=[[CLOSED]], both_example=[[OPEN, CLOSED]], mapped_example=[[f"::ffff:{CLOSED}"]])
    faults = [
        await refused(fetcher(names), server.url("/", host))
        for host in (CLOSED, f"[::ffff:{CLOSED}]", "inside.example", "both.example", "mapped.example")
    ]
    absent = await refused(fetcher(names), server.url("/", "absent.example"))

    assert {fault.kind for fault in faults} == {"forbidden"}
    assert {fault.message for fault in faults[2:]} == {absent.message}
    assert not any(CLOSED in fault.message for fault in faults[2:])
    assert server.closed_connections == 0


async def test_a_name_that_changes_its_address_gains_nothing(server: Server) -> None:
    """It is looked up once, and what was checked is what is connected to."""
    server.paths["/"] = answer()
    names = Names(rebind_example=[[OPEN], [CLOSED]])

    assert await fetcher(names).fetch(server.url("/", "rebind.example")) == PDF
    assert names.asked == ["rebind.example"]
    assert (await refused(fetcher(names), server.url("/", "rebind.example"))).kind == "forbidden"
    assert server.closed_connections == 0


async def test_no_socket_is_made_where_none_may_be(server: Server) -> None:
    """Not even where all that stands before it lets an address through."""

    class Careless(SourceRules):
        def __init__(self) -> None:
            super().__init__(["*"])
            self.asked = 0

        def may_connect(self, address: Any) -> bool:
            self.asked += 1
            return self.asked == 1

    made = DocumentFetcher(Careless(), MAX_BYTES, look_up=Names(inside_example=[[CLOSED]]))
    fault = await refused(made, server.url("/", "inside.example"))

    assert fault.kind in ("forbidden", "upstream")
    assert server.closed_connections == 0


class Unconnected(DocumentFetcher):
    """Notes to which addresses it would connect, and does not."""

    addresses: list[str]

    def _socket_for(self, info: Any) -> socket.socket:
        super()._socket_for(info).close()
        self.addresses.append(info[4][0])
        raise OSError("nothing leaves this machine")


hosts = st.sampled_from(["docs.example", "other.example.", "localhost", "xn--a", "8.8.8.8", "127.0.0.1", "2130706433"])
hosts |= st.ip_addresses().map(lambda each: f"[{each}]" if each.version == 6 else str(each))
hosts |= st.sampled_from([f"[{each}]" if ":" in each else each for each in [*NOT_PUBLIC, *PUBLIC]])
urls = st.builds(
    "{}://{}{}{}{}".format,
    st.sampled_from(["http", "https", "HTTP"]),
    st.sampled_from(["", "", "", "8.8.8.8@", "user:8.8.8.8@"]),
    hosts,
    st.sampled_from(["", ":80", ":8080", ":0", "#@8.8.8.8", "?@8.8.8.8", "\\@8.8.8.8", "%00.example"]),
    st.sampled_from(["", "/", "/a.pdf", "/../a", "/?b#c"]),
)
answers = st.lists(st.sampled_from([*NOT_PUBLIC, *PUBLIC]) | st.ip_addresses().map(str), max_size=3)


@settings(max_examples=200, deadline=None)
@given(url=urls, found=answers)
def test_whatever_is_asked_for_only_public_addresses_are_connected_to(url: str, found: list[str]) -> None:
    """Whatever the URL is, and whatever DNS answers."""

    async def look_up(_: str) -> list[str]:
        return found

    made = Unconnected(SourceRules(["*"]), MAX_BYTES, look_up=look_up)
    made.addresses = []

    async def run() -> str:
        return (await refused(made, url)).kind

    kind = asyncio.run(run())

    assert all(is_public(ipaddress.ip_address(each)) for each in made.addresses)
    assert kind == ("upstream" if made.addresses else "forbidden")


async def test_the_environment_has_no_say(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its proxies and its passwords are not used."""
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, server.url("/", CLOSED))
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine {OPEN} login me password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    server.paths["/"] = answer()

    assert await fetcher().fetch(server.url("/")) == PDF
    assert "Authorization" not in server.heads[0]
    assert server.closed_connections == 0


async def test_redirects_are_followed(server: Server) -> None:
    """With nothing of the first answer: cookies stay behind."""
    server.paths["/a"] = answer(b"", "Location: b?c#d", "Set-Cookie: s=1", status="301 Moved")
    server.paths["/b?c"] = redirect("//docs.example:PORT/e".replace("PORT", str(server.port)), "308 Permanent")
    server.paths["/e"] = answer()
    names = Names(docs_example=[[OPEN]])

    assert await fetcher(names).fetch(server.url("/a")) == PDF
    assert not any("Cookie" in head or "Referer" in head for head in server.heads)
    assert names.asked == ["docs.example"]


REDIRECTS = {
    "to a private address": "http://127.0.0.2:PORT/",
    "to a private address in an odd spelling": "http://0177.0.0.2:PORT/",
    "to a name of one": "http://inside.example:PORT/",
    "to a host that is not listed": "http://other.example:PORT/",
    "to a file": "file:///etc/passwd",
    "to data": "data:application/pdf;base64,AAAA",
    "to another scheme": "gopher://127.0.0.1:PORT/",
    "to a user": "http://user@127.0.0.1:PORT/",
}


@pytest.mark.parametrize("to", REDIRECTS.values(), ids=REDIRECTS)
async def test_redirects_are_checked_like_the_first(server: Server, to: str, tmp_path: Path) -> None:
    """Nothing that could not be asked for is reached on the way."""
    server.paths["/"] = redirect(to.replace("PORT", str(server.port)))
    names = Names(inside_example=[[CLOSED]], other_example=[[OPEN]])
    made = fetcher(names, [OPEN, CLOSED, "inside.example"], file_root=tmp_path)

    assert (await refused(made, server.url("/"))).kind == "forbidden"
    assert len(server.heads) == 1
    assert server.closed_connections == 0


@pytest.mark.parametrize("most", [0, 3])
async def test_redirects_end(server: Server, most: int) -> None:
    """After so many."""
    server.paths["/"] = redirect("/")
    fault = await refused(fetcher(max_redirects=most), server.url("/"))

    assert fault.kind == "upstream"
    assert f"more than {most} times" in fault.message
    assert len(server.heads) == most + 1


async def test_a_document_at_the_bound_is_whole(server: Server) -> None:
    """And one byte more is too much, whether it is told before or found out."""
    server.paths["/most"] = answer(b"x" * MAX_BYTES)
    server.paths["/more"] = answer(b"x" * (MAX_BYTES + 1))
    server.paths["/lies"] = answer(b"x", length=10**15)
    server.paths["/endless"] = endless

    assert len(await fetcher().fetch(server.url("/most"))) == MAX_BYTES
    for path in ("/more", "/lies", "/endless"):
        fault = await refused(fetcher(), server.url(path))
        assert fault.kind == "unreadable"
        assert f"at most {MAX_BYTES}" in fault.message


@pytest.mark.parametrize("serve", [silent, dripping])
async def test_a_slow_server_is_given_up(server: Server, serve: Serve) -> None:
    """One that says nothing, and one that says a little for ever."""
    server.paths["/"] = serve
    fault = await refused(fetcher(timeout_s=0.2), server.url("/"))

    assert fault.kind == "timeout"
    assert "0.2 s" in fault.message


async def test_slow_names_are_given_up() -> None:
    """Looking up a name is within the time, too."""

    async def never(_: str) -> list[str]:
        await asyncio.Event().wait()
        return []

    made = DocumentFetcher(SourceRules(["*"]), MAX_BYTES, 0.05, look_up=never)

    assert (await refused(made, "http://docs.example/")).kind == "timeout"


async def test_a_document_that_breaks_off_is_none(server: Server) -> None:
    """Fewer bytes than were told; and more are no answer that could be read."""
    server.paths["/less"] = answer(PDF, length=len(PDF) + 1)
    server.paths["/more"] = answer(PDF + b"!", length=len(PDF))
    fault = await refused(fetcher(), server.url("/less"))

    assert (fault.kind, fault.message) == ("upstream", "the document's server broke off")
    assert (await refused(fetcher(), server.url("/more"))).kind == "upstream"


@pytest.mark.parametrize(("name", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_what_comes_packed_is_unpacked(server: Server, name: str, pack: Callable[[bytes], bytes]) -> None:
    """Though it was not asked for; what it unpacks to counts."""
    data = os.urandom(1000) + b"y" * (MAX_BYTES - 1000)
    server.paths["/"] = answer(pack(data), f"Content-Encoding: {name}")
    server.paths["/cut"] = answer(pack(data)[:-20], f"Content-Encoding: {name}")
    server.paths["/broken"] = answer(b"hello" * 99, f"Content-Encoding: {name}")

    assert await fetcher().fetch(server.url("/")) == data
    assert (await refused(fetcher(), server.url("/cut"))).message == "the document's server broke off"
    assert "cannot be unpacked" in (await refused(fetcher(), server.url("/broken"))).message


async def test_a_bomb_is_given_up(server: Server) -> None:
    """A gigabyte in a megabyte, and one within another."""
    bomb = zlib.compressobj(9, wbits=31)
    packed = b"".join([bomb.compress(bytes(1 << 20)) for _ in range(256)]) + bomb.flush()
    server.paths["/"] = answer(packed, "Content-Encoding: gzip")
    server.paths["/twice"] = answer(gzip.compress(packed), "Content-Encoding: gzip, gzip")

    assert (await refused(fetcher(max_bytes=1 << 20), server.url("/"))).kind == "unreadable"
    assert (await refused(fetcher(max_bytes=1 << 20), server.url("/twice"))).kind == "upstream"


async def test_what_can_be_no_document_is_refused(server: Server) -> None:
    """A page that asks to log in, a film; but a document that is told to be a page is one."""
    server.paths["/page"] = answer(b"\r\n <!DOCTYPE html><p>Log in", "Content-Type: text/html; charset=utf-8")
    server.paths["/film"] = answer(PDF, "Content-Type: video/mp4")
    server.paths["/wrong"] = answer(PDF, "Content-Type: text/html")
    server.paths["/odd"] = answer(PDF, "Content-Type: ;;;")

    assert "a page of HTML" in (await refused(fetcher(), server.url("/page"))).message
    assert "video/mp4" in (await refused(fetcher(), server.url("/film"))).message
    assert await fetcher().fetch(server.url("/wrong")) == PDF
    assert await fetcher().fetch(server.url("/odd")) == PDF


@pytest.mark.parametrize("status", ["404 Not Found", "500 Oops", "204 No Content", "206 Partial Content", "304 Not"])
async def test_an_error_is_none_of_the_documents(server: Server, status: str) -> None:
    """It is told by its number, without what it says."""
    server.paths["/"] = answer(b"secret", status=status)
    fault = await refused(fetcher(), server.url("/"))

    assert fault.kind == "upstream"
    assert "secret" not in fault.message


async def garbled(writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.2 secret\r\n")


async def hung_up(writer: asyncio.StreamWriter) -> None:
    writer.close()


async def many_heads(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n" + b"X-A: " + b"a" * 100_000 + b"\r\n\r\n")


@pytest.mark.parametrize("serve", [garbled, hung_up, many_heads])
async def test_who_does_not_speak_the_protocol_is_told_alike(server: Server, serve: Serve) -> None:
    """What answers there is nobody's to know."""
    server.paths["/"] = serve
    fault = await refused(fetcher(), server.url("/"))
    with socket.socket() as unused:
        unused.bind((OPEN, 0))
        nobody = await refused(fetcher(), f"http://{OPEN}:{unused.getsockname()[1]}/")

    assert fault.kind == nobody.kind == "upstream"
    assert fault.message == nobody.message == "the document's server could not be asked"


async def test_a_server_has_to_be_who_it_says_it_is(tmp_path: Path) -> None:
    """It is asked for by its name in TLS, and what it shows for itself is checked."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=docs.example"]
    make += ["-addext", "subjectAltName=DNS:docs.example", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(make, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    asked: list[str | None] = []
    context.sni_callback = lambda _, name, __: asked.append(name)

    async def nobody(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    served = await asyncio.start_server(nobody, OPEN, 0, ssl=context)
    port = served.sockets[0].getsockname()[1]
    fault = await refused(fetcher(Names(docs_example=[[OPEN]])), f"https://docs.example:{port}/")
    served.close()

    assert asked == ["docs.example"]
    assert (fault.kind, fault.message) == ("upstream", "the document's server could not be asked")
