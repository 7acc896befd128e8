"""Whatever an upstream does, the caller has a complete answer or the library's own error, and never waits for ever."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from benchmarks.faults import NAMES, Row, measure_all, running_bench

pytestmark = pytest.mark.asyncio(loop_scope="session")

KNOWN_GAPS: set[tuple[str, bool]] = set()
"""Passed on as it came, which the client library answers by an error about JSON."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def rows() -> AsyncIterator[list[Row]]:
    async with running_bench() as bench:
        yield await measure_all(bench)


@pytest.mark.parametrize("is_alone", [True, False], ids=["alone", "two"])
@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("fault", NAMES)
async def test_caller_is_told_the_truth(fault: str, is_stream: bool, is_alone: bool, rows: list[Row]) -> None:
    (row,) = [one for one in rows if (one.fault, one.is_stream, one.is_alone) == (fault, is_stream, is_alone)]
    if (fault, is_stream) in KNOWN_GAPS:
        assert not row.is_good, "closed: take it out of KNOWN_GAPS"
        pytest.xfail("known gap")

    assert row.is_good, row.render()
