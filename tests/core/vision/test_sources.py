"""Which URLs are allowed, however they are spelt, and which addresses are public, whatever they are wrapped in."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from yarl import URL

from gateway.core.vision.sources import (
    MAX_URL_CHARS,
    SourceRefusedError,
    SourceRules,
    follow,
    is_public,
    parse_source,
)

READ = {
    "http://example.com": ("http", "example.com", 80, "/", ""),
    "HTTPS://Example.COM/A.pdf": ("https", "example.com", 443, "/A.pdf", ""),
    "https://example.com./a": ("https", "example.com", 443, "/a", ""),
    "https://example.com:8443/a?b=c#d": ("https", "example.com", 8443, "/a", "?b=c"),
    "https://example.com?x=/../y": ("https", "example.com", 443, "/", "?x=/../y"),
    "http://xn--bcher-kva.example/ü": ("http", "xn--bcher-kva.example", 80, "/%C3%BC", ""),
    "http://a_b.example/%7Euser/a'b(1).pdf": ("http", "a_b.example", 80, "/%7Euser/a'b(1).pdf", ""),
    "http://8.8.8.8/": ("http", "8.8.8.8", 80, "/", ""),
    "http://[2606:4700::1111]:81/": ("http", "2606:4700::1111", 81, "/", ""),
    "http://[2606:4700:0:0::1111]/": ("http", "2606:4700::1111", 80, "/", ""),
    "http://example.com/...": ("http", "example.com", 80, "/...", ""),
}

REFUSED = {
    "no scheme": "example.com/a.pdf",
    "no slashes": "http:example.com",
    "one slash": "http:/example.com",
    "three slashes": "http:///example.com",
    "another scheme": "ftp://example.com/",
    "gopher": "gopher://127.0.0.1:6379/_FLUSHALL",
    "long s in the scheme": "http\u017f://example.com/",
    "no host": "http://",
    "only a port": "http://:80/",
    "decimal": "http://2130706433/",
    "hexadecimal": "http://0x7f.1/",
    "hexadecimal whole": "http://0x7f000001/",
    "octal": "http://0177.0.0.1/",
    "octal whole": "http://017700000001/",
    "short": "http://127.1/",
    "five parts": "http://1.2.3.4.5/",
    "too large a part": "http://127.0.0.256/",
    "empty hexadecimal": "http://1.2.3.0x/",
    "address with two dots at its end": "http://127.0.0.1../",
    "mapped, dotted wrong": "http://[::ffff:127.0.1]/",
    "brackets around a name": "http://[example.com]/",
    "brackets not closed": "http://[::1/",
    "zone": "http://[fe80::1%25eth0]/",
    "zone, bare": "http://[fe80::1%eth0]/",
    "bare IPv6": "http://::1/",
    "a user": "http://user@example.com/",
    "a user and a password": "http://user:pass@example.com/",
    "an empty user": "http://@example.com/",
    "a host as a user": "http://example.com@127.0.0.1/",
    "an escaped at": "http://example.com%40127.0.0.1/",
    "backslash": "http://example.com\\@127.0.0.1/",
    "backslashes for slashes": "http:\\\\example.com\\",
    "tab": "http://exa\tmple.com/",
    "newline": "http://example.com/\r\nHost: other",
    "space in front": " http://example.com/",
    "space behind": "http://example.com/ ",
    "NUL": "http://example.com/\0",
    "no-break space": "http://example.com/\xa0",
    "two dots": "http://example..com/",
    "two dots at the end": "http://example.com../",
    "a dot in front": "http://.example.com/",
    "a dot alone": "http://./",
    "escaped host": "http://%65xample.com/",
    "escaped dot": "http://127%2e0.0.1/",
    "full-width digits": "http://１２７.0.0.1/",
    "circled letters": "http://ⓔⓧⓐⓜⓟⓛⓔ.com/",
    "ideographic full stop": "http://127。0。0。1/",
    "Kelvin sign": "http://\u212a.example/",
    "letters outside ASCII": "http://bücher.example/",
    "soft hyphen": "http://exam\u00adple.com/",
    "zero-width joiner": "http://exam\u200dple.com/",
    "lone surrogate in the host": "http://\ud800.example/",
    "lone surrogate in the path": "http://example.com/\ud800",
    "port 0": "http://example.com:0/",
    "port 65536": "http://example.com:65536/",
    "port with a sign": "http://example.com:+80/",
    "port in other digits": "http://example.com:８０/",
    "empty port": "http://example.com:/",
    "two ports": "http://example.com:80:81/",
    "hyphen in front": "http://-a.example/",
    "comma": "http://a,b.example/",
    "semicolon": "http://a;b.example/",
    "long label": f"http://{'a' * 64}.example/",
    "long host": f"http://{'a.' * 130}example/",
    "long URL": "http://example.com/" + "a" * MAX_URL_CHARS,
    "dots": "http://example.com/manuals/../secret",
    "dots at the end": "http://example.com/manuals/..",
    "one dot": "http://example.com/./manuals",
    "escaped dots": "http://example.com/manuals/%2e%2E/secret",
    "half escaped dots": "http://example.com/manuals/.%2e/secret",
    "escaped slash": "http://example.com/manuals/..%2fsecret",
    "escaped backslash": "http://example.com/manuals/..%5csecret",
    "twice escaped dots": "http://example.com/manuals/%252e%252e/secret",
    "dots with a parameter": "http://example.com/manuals/..;/secret",
    "dots behind an escaped question mark": "http://example.com/a%3f/%2e%2e/secret",
    "percent alone": "http://example.com/100%",
    "percent with no number": "http://example.com/%zz",
}

NOT_PUBLIC = """
    0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 100.100.100.200 127.0.0.1 127.255.255.254 168.63.129.16 169.254.169.254
    169.254.170.2 172.16.0.1 172.31.255.255 192.0.0.192 192.0.2.1 192.88.99.1 192.168.1.1 198.18.0.1 198.51.100.1
    203.0.113.1 224.0.0.1 239.255.255.250 240.0.0.1 255.255.255.255 :: ::1 ::7f00:1 ::ffff:127.0.0.1 ::ffff:10.0.0.1
    ::ffff:0:127.0.0.1 64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 64:ff9b:1::808:808 100::1 2001::1 2001:0:4136:e378::1
    2001:10::1 2001:db8::1 2002:7f00:1::1 2002:a9fe:a9fe:: 2002:c0a8:101::1 3fff::1 5f00::1 fc00::1 fd00:ec2::254
    fe80::1 fe80::1%eth0 2606:4700::1%eth0 fec0::1 ff02::1 2606:4700::5efe:7f00:1 2606:4700::200:5efe:10.0.0.1
    """.split()  # noqa: SIM905 - one list of addresses in several lines
PUBLIC = """
    1.1.1.1 8.8.8.8 100.63.255.255 100.128.0.0 172.15.255.255 172.32.0.0 223.255.255.255 ::ffff:8.8.8.8
    64:ff9b::808:808 2001:4860:4860::8888 2002:808:808::1 2606:4700::1111 2a00:1450::1
    """.split()  # noqa: SIM905


@pytest.mark.parametrize("url", READ)
def test_urls_are_read(url: str) -> None:
    """Host, port, path and query, in one form."""
    assert parse_source(url)[:5] == READ[url]


@pytest.mark.parametrize("url", REFUSED.values(), ids=REFUSED)
def test_what_could_be_read_otherwise_is_refused(url: str) -> None:
    """Whatever is allowed."""
    with pytest.raises(SourceRefusedError):
        parse_source(url)


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_what_is_not_public(address: str) -> None:
    """Nor may it be connected to, unless its network is listed."""
    found = ipaddress.ip_address(address)

    assert not is_public(found)
    assert not SourceRules(["*"]).may_connect(found)
    assert not SourceRules(["*"], ["10.9.0.0/16", "fd99::/16"]).may_connect(found)


@pytest.mark.parametrize("address", PUBLIC)
def test_what_is_public(address: str) -> None:
    """The internet's own addresses."""
    assert is_public(ipaddress.ip_address(address))


