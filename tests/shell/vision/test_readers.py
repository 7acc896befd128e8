"""Processes that read documents: what they are asked, and whatever a document does to them."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.vision.document import Box, LaidPage, LaidRegion, PageSize, Reading, RegionType
from gateway.ports_vision import Inspected, VisionFault
from gateway.shell.vision import reader_wire as wire
from gateway.shell.vision.reader_process import ReaderDied, ReaderProcess
from gateway.shell.vision.readers import ChildReaders, ReaderRules

ODD = ("-m", "tests.shell.vision.odd_reader")
MEMORY = 600 << 20
LIMITS = wire.Limits(1000, 10**7, False, MEMORY)
BOX = Box(1, 2, 3, 4)


def readers_of(processes: int = 1, page_s: float = 60.0, idle_s: float = 60.0) -> ChildReaders:
    return ChildReaders(ReaderRules(LIMITS, processes, page_s, idle_s, ODD))


@pytest.fixture
async def readers() -> AsyncIterator[ChildReaders]:
    made = readers_of()
    yield made
    await made.close()


async def texts(readers: ChildReaders, data: bytes, first: int = 1) -> list[str]:
    """What stands on its pages."""
    async with aclosing(readers.pages(data, first)) as pages:
        return [page.regions[0].text async for page in pages]


def is_running(pid: int) -> bool:
    """Whether a process is there and no corpse."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def gone(pid: int) -> bool:
    """Whether a process goes within a moment."""
    for _ in range(500):
        if not is_running(pid):
            return True
        await asyncio.sleep(0.01)
    return False


async def test_a_document_is_read(readers: ChildReaders) -> None:
    """All calls; the bytes are sent once to a process, however often it is asked."""
    data = b"one\ntwo\nthree"
    inspected = await readers.inspect(data)
    pages = await texts(readers, data)
    later = await texts(readers, data, first=3)
    png = await readers.render(data, 2, BOX, 640)
    reading = await readers.decode(data, 2, BOX, 72)

    assert inspected == Inspected("text/plain", 3)
    assert (pages, later) == (["one", "two", "three"], ["three"])
    assert png == b"\x89PNG640"
    assert reading == Reading("two at 72", 0.5)
    assert readers.tally == {"started": 2}
    assert len(readers.pids) == 2


async def test_many_documents_take_turns(readers: ChildReaders) -> None:
    """A process lets go of what it was sent; it is sent again."""
    documents = [f"document {number}\nits end".encode() for number in range(9)]
    told = await asyncio.gather(*(texts(readers, data) for data in documents * 2))

    assert told == [[f"document {number}", "its end"] for number in range(9)] * 2
    assert readers.tally == {"started": 1}


async def test_a_large_document_is_sent(readers: ChildReaders) -> None:
    """Of more bytes than a pipe holds."""
    data = b"begin\n" + b"x" * (8 << 20)

    assert (await readers.decode(data, 1, BOX, 100)).text == "begin at 100"


@pytest.mark.parametrize(
    ("command", "how"),
    [
        ("crash", "ended by SIGSEGV"),
        ("garbage", "it said what cannot be understood"),
        ("half", "it exited with 0"),
        ("exit", "it exited with 3"),
    ],
)
async def test_a_page_that_ends_its_process_is_refused(readers: ChildReaders, command: str, how: str) -> None:
    """After a second try; the next document is read as if nothing had been."""
    with pytest.raises(VisionFault, match="Page 2 could not be read: the process that read it failed twice") as raised:
        await texts(readers, f"fine\n{command}\nfine".encode())
    after = await texts(readers, b"another")

    assert raised.value.kind == "unreadable"
    assert how in raised.value.message
    assert after == ["another"]
    assert readers.tally["died"] == 2


