"""A configuration that changes is noticed by what its files say, however they come to say it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.shell.config_watch import digest_of_files, watch_files


def replaced(folder: Path) -> None:
    said(folder / "gateway.yaml", "two")


def said(path: Path, text: str) -> None:
    """All at once: a file that is being written says half of it."""
    new = path.with_name("new")
    new.write_text(text)
    new.replace(path)


def swapped(folder: Path) -> None:
    """As a kubelet does it: the file is a link into a folder that is a link, and the latter is renamed over."""
    (folder / "..v2").mkdir()
    (folder / "..v2" / "gateway.yaml").write_text("two")
    (folder / "..new").symlink_to("..v2")
    (folder / "..new").rename(folder / "..data")


def mounted(folder: Path) -> Path:
    (folder / "..v1").mkdir()
    (folder / "..v1" / "gateway.yaml").write_text("one")
    (folder / "..data").symlink_to("..v1")
    (folder / "gateway.yaml").symlink_to("..data/gateway.yaml")
    return folder / "gateway.yaml"


def plain(folder: Path) -> Path:
    (folder / "gateway.yaml").write_text("one")
    return folder / "gateway.yaml"


CHANGES = {
    "written": (plain, lambda folder: (folder / "gateway.yaml").write_text("two")),
    "replaced": (plain, replaced),
    "removed": (plain, lambda folder: (folder / "gateway.yaml").unlink()),
    "swapped as a ConfigMap": (mounted, swapped),
}


@pytest.mark.parametrize("name", CHANGES)
def test_changes_show(name: str, tmp_path: Path) -> None:
    """Whatever way a file comes to say something else."""
    make, change = CHANGES[name]
    path = make(tmp_path)
    before = digest_of_files([path])

    change(tmp_path)

    assert digest_of_files([path]) != before


def test_same_content_is_no_change(tmp_path: Path) -> None:
    path = plain(tmp_path)
    before = digest_of_files([path])

    path.write_text("one")

    assert digest_of_files([path]) == before


def test_contents_are_told_apart(tmp_path: Path) -> None:
    """What moves from the end of one file to the beginning of the next is a change."""
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_text("ab")
    second.write_text("c")
    before = digest_of_files([first, second])

    first.write_text("a")
    second.write_text("bc")

    assert digest_of_files([first, second]) != before


@pytest.mark.asyncio
async def test_each_change_is_told_once(tmp_path: Path) -> None:
    """Also one before the watcher began; and it goes on after it."""
    path = plain(tmp_path)
    told: asyncio.Queue[str] = asyncio.Queue()
    on_change: Callable[[], None] = lambda: told.put_nowait(path.read_text())  # noqa: E731
    read = digest_of_files([path])
    said(path, "two")
    watching = asyncio.create_task(watch_files(lambda: [path], read, 0.01, on_change))

    first = await asyncio.wait_for(told.get(), 10)
    said(path, "three")
    second = await asyncio.wait_for(told.get(), 10)
    watching.cancel()

    assert (first, second, told.qsize()) == ("two", "three", 0)
