"""Documents are read by processes, whatever they do to them."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from gateway.core.vision.document import Box
from gateway.ports_vision import Inspected, VisionFault
from gateway.shell.vision.reader_process import ReaderOptions
from gateway.shell.vision.readers import ChildReaders
from gateway.shell.vision.source import ReadLimits
from tests.shell.vision.bad_reader import PNG, SECRET, document

BOX = Box(0, 0, 7, 8)
Make = Callable[..., ChildReaders]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    made: list[ChildReaders] = []

    def make_readers(**options: Any) -> ChildReaders:
        told: dict[str, Any] = {"limits": ReadLimits(), "module": "tests.shell.vision.bad_reader"}
        made.append(ChildReaders(ReaderOptions(**(told | options))))
        return made[-1]

    yield make_readers
    for readers in made:
        await readers.close()


@pytest.fixture
def readers(make: Make) -> ChildReaders:
    return make()


def is_running(pid: int) -> bool:
    """Whether a process works still; one that waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def ended(pid: int) -> None:
    """Wait until a process has ended."""
    while is_running(pid):
        await asyncio.sleep(0.01)


async def texts(readers: ChildReaders, data: bytes, first: int = 1) -> list[str]:
    """The pages of a document: `page 1`, without who read it."""
    return [page.regions[0].text.partition(" by ")[0] async for page in readers.pages(data, first)]


async def test_a_document_is_inspected_read_rendered_and_decoded(readers: ChildReaders) -> None:
    """Each call answers what the document says."""
    data = document(3)
    inspected = await readers.inspect(data)
    read = await texts(readers, data, first=2)
    picture = await readers.render(data, 2, None, 640)
    reading = await readers.decode(data, 3, BOX, 144)

    assert inspected == Inspected("application/x-made", 3)
    assert read == ["page 2", "page 3"]
    assert picture.startswith(PNG + b"2 640 ")
    assert reading.text.startswith("3 7 144 ")
    assert reading.confidence == 0.5


async def test_one_process_reads_all_of_a_document_and_another_what_chats_ask(readers: ChildReaders) -> None:
    """Processes are started once, and kept."""
    data = document(4)
    pages = [page.regions[0].text.split()[-1] async for page in readers.pages(data, 1)]
    decoded = [(await readers.decode(data, 1, BOX, 72)).text.split()[-1] for _ in range(2)]

    assert len(set(pages)) == 1
    assert len(set(decoded)) == 1
    assert readers.started == 2


DEATHS = {
    "crash": ("crashed", "crashed (signal 11), twice"),
    "killed": ("killed", "for want of memory, twice"),
    "memory": ("memory", "needed more memory than it may take, twice"),
    "nonsense": ("garbage", "gave an answer that makes no sense, twice"),
    "shape": ("garbage", "gave an answer that makes no sense, twice"),
    "half": ("broken", "met a fault (exit code 0), twice"),
    "fail": ("broken", "met a fault (exit code 70), twice"),
}


@pytest.mark.parametrize(("act", "kind", "said"), [(act, *expected) for act, expected in DEATHS.items()])
async def test_what_kills_its_process_twice_is_unreadable(make: Make, act: str, kind: str, said: str) -> None:
    """The page is tried once more, then refused with a plain reason; the next document is read."""
    readers = make(memory_bytes=1 << 28)
    with pytest.raises(VisionFault) as caught:
        await texts(readers, document(3, p2=act))
    others = await texts(readers, document(2))

    assert caught.value.kind == "unreadable"
    assert caught.value.message.startswith("Page 2 cannot be read: the process that reads it ")
    assert caught.value.message.removesuffix(".").endswith(said)
    assert readers.deaths == {kind: 2}
    assert others == ["page 1", "page 2"]


@pytest.mark.parametrize("act", DEATHS)
async def test_what_kills_its_process_once_is_read_all_the_same(make: Make, tmp_path: Path, act: str) -> None:
    """A new process goes on with the page that the old one died at."""
    readers = make(memory_bytes=1 << 28)
    read = await texts(readers, document(3, tmp_path / "flag", p2=act))

    assert read == ["page 1", "page 2", "page 3"]
    assert readers.deaths.total() == 1