async def test_a_process_that_dies_once_costs_a_second_try(readers: ChildReaders, tmp_path: Path) -> None:
    """The page is read by the next."""
    told = await texts(readers, f"fine\nonce {tmp_path}/was-here".encode())

    assert told == ["fine", f"once {tmp_path}/was-here"]
    assert readers.tally["died"] == 1


async def test_a_page_that_needs_too_much_memory_is_refused(readers: ChildReaders) -> None:
    """By the process itself, which then makes room for another."""
    with pytest.raises(VisionFault, match=f"Page 1 needs more than {MEMORY} bytes") as raised:
        await texts(readers, b"grow")

    assert raised.value.kind == "unreadable"
    assert await texts(readers, b"another") == ["another"]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("broken", "This page is broken: 7 of 9 bytes."),
        ("bug", "The document could not be read: ZeroDivisionError."),
        ("write", "The document could not be read: OSError."),
    ],
)
async def test_a_refusal_is_told(readers: ChildReaders, command: str, message: str) -> None:
    """In the reader's own words; a library's error by its name only. The process goes on."""
    with pytest.raises(VisionFault) as raised:
        await readers.render(command.encode(), 1, None, 100)

    assert (raised.value.kind, raised.value.message) == ("unreadable", message)
    assert readers.tally == {"started": 1}


async def test_what_libraries_print_spoils_nothing(readers: ChildReaders) -> None:
    """The pipe is for answers alone."""
    assert await texts(readers, b"print\nprint\nfine") == ["print", "print", "fine"]


