"""What indexing documents takes: `python3 dev.py bench-vision-index [--pages 500] [--scans 10]`.

A PDF of so many pages with a text layer, and one of so many scanned pages, each of a page's usual 40 lines, are
indexed one after the other through the real pool of processes into a store in a file. Printed are pages a second,
what the gateway's process and the reader's take at most, and how late a timer of 2 ms in the gateway's event loop was
meanwhile. The lines are words by Zipf's law. The load of the machine before and after is printed, as it says how far
the rest can be trusted. Making the documents counts as the gateway's memory, too.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from reportlab.lib.pagesizes import A4
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas

from benchmarks.facts_texts import Texts
from benchmarks.measurement import percentile
from benchmarks.report import render_table
from benchmarks.upstream import loop_factory
from gateway.core.facts.memory import Scope
from gateway.core.vision.document import JobStatus
from gateway.ports_vision import VisionFault
from gateway.shell.vision.index_run import IndexOptions
from gateway.shell.vision.indexing import IndexJobs
from gateway.shell.vision.reader_process import ReaderOptions
from gateway.shell.vision.readers import ChildReaders
from gateway.shell.vision.source import ReadLimits
from gateway.shell.vision.sqlite import SqliteDocumentStore

SCOPE = Scope(b"o" * 32, "bench")
PERIOD_S = 0.002
LINES, LETTERS = 40, 85
SCAN_PX = (1190, 1684)


@dataclass(slots=True)
class Watched:
    """What was seen while a document was indexed."""

    late_s: list[float] = field(default_factory=list)
    reader_kib: int = 0


class NoFetcher:
    """Every document is uploaded."""

    async def fetch(self, url: str) -> bytes:
        raise VisionFault("forbidden", url)


def text_pdf(lines: Callable[[], Sequence[str]], pages: int) -> bytes:
    """With a text layer."""
    written = BytesIO()
    canvas = Canvas(written, pagesize=A4)
    for _ in range(pages):
        canvas.setFont("Helvetica", 10)
        for number, line in enumerate(lines()):
            canvas.drawString(50, 790 - number * 18, line)
        canvas.showPage()
    canvas.save()
    return written.getvalue()


def scanned_pdf(lines: Callable[[], Sequence[str]], pages: int) -> bytes:
    """Of pictures."""
    written = BytesIO()
    canvas = Canvas(written, pagesize=A4)
    font = ImageFont.load_default(size=21)
    for _ in range(pages):
        picture = Image.new("L", SCAN_PX, 255)
        draw = ImageDraw.Draw(picture)
        for number, line in enumerate(lines()):
            draw.text((80, 80 + number * 38), line, fill=0, font=font)
        canvas.drawImage(ImageReader(picture), 0, 0, *A4)
        canvas.showPage()
    canvas.save()
    return written.getvalue()


def peak_kib(pid: int | str) -> int:
    """The most that a process held so far."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    return 0


async def watch(readers: ChildReaders, watched: Watched) -> None:
    """See how late a timer is, and now and then what readers take."""
    looked_at = 0.0
    while True:
        due = time.perf_counter() + PERIOD_S
        await asyncio.sleep(PERIOD_S)
        now = time.perf_counter()
        watched.late_s.append(now - due)
        if now - looked_at > 0.25:
            looked_at = now
            for pid in readers.pids:
                try:
                    watched.reader_kib = max(watched.reader_kib, peak_kib(pid))
                except OSError:
                    continue


async def index(jobs: IndexJobs, store: SqliteDocumentStore, data: bytes) -> float:
    """Seconds from the order to the document."""
    began = time.perf_counter()
    job = await jobs.submit(SCOPE, "bench.pdf", data, {}, is_forced=False)
    while (now := await store.job(SCOPE.owner, job.id)) is not None and now.ended_us is None:
        await asyncio.sleep(0.05)
    if now is None or now.status is not JobStatus.SUCCEEDED:
        raise SystemExit(f"not indexed: {now}")
    return time.perf_counter() - began


async def measure(documents: dict[str, tuple[bytes, int]]) -> list[list[str]]:
    """A row for each document."""
    rows = []
    for kind, (data, pages) in documents.items():
        with tempfile.TemporaryDirectory() as folder:
            store = SqliteDocumentStore(Path(folder) / "vision.db", max_bytes=1 << 30)
            readers = ChildReaders(ReaderOptions(ReadLimits(), page_s=600))
            jobs = IndexJobs(store, readers, NoFetcher(), lambda text: len(text.split()), IndexOptions())
            watched = Watched()
            watching = asyncio.create_task(watch(readers, watched))
            await jobs.start()
            seconds = await index(jobs, store, data)
            watching.cancel()
            await jobs.close()
            await readers.close()
            await store.close()
        late = [f"{percentile(watched.late_s, share) * 1000:.1f}" for share in (0.5, 0.99, 1.0)]
        rows.append(
            [
                kind,
                str(pages),
                f"{len(data) / 1e6:.1f}",
                f"{seconds:.1f}",
                f"{pages / seconds:.2f}",
                f"{peak_kib('self') / 1024:.0f}",
                f"{watched.reader_kib / 1024:.0f}",
                *late,
            ]
        )
    return rows


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=500, help="of the document with a text layer")
    parser.add_argument("--scans", type=int, default=10, help="pages of the one that is scanned")
    chosen = parser.parse_args()
    texts = Texts(7)

    def lines() -> list[str]:
        return [f"{texts.tell().memory.object}. {texts.tell().memory.object}"[:LETTERS] for _ in range(LINES)]

    documents = {
        "text layer": (text_pdf(lines, chosen.pages), chosen.pages),
        "scan": (scanned_pdf(lines, chosen.scans), chosen.scans),
    }
    load = os.getloadavg()[0]
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        rows = runner.run(measure(documents))
    heads = ["", "pages", "MB", "s", "pages/s", "| gateway MiB", "reader MiB", "| late p50 ms", "p99", "max"]
    loads = f"load {load:.1f} before, {os.getloadavg()[0]:.1f} after, on {os.cpu_count()} cores"
    print(render_table(f"indexing, one reader; {loads}", heads, rows))


if __name__ == "__main__":
    main()