async def test_a_process_killed_from_outside_is_replaced(readers: ChildReaders) -> None:
    """`kill -9` in the middle of a document costs no page."""
    read = []
    async for page in readers.pages(document(5), 1):
        read.append(page.regions[0].text.partition(" by ")[0])
        if len(read) == 2:
            os.kill(readers.pids[0], signal.SIGKILL)

    assert read == [f"page {number}" for number in range(1, 6)]
    assert readers.started == 2


async def test_a_page_that_takes_too_long_is_given_up(make: Make) -> None:
    """Its process is killed, and the next document is read."""
    readers = make(page_s=2.0)
    with pytest.raises(VisionFault) as caught:
        await texts(readers, document(2, p2="hang"))
    others = await texts(readers, document(1))

    assert (caught.value.kind, caught.value.message) == ("timeout", "Page 2 took longer than 2 s to read.")
    assert readers.deaths == {"timeout": 1}
    assert others == ["page 1"]


@pytest.mark.parametrize("where", ["p1", "open"])
async def test_what_the_document_is_refused_for_is_told(readers: ChildReaders, where: str) -> None:
    """The process says why, and lives on."""
    with pytest.raises(VisionFault) as caught:
        await texts(readers, document(2, **{where: "refuse"}))
    await texts(readers, document(1))

    assert (caught.value.kind, caught.value.message) == ("unreadable", "The page is broken: it has 0 letters.")
    assert readers.started == 1


async def test_a_missing_library_is_told(readers: ChildReaders) -> None:
    """Without the extra nothing is read, and that is said."""
    with pytest.raises(VisionFault) as caught:
        await readers.inspect(document(1, open="miss"))

    assert caught.value.kind == "disabled"
    assert "pypdfium2 is missing (extra vision)" in caught.value.message


async def test_a_document_that_is_too_large_is_sent_to_nobody(make: Make) -> None:
    """Its size is looked at before any process is."""
    readers = make(max_document_bytes=10)
    with pytest.raises(VisionFault, match="has 12 bytes; the limit is 10"):
        await readers.inspect(document(1))

    assert readers.started == 0


async def test_halves_of_characters_are_no_fault(readers: ChildReaders) -> None:
    """Some PDFs hold them; the rest of the text is told."""
    data = document(1, text="half \ud800 a letter")
    read = await texts(readers, data)
    reading = await readers.decode(data, 1, BOX, 72)

    assert read == ["half ? a letter"]
    assert reading.text == "half ? a letter"
    assert not readers.deaths


async def test_what_libraries_print_does_no_harm(readers: ChildReaders) -> None:
    """Neither pipe fills up, and no answer is mixed with it."""
    assert await texts(readers, document(2, p1="print")) == ["page 1", "page 2"]


async def test_no_text_of_a_document_is_logged(readers: ChildReaders, caplog: pytest.LogCaptureFixture) -> None:
    """Only where in the code a process failed is."""
    caplog.set_level(logging.DEBUG)
    with pytest.raises(VisionFault):
        await texts(readers, document(1, p1="fail"))
    said = [str(vars(record)) for record in caplog.records]

    assert any("bad_reader.py" in line and "_fail" in line for line in said)
    assert not any(SECRET in line for line in said)