async def test_no_secret_reaches_the_process(readers: ChildReaders, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets what Python needs to run."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with pytest.raises(VisionFault) as raised:
        await texts(readers, b"environment")

    assert "OPENAI_API_KEY" not in raised.value.message
    assert "OMP_NUM_THREADS" in raised.value.message


async def test_a_page_that_takes_too_long_is_given_up() -> None:
    """Its process is gone, and the next document is read by another."""
    readers = readers_of(page_s=4.0)
    await readers.inspect(b"hang")
    (pid,) = readers.pids
    with pytest.raises(VisionFault, match=r"Page 1 took more than 4 seconds") as raised:
        await texts(readers, b"hang")
    is_gone = await gone(pid)
    await readers.close()

    assert raised.value.kind == "timeout"
    assert is_gone


async def test_a_caller_that_leaves_leaves_nothing_behind(readers: ChildReaders) -> None:
    """The process that it waited for is ended; others are served."""
    hanging = asyncio.create_task(texts(readers, b"hang"))
    while not readers.pids:
        await asyncio.sleep(0.01)
    (pid,) = readers.pids
    hanging.cancel()
    await asyncio.wait([hanging])

    assert await gone(pid)
    assert await texts(readers, b"another") == ["another"]


async def test_who_decodes_does_not_wait_for_who_indexes(readers: ChildReaders) -> None:
    """There is a process for each."""
    hanging = asyncio.create_task(texts(readers, b"hang"))
    reading = await readers.decode(b"a region", 1, BOX, 100)
    is_hanging = not hanging.done()
    hanging.cancel()
    await asyncio.wait([hanging])

    assert reading.text == "a region at 100"
    assert is_hanging


async def test_documents_are_read_side_by_side() -> None:
    """By as many processes as there may be, and no more."""
    readers = readers_of(processes=2)
    hanging = [asyncio.create_task(texts(readers, b"hang\n%d" % number)) for number in range(2)]
    while len(readers.pids) < 2:
        await asyncio.sleep(0.01)
    third = asyncio.create_task(texts(readers, b"another"))
    await asyncio.sleep(0.1)
    waits = not third.done()
    pids = readers.pids
    hanging[0].cancel()
    told = await third
    hanging[1].cancel()
    await asyncio.wait(hanging)
    await readers.close()

    assert waits
    assert told == ["another"]
    assert len(pids) == 2
    assert readers.tally["started"] == 3


async def test_an_idle_process_ends() -> None:
    """After a while; the next call starts another."""
    readers = readers_of(idle_s=0.05)
    await readers.inspect(b"one")
    (pid,) = readers.pids
    is_gone = await gone(pid)
    again = await readers.inspect(b"two")
    await readers.close()

    assert is_gone
    assert again.pages == 1
    assert readers.tally == {"started": 2}


async def test_closing_ends_all() -> None:
    """Those that work, too."""
    readers = readers_of(processes=2)
    hanging = asyncio.create_task(texts(readers, b"hang"))
    await readers.decode(b"idle", 1, BOX, 9)
    while len(readers.pids) < 2:
        await asyncio.sleep(0.01)
    pids = readers.pids
    hanging.cancel()
    await readers.close()
    await asyncio.wait([hanging])

    assert all([await gone(pid) for pid in pids])


async def test_a_process_ends_with_its_parent(tmp_path: Path) -> None:
    """However that ended."""
    script = (
        "import asyncio, sys\n"
        "from tests.shell.vision.test_readers import readers_of\n"
        "async def main():\n"
        "    readers = readers_of()\n"
        "    await readers.inspect(b'one')\n"
        "    print(*readers.pids, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    pipe = asyncio.subprocess.PIPE
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=pipe)
    assert parent.stdout is not None
    pid = int(await parent.stdout.readline())
    was_running = is_running(pid)
    parent.send_signal(signal.SIGKILL)
    await parent.wait()

    assert was_running
    assert await gone(pid)


async def test_what_cannot_be_started_is_told() -> None:
    """As any other that does not live."""
    reader = await ReaderProcess.start(LIMITS, ("-c", "raise SystemExit(4)"))
    with pytest.raises(ReaderDied, match="it exited with 4"):
        await reader.ask(wire.Inspect(b"0" * 32), b"one")

    assert not reader.is_alive


boxes = st.builds(Box, *[st.integers(0, 10**6)] * 4)
asked_of = st.one_of(
    st.builds(wire.Take, st.binary(), st.binary()),
    st.builds(wire.Inspect, st.binary()),
    st.builds(wire.ReadPage, st.binary(), st.integers(1, 10**5)),
    st.builds(wire.Render, st.binary(), st.integers(1, 10**5), st.none() | boxes, st.integers(1, 10**4)),
    st.builds(wire.Decode, st.binary(), st.integers(1, 10**5), boxes, st.integers(1, 600)),
)
texts_of = st.text(st.characters(codec="utf-8"))
regions = st.builds(LaidRegion, boxes, st.sampled_from(RegionType), texts_of, texts_of, st.booleans(), st.floats(0, 1))
told_of = st.one_of(
    st.builds(wire.IsInspected, st.builds(Inspected, texts_of, st.integers(0, 10**5))),
    st.builds(wire.IsRead, st.builds(LaidPage, st.builds(PageSize, *[st.integers(1, 10**6)] * 2), st.lists(regions))),
    st.builds(wire.IsRendered, st.binary()),
    st.builds(wire.IsDecoded, st.builds(Reading, texts_of, st.none() | st.floats(0, 1))),
    st.builds(wire.Refused, texts_of, texts_of),
)


@given(asked_of)
def test_what_is_asked_is_understood(asked: wire.Asked) -> None:
    """Whatever it is."""
    frame = wire.render_frame(asked)

    assert int.from_bytes(frame[: wire.LENGTH_BYTES]) == len(frame) - wire.LENGTH_BYTES
    assert wire.read_asked(frame[wire.LENGTH_BYTES :]) == asked


@given(told_of)
def test_what_is_told_is_understood(told: wire.Told) -> None:
    """Whatever it is."""
    assert wire.read_told(wire.render_frame(told)[wire.LENGTH_BYTES :]) == told


@given(st.binary(max_size=60))
def test_garbage_is_not(data: bytes) -> None:
    """It is refused as such, or was none."""
    try:
        told = wire.read_told(data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return

    assert isinstance(told, wire.Told)