@given(st.ip_addresses(v=4) | st.sampled_from([*map(ipaddress.IPv4Address, NOT_PUBLIC[:20])]))
def test_wrapping_an_address_does_not_make_it_public(address: ipaddress.IPv4Address) -> None:
    """IPv4 in IPv6: mapped, NAT64, 6to4, ISATAP; and none is public that Python says is not."""
    number, wide = int(address), ipaddress.IPv6Address
    wrapped = [
        wide(0xFFFF << 32 | number),
        wide(0x64FF9B << 96 | number),
        wide(0x2002 << 112 | number << 80),
        wide(0x26064700 << 96 | 0x5EFE << 32 | number),
    ]

    assert [is_public(each) for each in wrapped] == [is_public(address)] * 4
    assert address.is_global or not is_public(address)


def allowed(rows: list[str], url: str, networks: tuple[str, ...] = ()) -> bool:
    try:
        SourceRules(rows, networks).check(parse_source(url))
    except SourceRefusedError:
        return False
    return True


ROWS = [
    ("*", "http://any.example/", True),
    ("*", "http://10.0.0.1/", False),
    ("docs.example.com", "https://docs.example.com/a", True),
    ("docs.example.com", "http://DOCS.example.com.:8080/a", True),
    ("Docs.Example.com.", "https://docs.example.com/a", True),
    ("docs.example.com", "https://xdocs.example.com/a", False),
    ("docs.example.com", "https://docs.example.com.evil.example/a", False),
    ("docs.example.com", "https://a.docs.example.com/a", False),
    ("*.example.com", "https://a.example.com/", True),
    ("*.example.com", "https://a.b.example.com/", True),
    ("*.example.com", "https://example.com/", False),
    ("*.example.com", "https://aexample.com/", False),
    ("8.8.8.8", "http://8.8.8.8/", True),
    ("8.8.8.8", "http://[::ffff:8.8.8.8]/", False),
    ("2606:4700::1111", "http://[2606:4700:0::1111]/", True),
    ("[2606:4700::1111]", "http://[2606:4700::1111]/", True),
    ("https://docs.example.com/manuals/", "https://docs.example.com/manuals/a.pdf", True),
    ("https://docs.example.com/manuals/", "https://docs.example.com/manuals", False),
    ("https://docs.example.com/manuals/", "https://docs.example.com/manualsx/a.pdf", False),
    ("https://docs.example.com/manuals", "https://docs.example.com/manuals", True),
    ("https://docs.example.com/manuals", "https://docs.example.com/manuals/a.pdf?x=1", True),
    ("https://docs.example.com/manuals", "https://docs.example.com/manuals-secret/a.pdf", False),
    ("https://docs.example.com/manuals/", "https://docs.example.com/manuals/..%2fa.pdf", False),
    ("https://docs.example.com/manuals/", "https://docs.example.com/Manuals/a.pdf", False),
    ("https://docs.example.com/manuals/", "http://docs.example.com/manuals/a.pdf", False),
    ("https://docs.example.com/manuals/", "https://docs.example.com:444/manuals/a.pdf", False),
    ("https://docs.example.com:443/manuals/", "https://docs.example.com/manuals/a.pdf", True),
    ("https://docs.example.com", "https://docs.example.com/a", True),
    ("https://docs.example.com", "https://docs.example.com.evil.example/a", False),
    ("https://docs.example.com", "https://docs.example.com@evil.example/a", False),
]