async def test_a_process_has_no_secrets_and_a_session_of_its_own(
    readers: ChildReaders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the environment it gets what its code is found by, and threads of libraries are one."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with pytest.raises(VisionFault) as caught:
        await readers.inspect(document(1, open="look"))
    names, _, state = caught.value.message.partition(" | ")

    known = {"PATH", "PYTHONPATH", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PYTHONDONTWRITEBYTECODE", "LC_CTYPE"}
    assert set(names.split()) <= known
    assert state == f"{os.nice(0) + 5} True /"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says whom it ends first")
async def test_a_process_is_the_first_to_go(readers: ChildReaders) -> None:
    """Where a machine or a container has no memory left: it, and not who started it."""
    await readers.inspect(document(1))
    (pid,) = readers.pids
    own = int(Path("/proc/self/oom_score_adj").read_text())

    assert int(Path(f"/proc/{pid}/oom_score_adj").read_text()) == 1000 > own


async def test_a_process_writes_no_files(readers: ChildReaders) -> None:
    """A byte in a file is a fault."""
    with pytest.raises(VisionFault, match="met a fault"):
        await readers.inspect(document(1, open="write"))


async def test_a_cancelled_call_leaves_no_process_behind(readers: ChildReaders) -> None:
    """What it was doing is ended, and the next call is answered."""
    data = document(2, p1="hang")
    asked = asyncio.create_task(readers.decode(data, 1, BOX, 72))
    while not readers.pids:
        await asyncio.sleep(0.01)
    (pid,) = readers.pids
    asked.cancel()
    await asyncio.wait({asked})
    await ended(pid)
    reading = await readers.decode(data, 2, BOX, 72)

    assert asked.cancelled()
    assert reading.text.startswith("2 ")


async def test_a_chat_does_not_wait_for_what_is_indexed(make: Make) -> None:
    """A page that hangs takes the process of its own pool only."""
    readers = make(page_s=60)
    indexing = asyncio.create_task(texts(readers, document(1, p1="hang")))
    while not readers.pids:
        await asyncio.sleep(0.01)
    reading = await readers.decode(document(1), 1, BOX, 72)
    indexing.cancel()
    await asyncio.wait({indexing})

    assert reading.text.startswith("1 ")


async def test_documents_are_read_side_by_side(make: Make) -> None:
    """By as many processes as there are workers, and no more."""
    readers = make(workers=2)
    read = await asyncio.gather(*(texts(readers, document(count)) for count in (3, 4, 5, 6)))

    assert [len(pages) for pages in read] == [3, 4, 5, 6]
    assert readers.started == 2


async def test_a_reader_that_is_left_in_the_middle_holds_nothing_up(readers: ChildReaders) -> None:
    """Between two pages a document takes no process."""
    async with aclosing(readers.pages(document(5), 1)) as pages:
        await anext(pages)
        others = await texts(readers, document(2))

    assert others == ["page 1", "page 2"]


async def test_a_process_without_work_ends(make: Make) -> None:
    """After its time, and another is started when there is work again."""
    readers = make(idle_s=0.05)
    await texts(readers, document(1))
    (pid,) = readers.pids
    await ended(pid)
    await texts(readers, document(1))

    assert readers.started == 2


async def test_closing_ends_every_process_whatever_it_does(make: Make) -> None:
    """Callers are told; nothing is started after."""
    readers = make()
    await texts(readers, document(1))
    hanging = asyncio.create_task(readers.decode(document(1, p1="hang"), 1, BOX, 72))
    while len(readers.pids) < 2:
        await asyncio.sleep(0.01)
    pids = readers.pids
    await readers.close()
    with pytest.raises(VisionFault) as caught:
        await hanging
    with pytest.raises(VisionFault) as after:
        await readers.inspect(document(1))

    assert not any(is_running(pid) for pid in pids)
    assert caught.value.kind == after.value.kind == "disabled"


async def test_a_large_document_is_sent_while_others_go_on(make: Make) -> None:
    """Thirty megabytes are sent in pieces; others are answered in between."""
    readers = make()
    data = document(1)
    data += b" " * (30_000_000)
    other = asyncio.create_task(readers.decode(document(1), 1, BOX, 72))
    read = await texts(readers, data)

    assert read == ["page 1"]
    assert (await other).text.startswith("1 ")


async def test_only_the_last_few_documents_are_held(make: Make) -> None:
    """What was let go is sent again, and read as before."""
    readers = make()
    many = [document(count) + b" " * 25_000_000 for count in (1, 2, 3, 4)]
    read = [len(await texts(readers, data)) for data in [*many, *many]]

    assert read == [1, 2, 3, 4] * 2
    assert readers.started == 1


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
async def test_no_process_outlives_its_gateway() -> None:
    """After `kill -9` of the parent a child in the middle of a page ends."""
    arguments = (sys.executable, "-m", "tests.shell.vision.reader_parent")
    parent = await asyncio.create_subprocess_exec(*arguments, stdout=asyncio.subprocess.PIPE)
    assert parent.stdout is not None
    pid = int(await parent.stdout.readline())
    was_running = is_running(pid)
    parent.kill()
    await parent.wait()
    await ended(pid)

    assert was_running
