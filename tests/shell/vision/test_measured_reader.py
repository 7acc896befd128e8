"""Pages are counted by where their text came from, and nothing else is changed."""

from __future__ import annotations

import pytest

from gateway.core.vision.document import Box, LaidPage, LaidRegion, PageSize, RegionType
from gateway.shell.vision.measured_reader import MeasuredReader, source_of
from tests.fakes.documents import LinesReader
from tests.shell.vision.decodings import DATA


async def test_pages_are_told_of() -> None:
    told: list[tuple[str, float]] = []
    seconds = iter(range(100))
    reader = MeasuredReader(LinesReader(), lambda source, took_s: told.append((source, took_s)), lambda: next(seconds))
    pages = [page async for page in reader.pages(DATA + b"\f", 1)]

    assert pages == [page async for page in LinesReader().pages(DATA + b"\f", 1)]
    assert told == [("document", 1), ("none", 1)]
    assert (await reader.inspect(DATA)).pages == 1
    assert (await reader.decode(DATA, 1, Box(100, 100, 1, 1), 72)).text == "Invoice 2024-00917 at 72"
    assert (await reader.render(DATA, 1, None, 9)).startswith(b"\x89PNG")
    await reader.close()


@pytest.mark.parametrize(
    ("layers", "text", "source"),
    [([], "x", "none"), ([True], "", "none"), ([True, True], "x", "document"), ([True, False], "x", "picture")],
)
def test_where_a_pages_text_came_from(layers: list[bool], text: str, source: str) -> None:
    box = Box(0, 0, 1, 1)
    regions = [LaidRegion(box, RegionType.TEXT, text, has_text_layer=layer) for layer in layers]

    assert source_of(LaidPage(PageSize(9, 9), regions)) == source
