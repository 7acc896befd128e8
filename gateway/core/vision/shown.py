"""What documents give to a chat: the regions found for its latest user message, as what recall ranks beside messages.

A region is shown as it was read when its document was indexed; of a long one the passages that matter, as far as there
is room. How much of it that is, is told as a fidelity: as many text tokens stand for one that is shown.

Invariants, each with a test of its own:
  1. Same regions, same reminders, whatever the order in which they were found; none says the same as another.
  2. A region that is shown whole has fidelity 1x, and less of it never has a finer one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import count

from gateway.core.context.recall_index import is_heading
from gateway.core.facts.reminders import Place, Reminder, about_tokens
from gateway.core.vision.document import Fidelity, FoundRegion, Region

_MAX_NAME_CHARS = 60
_NEARLY = 0.97
"""Of a region's characters: white space around passages is not shown."""


def reminders_of_regions(found: Iterable[FoundRegion], names: Mapping[str, str], after: int) -> list[Reminder]:
    """What was found, document by document and in the order of pages.

    Args:
        found: in any order.
        names: of documents, by id.
        after: so many reminders follow these.
    """
    told: set[str] = set()
    chosen: list[FoundRegion] = []
    for each in sorted(found, key=_order_of):
        says = said_in(each.region)
        if says and says not in told:
            told.add(says)
            chosen.append(each)
    numbers = count(-after - len(chosen))
    return [
        _reminder(number, at, each, names.get(each.region.doc_id, ""))
        for at, (number, each) in enumerate(zip(numbers, chosen, strict=False), 1)
    ]


def said_in(region: Region) -> str:
    """What a reader is shown of a region: its caption, and below it what stands there."""
    laid = region.laid
    return "\n".join(part for part in (laid.caption.strip(), laid.text.strip()) if part)


def name_of_source(source: str) -> str:
    """How a document is named to a reader: the last part of its URL or file name, in one line."""
    name = source.partition("?")[0].partition("#")[0].rstrip("/").rpartition("/")[2] or source
    return " ".join(name.replace("[", "(").replace("]", ")").split())[:_MAX_NAME_CHARS]


def fidelity_shown(shown_chars: int, whole_chars: int) -> Fidelity:
    """The finest fidelity that so much of a text amounts to."""
    share = shown_chars / whole_chars if whole_chars else 1.0
    if share >= _NEARLY:
        return Fidelity.EXACT
    finest = (fidelity for fidelity in (Fidelity.FINE, Fidelity.DEFAULT) if share * fidelity.ratio >= 1)
    return next(finest, Fidelity.SKIM)


def _order_of(found: FoundRegion) -> tuple[str, int, int, int, str]:
    region = found.region
    return (region.doc_id, region.page, region.laid.box.y, region.laid.box.x, region.id)


def _reminder(number: int, at: int, found: FoundRegion, source: str) -> Reminder:
    region = found.region
    place = f"page {region.page}"
    named = f"{name}, {place}" if (name := name_of_source(source)) else f"document, {place}"
    heading = named if is_heading(named) else f"document, {place}"
    text = f"[{heading}]\n{said_in(region)}"
    return Reminder(
        number=number,
        id=region.id,
        role=region.laid.type.value,
        name="",
        text=text,
        tokens=about_tokens(text),
        label=f"d{at}",
        similarity=found.similarity,
        heading=heading,
        confidence=region.laid.confidence,
        place=Place(region.doc_id, region.page),
    )