@pytest.mark.parametrize(("row", "url", "expected"), ROWS)
def test_a_row_lets_in_what_it_names(row: str, url: str, expected: bool) -> None:
    """And nothing that only looks like it; an empty list lets in nothing."""
    assert allowed([row], url) is expected
    assert not allowed([], url)


def test_listed_networks_may_be_connected_to() -> None:
    """As the address that it is, whatever it is wrapped in; and nothing beside them."""
    rules = SourceRules(["*"], ["127.0.0.0/8", "fd00::/8"])

    assert rules.may_connect(ipaddress.ip_address("127.0.0.1"))
    assert rules.may_connect(ipaddress.ip_address("::ffff:127.0.0.1"))
    assert rules.may_connect(ipaddress.ip_address("fd12::1"))
    assert not rules.may_connect(ipaddress.ip_address("::1"))
    assert not rules.may_connect(ipaddress.ip_address("64:ff9b::7f00:1"))
    assert allowed(["*"], "http://127.0.0.1/", ("127.0.0.0/8",))
    assert not allowed(["docs.example.com"], "http://127.0.0.1/", ("127.0.0.0/8",))


@pytest.mark.parametrize(
    "row", ["", "a b", "http://", "https://a.example/?x", "https://a.example/#x", "*.", "*a.example", "a/b", "0x7f.1"]
)
def test_rows_that_are_none_are_refused(row: str) -> None:
    """With the row in the message."""
    with pytest.raises(ValueError, match=r"is no host|has no query"):
        SourceRules([row])


