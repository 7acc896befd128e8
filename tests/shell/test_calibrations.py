"""Calibrations between memory and the store: bounded, written in batches, taken up again, never fatal."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator

import pytest

from gateway.core.tokens.calibration import EXACT, Prior
from gateway.core.wire.usage import Usage
from gateway.shell.state.calibrations import SPACE, StoredCalibrations
from gateway.shell.state.key_value import MemoryStateStore
from gateway.shell.telemetry.figures import calibration_metrics
from gateway.shell.telemetry.metrics import MAX_MODELS


def store_of() -> MemoryStateStore:
    return MemoryStateStore(10**7)


def calibrations_of(store: MemoryStateStore, max_keys: int = 500, prior: Prior = EXACT) -> StoredCalibrations:
    return StoredCalibrations(store, lambda _: prior, max_keys)


def teach(calibrations: StoredCalibrations, model: str, ratio: float = 1.5, times: int = 20) -> None:
    """So many answers of an upstream that bills this many times our count."""
    for place in range(times):
        raw = 100 + 300 * place
        calibrations.learn("up", model, raw, False, Usage(round(raw * ratio), 1))


async def keys_of(store: MemoryStateStore) -> list[bytes]:
    return [key async for key, _ in store.scan(SPACE)]


def test_upstreams_and_models_are_apart() -> None:
    """What one teaches, no other believes; the unknown have their prior."""
    calibrations = calibrations_of(store_of(), prior=Prior(1.2, 0, 0))
    teach(calibrations, "m")

    assert calibrations.correction_of("up", "m").estimate(1000, False) == pytest.approx(1500, rel=0.01)
    assert calibrations.correction_of("up", "n").estimate(1000, False) == 1200
    assert calibrations.correction_of("other", "m").estimate(1000, False) == 1200


async def test_a_restart_goes_on_where_the_last_write_stood() -> None:
    """The same correction, and the next answers move it no further than they would have."""
    store = store_of()
    first = calibrations_of(store)
    teach(first, "m")
    await first.flush()
    second = calibrations_of(store)
    await second.load()
    teach(first, "m", 1.4)
    teach(second, "m", 1.4)

    assert second.correction_of("up", "m") == first.correction_of("up", "m")
    assert [found for *_, found in second.corrections()] == [second.correction_of("up", "m")]


async def test_only_what_changed_is_written() -> None:
    store = store_of()
    calibrations = calibrations_of(store)
    teach(calibrations, "a")
    await calibrations.flush()
    await store.delete_prefix(SPACE, b"")
    teach(calibrations, "b")
    await calibrations.flush()

    assert await keys_of(store) == [b'["up","b"]']


async def test_the_number_of_models_is_bounded() -> None:
    """The one that learned least recently goes, from the store too; what is stored beyond the bound is dropped."""
    store = store_of()
    calibrations = calibrations_of(store, max_keys=3)
    for model in "abc":
        teach(calibrations, model)
    await calibrations.flush()
    teach(calibrations, "a")
    teach(calibrations, "d")
    await calibrations.flush()
    smaller = calibrations_of(store, max_keys=2)
    await smaller.load()

    assert [model for _, model, _ in calibrations.corrections()] == ["d", "a", "c"]
    assert len(list(smaller.corrections())) == 2
    assert len(await keys_of(store)) == 2


FOREIGN = {
    "no key": (b"what", None),
    "a key of another shape": (b'["up"]', None),
    "no value": (b'["up","m"]', b""),
    "a value of another version": (b'["up","m"]', b"[9,[],[1,0,0],{},0,0]"),
}


@pytest.mark.parametrize(("key", "value"), FOREIGN.values(), ids=FOREIGN)
async def test_foreign_entries_are_dropped_and_counted(key: bytes, value: bytes | None) -> None:
    store = store_of()
    good = calibrations_of(store)
    teach(good, "good")
    await good.flush()
    stored = await store.get(SPACE, b'["up","good"]')
    assert stored is not None
    await store.put(SPACE, key, stored if value is None else value)
    calibrations = calibrations_of(store)
    await calibrations.load()

    assert [model for _, model, _ in calibrations.corrections()] == ["good"]
    assert calibrations.ignored == {"unreadable": 1}
    assert await keys_of(store) == [b'["up","good"]']


class DeadStore(MemoryStateStore):
    """A store that is down: it finds nothing and keeps nothing."""

    async def put(self, space: str, key: bytes, value: bytes, ttl_s: float | None = None) -> None:
        self.faults["down"] += 1

    async def scan(self, space: str, prefix: bytes = b"") -> AsyncGenerator[tuple[bytes, bytes], None]:
        for nothing in ():
            yield nothing


async def test_without_a_store_learning_goes_on() -> None:
    store = DeadStore(1000)
    calibrations = calibrations_of(store)
    await calibrations.load()
    teach(calibrations, "m")
    await calibrations.flush()

    assert calibrations.correction_of("up", "m").estimate(1000, False) == pytest.approx(1500, rel=0.01)
    assert store.faults == {"down": 1}


def test_a_changed_correction_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """With its numbers; reports that are ignored are counted by reason and not logged."""
    caplog.set_level(logging.INFO)
    calibrations = calibrations_of(store_of())
    teach(calibrations, "m", times=4)
    calibrations.learn("up", "m", 100, False, Usage(0, 1))
    calibrations.learn("up", "m", 100, False, Usage(10**9, 1))
    (record,) = caplog.records

    assert (record.upstream, record.model, record.answers) == ("up", "m", 4)  # type: ignore[attr-defined]
    assert record.ratio == pytest.approx(1.5, abs=0.02)  # type: ignore[attr-defined]
    assert calibrations.ignored == {"empty": 1, "absurd": 1}
    assert calibrations.learned == 4


def test_metrics_show_a_bounded_number_of_models() -> None:
    """Those that learned last; what was ignored stands beside what was learned."""
    calibrations = calibrations_of(store_of())
    for number in range(MAX_MODELS + 30):
        teach(calibrations, f"m{number}", times=1)
    calibrations.learn("up", "m", 100, False, Usage(0, 1))
    ratio, margin, samples = calibration_metrics(calibrations)

    assert len(ratio.samples) == len(margin.samples) == MAX_MODELS
    assert ratio.samples[0].labels == {"upstream": "up", "model": f"m{MAX_MODELS + 29}"}
    assert {s.labels["result"]: s.value for s in samples.samples} == {"learned": MAX_MODELS + 30, "empty": 1}
