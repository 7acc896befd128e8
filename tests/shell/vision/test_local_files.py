"""Files are read below their root, and nothing is that only seems to be."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from gateway.core.vision.sources import SourceRefusedError, SourceRules
from gateway.ports_vision import VisionFault
from gateway.shell.vision.fetcher import DocumentFetcher
from gateway.shell.vision.local_files import read_below

SECRET = b"secret"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with a file in a folder, beside a folder with a secret."""
    made = tmp_path / "docs"
    (made / "deep" / "er").mkdir(parents=True)
    (made / "deep" / "er" / "a b.pdf").write_bytes(b"%PDF")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(SECRET)
    (tmp_path / "docs2").mkdir()
    (tmp_path / "docs2" / "secret").write_bytes(SECRET)
    return made


def test_a_file_is_read(root: Path) -> None:
    """By its escaped path, in the ways that such URLs are written, however the root is reached."""
    path = f"{root}/deep/er/a%20b.pdf"
    linked = root.parent / "linked"
    linked.symlink_to(root)

    assert read_below(root, f"file://{path}", 99) == b"%PDF"
    assert read_below(root, f"FILE://localhost{path}", 99) == b"%PDF"
    assert read_below(root, f"file:{path}", 99) == b"%PDF"
    assert read_below(linked, f"file://{linked}/deep/er/a%20b.pdf", 99) == b"%PDF"
    assert read_below(linked, f"file://{path}", 99) == b"%PDF"
    with pytest.raises(SourceRefusedError):
        read_below(root, f"file://{linked}/deep/er/a%20b.pdf", 99)


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "file://ROOT/../outside/secret",
        "file://ROOT/deep/../../outside/secret",
        "file://ROOT/%2e%2e/outside/secret",
        "file://ROOT/..%2foutside%2fsecret",
        "file://ROOT/deep/%2e%2e%2f%2e%2e%2foutside/secret",
        "file://ROOT//deep/er/a%20b.pdf",
        "file://ROOT/./deep/er/a%20b.pdf",
        "file://ROOT2/secret",
        "file://ROOT/deep/er/a%20b.pdf%00.png",
        "file://ROOT/deep/er/a%20b.pdf/",
        "file://ROOT/deep/er/a%20b.pdf/x",
        "file://ROOT/deep/er/a%20b.pdf?x",
        "file://ROOT/deep/er/a%20b.pdf#x",
        "file://ROOT/deep",
        "file://ROOT",
        "file://ROOT/",
        "file://ROOT/absent",
        "file://ROOT/\ud800",
        "file://ROOT/" + "a" * 300,
        "file://ROOT/" + "a/" * 5000,
        "file://other.exampleROOT/deep/er/a%20b.pdf",
        "file:////ROOT/deep/er/a%20b.pdf",
        "file:deep/er/a%20b.pdf",
        "file:",
    ],
)
def test_what_is_not_below_is_refused(root: Path, url: str) -> None:
    """And it is not told whether it is there."""
    with pytest.raises(SourceRefusedError) as failed:
        read_below(root, url.replace("ROOT", str(root)), 99)

    assert "Errno" not in str(failed.value)
    assert str(root) not in str(failed.value)


def test_links_are_not_followed(root: Path) -> None:
    """A link to a file or to a folder, out or within, at the end or on the way."""
    outside = root.parent / "outside"
    (root / "file").symlink_to(outside / "secret")
    (root / "folder").symlink_to(outside)
    (root / "within").symlink_to(root / "deep")
    (root / "relative").symlink_to("../outside/secret")
    for path in ("file", "folder/secret", "within/er/a%20b.pdf", "relative"):
        with pytest.raises(SourceRefusedError, match="no such file that may be read"):
            read_below(root, f"file://{root}/{path}", 99)


def test_only_regular_files_are_read(root: Path) -> None:
    """No pipe (and nobody waits for its other end), no socket, no device."""
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(root / "socket"))
        for path in ("pipe", "socket"):
            with pytest.raises(SourceRefusedError, match="no such file that may be read"):
                read_below(root, f"file://{root}/{path}", 99)
    with pytest.raises(SourceRefusedError, match="no such file that may be read"):
        read_below(Path("/dev"), "file:///dev/zero", 99)


def test_a_file_at_the_bound_is_whole(root: Path) -> None:
    """And one byte more is too much."""
    (root / "large").write_bytes(b"x" * 3_000_000)

    assert len(read_below(root, f"file://{root}/large", 3_000_000)) == 3_000_000
    with pytest.raises(VisionFault, match="has 3000000 bytes, at most 2999999") as failed:
        read_below(root, f"file://{root}/large", 2_999_999)
    assert failed.value.kind == "unreadable"


def test_a_file_that_grows_is_bounded() -> None:
    """What tells no size, and goes on."""
    with pytest.raises(VisionFault, match="at most 9 are read"):
        read_below(Path("/proc/self"), "file:///proc/self/status", 9)


def test_a_folder_that_becomes_a_link_leads_nowhere(root: Path) -> None:
    """While somebody changes it back and forth as fast as they can, nothing outside is ever read."""
    outside = root.parent / "outside"
    for folder in (root / "real", outside):
        folder.mkdir(exist_ok=True)
    (root / "real" / "secret").write_bytes(b"harmless")
    (root / "link").symlink_to(outside)
    is_over = threading.Event()

    def change() -> None:
        while not is_over.is_set():
            os.rename(root / "real", root / "way")
            os.rename(root / "way", root / "real")
            os.rename(root / "link", root / "way")
            os.rename(root / "way", root / "link")

    changing = threading.Thread(target=change)
    changing.start()
    found: set[bytes] = set()
    try:
        for _ in range(3000):
            try:
                found.add(read_below(root, f"file://{root}/way/secret", 99))
            except SourceRefusedError:
                found.add(b"")
    finally:
        is_over.set()
        changing.join()

    assert found <= {b"", b"harmless"}


async def test_the_fetcher_reads_files_where_it_may(root: Path) -> None:
    """With a root; without one it says which option it takes."""
    rules, url = SourceRules([]), f"file://{root}/deep/er/a%20b.pdf"

    assert await DocumentFetcher(rules, 99, file_root=root).fetch(url) == b"%PDF"
    with pytest.raises(VisionFault, match=r"vision\.fetch\.file_root") as failed:
        await DocumentFetcher(rules, 99).fetch(url)
    assert failed.value.kind == "forbidden"
    with pytest.raises(VisionFault, match="no such file") as failed:
        await DocumentFetcher(rules, 99, file_root=root).fetch("file:///etc/passwd")
    assert failed.value.kind == "forbidden"
