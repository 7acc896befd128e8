"""Which URLs of documents may be fetched, and which addresses may be connected to for that.

Pure. A URL is read strictly: what another reader could take for another host, port or path than this one does is
refused rather than mended (user names, backslashes, white space, percent signs in a host, odd spellings of addresses,
letters outside ASCII in a host, `..` however it is written). So what is allowed is what is connected to. An address is
judged by what it is for, whatever it is wrapped in: an IPv4 address within IPv6 counts as itself.

Invariants, each with a test of its own:
  1. A URL that is allowed is read in the same way by the libraries that connect.
  2. A row of the allow-list lets in the hosts, or the paths of the one host, that it names, and no others.
  3. No address is public that is private, local, shared, for metadata, for many, or reserved; nor one that holds such.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import NamedTuple
from urllib.parse import quote, unquote, urljoin

Address = IPv4Address | IPv6Address
MAX_URL_CHARS = 8192
_PORTS = {"http": 80, "https": 443}
_MAX_HOST_CHARS = 253
_UNWRITTEN = re.compile(r"[\x00-\x20\x7f-\xa0\\\u2028\u2029\ufeff]")
_web = re.compile(r"(https?)://([^/?#]*)([^?#]*)(\?[^#]*)?(?:#.*)?", re.IGNORECASE | re.ASCII).fullmatch
_authority = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]@%]+)(?::([0-9]{1,5}))?", re.ASCII).fullmatch
_label = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII).fullmatch
_is_number = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII).fullmatch
_bad_escape = re.compile(r"%(?![0-9a-fA-F]{2})").search
_SAFE = "!$&'()*+,;=:@-._~/%?"
_MAX_ESCAPED = 3
"""So often is a path unescaped in search of `..`."""
_NOT_PUBLIC_4 = [
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # shared by carriers; Alibaba's metadata
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's own services
        "169.254.0.0/16",  # link-local; metadata of most clouds
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocols; Oracle's metadata
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # relays of 6to4
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
]
_UNICAST_6 = ipaddress.IPv6Network("2000::/3")
"""All that is assigned for use across the internet; outside it are loopback, local, private, multicast and mapped."""
_NOT_PUBLIC_6 = [
    ipaddress.IPv6Network(network)
    for network in (
        "2001::/23",  # protocols, Teredo among them
        "2001:db8::/32",  # documentation
        "3fff::/20",  # documentation
    )
]
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class SourceRefusedError(ValueError):
    """A URL that must not be fetched; says why, as its sender may know it."""


class Source(NamedTuple):
    """Where a document is, as it is asked for.

    Attributes:
        scheme: `http` or `https`.
        host: in lower case, without a dot at its end; of an IPv6 address without brackets.
        port: of it.
        path: with a slash at its start, escaped.
        query: with its question mark, escaped, or "".
        address: that the host is, where it is no name.
    """

    scheme: str
    host: str
    port: int
    path: str
    query: str = ""
    address: Address | None = None

    @property
    def url(self) -> str:
        """All of it, in the one way to write it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == _PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}{self.path}{self.query}"


def parse_source(url: str) -> Source:
    """What a URL of the web says.

    Raises:
        SourceRefusedError: it is none, or could be read in more than one way.
    """
    if len(url) > MAX_URL_CHARS:
        raise SourceRefusedError(f"the URL has {len(url)} characters, at most {MAX_URL_CHARS} are read")
    if _UNWRITTEN.search(url):
        raise SourceRefusedError("the URL holds white space, a control character or a backslash: escape it (%20)")
    parts = _web(url)
    if parts is None:
        raise SourceRefusedError("a document's URL has to begin with http:// or https://")
    scheme, authority, path, query = parts[1].lower(), parts[2], parts[3] or "/", parts[4] or ""
    if "@" in authority:
        raise SourceRefusedError("the URL names a user: documents are fetched without")
    named = _authority(authority)
    if named is None:
        raise SourceRefusedError("the URL's host is none that can be read")
    port = int(named[2]) if named[2] else _PORTS[scheme]
    if not 0 < port < 65536:
        raise SourceRefusedError(f"the URL's port is {port}, it has to be between 1 and 65535")
    host, address = _parse_host(named[1])
    _check_steps(path)
    return Source(scheme, host, port, _escaped(path), _escaped(query), address)


def _parse_host(text: str) -> tuple[str, Address | None]:
    try:
        if text.startswith("["):
            address: Address = IPv6Address(text[1:-1])
            return str(address), address
        if not text.isascii():
            raise SourceRefusedError("the URL's host holds other letters than a to z: write it as xn--")
        host = text.lower().removesuffix(".")
        labels = host.split(".")
        if _is_number(labels[-1]):  # as in the URL standard of WHATWG: then it is an address, and nothing else
            address = IPv4Address(host)
            return str(address), address
    except AddressValueError:
        raise SourceRefusedError(
            "the URL's host is an address in an odd spelling: IPv4 is four numbers from 0 to 255, IPv6 stands in"
            " brackets"
        ) from None
    if len(host) > _MAX_HOST_CHARS or not all(map(_label, labels)):
        raise SourceRefusedError("the URL's host is no name of a host")
    return host, None