@pytest.mark.parametrize("row", ["", "10.0.0.1/8", "10.0.0.0/33", "host"])
def test_networks_that_are_none_are_refused(row: str) -> None:
    """A host's bits within a network are a slip."""
    with pytest.raises(ValueError, match="is no network"):
        SourceRules(["*"], [row])


REDIRECTS = [
    ("/b.pdf", "https://a.example/b.pdf"),
    ("b.pdf", "https://a.example/x/b.pdf"),
    ("../b.pdf", "https://a.example/b.pdf"),
    ("?q=1", "https://a.example/x/y?q=1"),
    ("//b.example/c", "https://b.example/c"),
    ("https://b.example/c#d", "https://b.example/c"),
    ("http://b.example/c", None),
    ("file:///etc/passwd", None),
    ("data:text/plain;base64,AAAA", None),
    ("//user@b.example/", None),
    ("/%2e%2e/b", None),
    ("/a\tb", None),
    ("https:\\\\b.example", None),
    ("//[::1", None),
    ("/" + "a" * MAX_URL_CHARS, None),
]


@pytest.mark.parametrize(("location", "expected"), REDIRECTS)
def test_redirects_are_read_as_strictly(location: str, expected: str | None) -> None:
    """And never from https to http."""
    source = parse_source("https://a.example/x/y")
    if expected is None:
        with pytest.raises(SourceRefusedError):
            follow(source, location)
    else:
        assert follow(source, location).url == expected


_PIECES = """
    http https :// : / // @ # ? \\ . .. %2e %40 % [ ] ::1 127.0.0.1 example.com evil.example 0x7f 1 80 ａ 。 xn-- - ü
    localhost ; &""".split()  # noqa: SIM905
pieces = st.sampled_from([*_PIECES, "\t", " ", "\0"])


@given(st.lists(pieces, max_size=10).map("".join) | st.lists(pieces, max_size=8).map(lambda p: "http://" + "".join(p)))
@example("http://example.com:80?@127.0.0.1/")
@example("http://example.com#@127.0.0.1/")
def test_what_is_allowed_is_what_libraries_connect_to(url: str) -> None:
    """As written, to Python's own reader; and as it is passed on, to the one that connects."""
    try:
        source = parse_source(url)
    except SourceRefusedError:
        return  # what is refused is told in the table above
    theirs, passed_on = urlsplit(url), URL(source.url, encoded=True)
    host = (theirs.hostname or "").removesuffix(".")

    assert (ipaddress.ip_address(host) == source.address) if source.address else host == source.host
    assert (theirs.port or {"http": 80, "https": 443}[source.scheme]) == source.port
    assert (passed_on.scheme, passed_on.raw_host, passed_on.port) == source[:3]
    assert passed_on.raw_path_qs == source.path + source.query
    assert passed_on.user is None
    assert parse_source(source.url) == source
