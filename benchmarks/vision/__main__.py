"""`python3 dev.py eval-vision`: how rightly, and how fast, documents are read.

Of documents that are made by code (`documents.py`), once as they are and once as scans and photos (`degrading.py`).
Each labelled region is decoded at each fidelity; each page is read, and its regions are held against the labels.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from benchmarks.vision.accuracy import Found, accuracy
from benchmarks.vision.degrading import KINDS, SLOPES, render_pages, to_png
from benchmarks.vision.documents import Labelled, MadeDocument, long_document, made
from gateway.core.vision.contents import Rect, box_of
from gateway.core.vision.document import Fidelity, LaidPage, PageSize, RegionType
from gateway.core.vision.fidelity import LOCAL_DPI
from gateway.core.vision.turning import slope
from gateway.shell.vision.source import ReadLimits, Source, open_source

_TYPES = (RegionType.TABLE, RegionType.CODE, RegionType.FIGURE)


@dataclass(frozen=True, slots=True)
class Page:
    """A page that is open, with what stands on it."""

    source: Source
    number: int
    labels: Sequence[Labelled]


def ladder_of(pages: Sequence[Page], fidelities: Sequence[Fidelity]) -> dict[Fidelity, tuple[float, float]]:
    """At each fidelity: the mean of accuracies by letters, and seconds a region."""
    results = {}
    for fidelity in fidelities:
        right = letters = 0.0
        started, regions = time.process_time(), 0
        for page in pages:
            for label in page.labels:
                if not label.text or label.type is RegionType.FIGURE:
                    continue
                read = page.source.decode(page.number, label.box, LOCAL_DPI[fidelity])
                right += accuracy(read.text, label.text) * len(label.text)
                letters += len(label.text)
                regions += 1
        results[fidelity] = (right / letters, (time.process_time() - started) / regions)
    return results


def whole_page(page: LaidPage) -> str:
    """All that a page says, in reading order."""
    return "\n".join(f"{region.text}\n{region.caption}" for region in page.regions)


def detection_of(pages: Sequence[Page]) -> tuple[dict[RegionType, Found], float, float]:
    """How well regions are found, how many letters of the labels are in the regions that hold them, seconds a page."""
    found = {type_: Found() for type_ in _TYPES}
    right = letters = 0.0
    seconds = 0.0
    for page in pages:
        started = time.process_time()
        laid = page.source.read(page.number)
        seconds += time.process_time() - started
        for type_, count in found.items():
            count.add(
                [label.box for label in page.labels if label.type is type_],
                [region.box for region in laid.regions if region.type is type_],
            )
        everything = whole_page(laid)
        truth = "\n".join(f"{label.text}\n{label.caption}" for label in page.labels)
        right += accuracy(everything, truth) * len(truth)
        letters += len(truth)
    return found, right / letters, seconds / len(pages)


def print_kind(kind: str, documents: Sequence[MadeDocument], fidelities: Sequence[Fidelity]) -> None:
    """Measure a kind of document, and say what came of it."""
    kept = [page for document in documents for page in _open_pages(kind, document)]
    ladder = ladder_of(kept, fidelities)
    found, share, seconds = detection_of(kept)
    rungs = "  ".join(f"{f.value} {100 * right:6.2f} % ({1000 * s:.0f} ms)" for f, (right, s) in ladder.items())
    print(f"{kind:9} regions: {rungs}", flush=True)
    types = "  ".join(
        f"{type_.value} {100 * one.precision:.0f}/{100 * one.recall:.0f} % of {one.labelled}"
        for type_, one in found.items()
    )
    print(f"{'':9} pages: {100 * share:.2f} % of letters in order, {seconds:.2f} s a page; found: {types}", flush=True)
    for page in kept:
        page.source.close()


def _open_pages(kind: str, document: MadeDocument) -> list[Page]:
    by_page = {n: [one for one in document.labels if one.page == n] for n in range(1, document.pages + 1)}
    if kind == "text":
        return [Page(open_source(document.data, ReadLimits()), number, labels) for number, labels in by_page.items()]
    opened = []
    for number, image in enumerate(render_pages(document.data), 1):
        size = PageSize(width=image.width, height=image.height)
        labels = [sloped(label, size, SLOPES[kind]) for label in by_page[number]]
        opened.append(Page(open_source(to_png(KINDS[kind](image)), ReadLimits()), 1, labels))
    return opened


def sloped(label: Labelled, size: PageSize, degrees: float) -> Labelled:
    """A label on a page that was turned about its middle."""
    box = label.box
    place = slope(Rect(box.x, box.y, box.x + box.w, box.y + box.h), size, degrees)
    return replace(label, box=box_of(place, size))


def print_speed(pages: int) -> None:
    """Read a long document with a text layer."""
    source = open_source(long_document(pages), ReadLimits())
    started = time.process_time()
    regions = sum(len(source.read(number).regions) for number in range(1, pages + 1))
    seconds = time.process_time() - started
    print(f"a text layer of {pages} pages: {pages / seconds:.0f} pages a second of one core, {regions} regions")
    source.close()


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kinds", default="text,clean,degraded,photo", help="which documents")
    parser.add_argument("--documents", default="", help="names of made documents; all by default")
    parser.add_argument("--fidelities", default="20x,10x,5x,1x")
    parser.add_argument("--pages", type=int, default=500, help="of the long document")
    chosen = parser.parse_args()
    names = [name for name in chosen.documents.split(",") if name]
    documents = [document for document in made() if not names or document.name in names]
    for kind in filter(None, chosen.kinds.split(",")):
        print_kind(kind, documents, [Fidelity(value) for value in chosen.fidelities.split(",")])
    if chosen.pages:
        print_speed(chosen.pages)


if __name__ == "__main__":
    main()