def _check_steps(path: str) -> None:
    """Refuse a path that a server could take for one that leads elsewhere."""
    for _ in range(_MAX_ESCAPED):
        steps = [step.partition(";")[0] for step in re.split(r"[/\\]", path)]
        if ".." in steps or "." in steps:
            raise SourceRefusedError("the URL's path holds . or ..: write it without")
        path = unquote(path)


def _escaped(text: str) -> str:
    """A path or query as it is sent."""
    if _bad_escape(text):
        raise SourceRefusedError("the URL holds a percent sign that escapes nothing: write it as %25")
    try:
        return quote(text, _SAFE)
    except UnicodeEncodeError:
        raise SourceRefusedError("the URL holds a character that cannot be written") from None


def follow(source: Source, location: str) -> Source:
    """Where a redirect leads.

    Raises:
        SourceRefusedError: nowhere that could be fetched, or from https to http.
    """
    if len(location) > MAX_URL_CHARS or _UNWRITTEN.search(location):
        raise SourceRefusedError("the URL was redirected to one that cannot be read")
    try:
        joined = urljoin(source.url, location)
    except ValueError:
        raise SourceRefusedError("the URL was redirected to one that cannot be read") from None
    found = parse_source(joined)
    if source.scheme == "https" and found.scheme != "https":
        raise SourceRefusedError("the URL was redirected from https to http")
    return found


@dataclass(frozen=True, slots=True)
class _Row:
    """A row of the allow-list: any host, one, all below one, or paths of one."""

    host: str
    is_suffix: bool = False
    prefix: Source | None = None

    def lets_in(self, source: Source) -> bool:
        if self.prefix is not None:
            return source[:3] == self.prefix[:3] and _is_below(source.path, self.prefix.path)
        if self.is_suffix:
            return source.address is None and source.host.endswith(self.host)
        return source.host == self.host


def _is_below(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(prefix if prefix.endswith("/") else prefix + "/")


class SourceRules:
    """What may be fetched, and what may be connected to.

    Args:
        allow: hosts, `*.` and a host for all below it, beginnings of URLs, or `*` for any host. A host is allowed with
            all its ports, a URL with its own.
        allow_addresses: networks that may be connected to though they are not public.

    Raises:
        ValueError: a row is none of these.
    """

    def __init__(self, allow: Sequence[str], allow_addresses: Sequence[str] = ()) -> None:
        self._allows_any = "*" in allow
        self._rows = [_parse_row(row) for row in allow if row != "*"]
        self._networks = [_parse_network(row) for row in allow_addresses]

    def check(self, source: Source) -> None:
        """Refuse a source that is not allowed.

        Raises:
            SourceRefusedError: it is not.
        """
        if not self._allows_any and not any(row.lets_in(source) for row in self._rows):
            raise SourceRefusedError(f"documents of {source.host} may not be fetched: it is not in vision.fetch.allow")
        if source.address is not None and not self.may_connect(source.address):
            raise SourceRefusedError(f"documents of {source.host} may not be fetched: that is no public address")

    def may_connect(self, address: Address) -> bool:
        """Whether this address may be connected to."""
        bare = _unmapped(address)
        return is_public(bare) or any(bare in network for network in self._networks)


def _parse_row(row: str) -> _Row:
    try:
        if "://" in row:
            prefix = parse_source(row)
            if prefix.query or "#" in row:
                raise ValueError(f"{row!r}: the beginning of a URL has no query and no fragment")
            return _Row(prefix.host, prefix=prefix)
        if row.startswith("*."):
            return _Row("." + _parse_host(row[2:])[0], is_suffix=True)
        bracketed = f"[{row}]" if ":" in row and not row.startswith("[") else row
        return _Row(_parse_host(bracketed)[0])
    except SourceRefusedError as error:
        raise ValueError(f"{row!r} is no host, no *.host and no beginning of a URL: {error}") from None


def _parse_network(row: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(row)
    except ValueError as error:
        raise ValueError(f"{row!r} is no network of addresses: {error}") from None


def _unmapped(address: Address) -> Address:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address if mapped is None else mapped


def is_public(address: Address) -> bool:
    """Whether an address is one of the internet's, and holds none that is not."""
    bare = _unmapped(address)
    if isinstance(bare, IPv4Address):
        return bare.is_global and not any(bare in network for network in _NOT_PUBLIC_4)
    held = _held_by(bare)
    if held is not None and not is_public(held):
        return False
    if bare in _NAT64:
        return bare.scope_id is None
    is_unicast = bare in _UNICAST_6 and bare.scope_id is None and not any(bare in net for net in _NOT_PUBLIC_6)
    return is_unicast and (bare.is_global or held is not None)


def _held_by(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that this one leads to, by NAT64, 6to4 or ISATAP."""
    number = int(address)
    if address in _NAT64 or (number >> 32) & 0xFDFFFFFF == 0x5EFE:
        return IPv4Address(number & 0xFFFFFFFF)
    return address.sixtofour
