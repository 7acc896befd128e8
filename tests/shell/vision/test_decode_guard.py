"""What goes around any decoder: bounds, tries, breaker, one decoding for equal ones, readings that are remembered."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable

import pytest

from gateway.core.routing.breaker import BreakerRules, BreakerState, Event
from gateway.core.vision.document import Fidelity, Reading
from gateway.ports_vision import VisionFault
from gateway.shell.vision.backend import BackendFault, StatusFault
from gateway.shell.vision.decode_cache import CachedDecoder, Remembered
from gateway.shell.vision.decode_flights import SharedDecoder
from gateway.shell.vision.decode_guard import GuardedDecoder, GuardRules
from gateway.shell.vision.decode_log import LoggedDecoder
from tests.fakes.documents import ToldDecoder
from tests.shell.vision.decodings import exchange, wanted

TEXT = Reading("text", 0.9)
RULES = GuardRules(4, 30.0, 30.0, retries=2, backoff_s=0.2, breaker=BreakerRules(3, 30.0))


class Clock:
    """Time that goes on when something sleeps."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds


def guarded(told: ToldDecoder, clock: Clock, rules: GuardRules = RULES) -> GuardedDecoder:
    return GuardedDecoder(told, rules, Counter(), clock, lambda: 1.0, clock.sleep)


def passing(event: Event | None = Event.FAILURE, cooldown_s: float = 0.0) -> BackendFault:
    return BackendFault("upstream", "as told", is_passing=True, event=event, cooldown_s=cooldown_s)


async def decode(decoder: GuardedDecoder | SharedDecoder | CachedDecoder | LoggedDecoder, line: int = 0) -> Reading:
    return await decoder.decode(exchange(), wanted(line), Fidelity.DEFAULT)


async def test_what_passes_is_tried_again_after_pauses_that_double() -> None:
    clock, told = Clock(), ToldDecoder(deque([passing(), passing(), TEXT]))

    assert await decode(guarded(told, clock)) == TEXT
    assert (told.calls, clock.slept) == (3, [0.2, 0.4])


async def test_after_so_many_tries_the_fault_is_passed_on() -> None:
    clock, told = Clock(), ToldDecoder(deque([passing(Event.SUCCESS)] * 9))
    with pytest.raises(BackendFault):
        await decode(guarded(told, clock))

    assert told.calls == 3


@pytest.mark.parametrize(
    "fault",
    [BackendFault("upstream", "m", is_passing=False), StatusFault(400, b"", None), VisionFault("unreadable", "m")],
)
async def test_what_will_fail_again_is_tried_once(fault: VisionFault) -> None:
    told = ToldDecoder(deque([fault]))
    with pytest.raises(VisionFault) as failed:
        await decode(guarded(told, Clock()))

    assert (failed.value, told.calls) == (fault, 1)


async def test_a_try_that_takes_too_long_is_given_up_and_made_again() -> None:
    """It is cancelled, and the next one may be in time."""
    rules = GuardRules(4, 0.01, 30.0, retries=1, backoff_s=0.0, breaker=RULES.breaker)
    told = ToldDecoder(deque([None, TEXT]))

    assert await decode(guarded(told, Clock(), rules)) == TEXT
    assert told.cancelled == 1


async def test_a_backend_that_never_answers_is_a_timeout() -> None:
    rules = GuardRules(4, 0.01, 30.0, retries=1, backoff_s=0.0, breaker=RULES.breaker)
    with pytest.raises(VisionFault) as failed:
        await decode(guarded(ToldDecoder(deque([None, None])), Clock(), rules))

    assert failed.value.kind == "timeout"


async def test_failures_in_a_row_open_the_breaker() -> None:
    """Then nobody is asked; once its time is over one decoding is, and its success closes it."""
    clock, told = Clock(), ToldDecoder(deque([passing()] * 3))
    decoder = guarded(told, clock)
    with pytest.raises(VisionFault):
        await decode(decoder)
    with pytest.raises(VisionFault) as refused:
        await decode(decoder)
    calls, state = told.calls, decoder.breaker.state
    clock.now_s += 33.0  # a tenth longer than its time, with this jitter

    assert (refused.value.kind, calls, state) == ("disabled", 3, BreakerState.OPEN)
    assert (await decode(decoder)).text == "reading 4"
    assert decoder.breaker.state is BreakerState.CLOSED


async def test_a_breaker_that_opens_on_the_way_ends_the_tries() -> None:
    clock, told = Clock(), ToldDecoder(deque([passing()] * 9))
    rules = GuardRules(4, 30.0, 30.0, retries=8, backoff_s=0.0, breaker=RULES.breaker)
    with pytest.raises(VisionFault) as refused:
        await decode(guarded(told, clock, rules))

    assert (refused.value.kind, told.calls) == ("disabled", 3)


async def test_half_open_lets_one_through_and_a_probe_that_leaves_gives_its_place_back() -> None:
    clock, told = Clock(), ToldDecoder(deque([passing()] * 3 + [None]))
    decoder = guarded(told, clock)
    with pytest.raises(VisionFault):
        await decode(decoder)
    clock.now_s += 40.0
    told.begun.clear()
    probe = asyncio.create_task(decode(decoder))
    await told.begun.wait()
    with pytest.raises(VisionFault) as refused:
        await decode(decoder)
    probe.cancel()
    await asyncio.wait([probe])

    assert refused.value.kind == "disabled"
    assert (await decode(decoder)).text == "reading 5"


async def test_a_server_that_names_a_time_is_left_alone_for_it() -> None:
    clock, told = Clock(), ToldDecoder(deque([StatusFault(503, b"", 7.0)]))
    rules = GuardRules(4, 30.0, 30.0, retries=0, backoff_s=0.0, breaker=RULES.breaker)
    decoder = guarded(told, clock, rules)
    with pytest.raises(StatusFault):
        await decode(decoder)
    with pytest.raises(VisionFault) as refused:
        await decode(decoder)
    clock.now_s += 7.0

    assert refused.value.kind == "disabled"
    assert (await decode(decoder)).text == "reading 2"


async def test_never_more_than_so_many_at_once() -> None:
    told = ToldDecoder(deque([None] * 10))
    decoder = guarded(told, Clock())
    decoding = [asyncio.create_task(decode(decoder, line)) for line in range(10)]
    await told.begun.wait()
    told.release.set()
    await asyncio.gather(*decoding)

    assert (told.calls, told.most_running) == (10, 4)


async def test_a_decoding_waits_for_its_turn_no_longer_than_allowed() -> None:
    """That is no fault of the backend's."""
    rules = GuardRules(1, 30.0, 0.01, retries=2, backoff_s=0.0, breaker=BreakerRules(1, 30.0))
    told = ToldDecoder(deque([None]))
    decoder = guarded(told, Clock(), rules)
    first = asyncio.create_task(decode(decoder))
    await told.begun.wait()
    with pytest.raises(VisionFault) as refused:
        await decode(decoder, 1)
    told.release.set()
    await first

    assert (refused.value.kind, told.calls, decoder.breaker.state) == ("timeout", 1, BreakerState.CLOSED)


# Equal decodings


async def test_equal_decodings_are_one() -> None:
    told = ToldDecoder(deque([None]))
    decoder = SharedDecoder(told)
    many = [asyncio.create_task(decode(decoder)) for _ in range(5)]
    await told.begun.wait()
    other = await decode(decoder, 1)
    told.release.set()
    readings = await asyncio.gather(*many)

    assert {reading.text for reading in readings} == {"released 1"}
    assert other.text == "reading 2"
    assert told.calls == 2
    assert (await decode(decoder)).text == "reading 3"


async def test_equal_decodings_fail_together() -> None:
    told = ToldDecoder(deque([passing()]))
    decoder = SharedDecoder(told)
    failed = await asyncio.gather(decode(decoder), decode(decoder), return_exceptions=True)

    assert [type(each) for each in failed] == [BackendFault] * 2
    assert told.calls == 1


async def test_who_leaves_disturbs_nobody_who_stays() -> None:
    told = ToldDecoder(deque([None]))
    decoder = SharedDecoder(told)
    leaving, staying = (asyncio.create_task(decode(decoder)) for _ in range(2))
    await told.begun.wait()
    leaving.cancel()
    await asyncio.wait([leaving])
    told.release.set()

    assert (await staying).text == "released 1"
    assert told.cancelled == 0


async def test_once_all_have_left_the_decoding_ends() -> None:
    """And who comes right after begins anew."""
    told = ToldDecoder(deque([None]))
    decoder = SharedDecoder(told)
    leaving = [asyncio.create_task(decode(decoder)) for _ in range(2)]
    await told.begun.wait()
    for task in leaving:
        task.cancel()
    await asyncio.wait(leaving)
    after = await decode(decoder)

    assert (told.cancelled, after.text) == (1, "reading 2")


# Remembered readings


def cached(told: ToldDecoder, tally: Counter[str], max_entries: int = 10) -> CachedDecoder:
    return CachedDecoder(told, Remembered(600.0, max_entries), tally)


async def test_a_reading_is_remembered() -> None:
    """For the same document, region, fidelity and backend only."""
    told, tally = ToldDecoder(deque([TEXT])), Counter[str]()
    decoder = cached(told, tally)
    first, again = await decode(decoder), await decode(decoder)
    others = [
        await decoder.decode(exchange(), wanted(1), Fidelity.DEFAULT),
        await decoder.decode(exchange(), wanted(0), Fidelity.EXACT),
        await decoder.decode(exchange(), wanted(0, "other hash"), Fidelity.DEFAULT),
    ]

    assert first == again == TEXT
    assert len({reading.text for reading in others}) == 3
    assert (tally["hit"], tally["miss"]) == (1, 4)


async def test_neither_faults_nor_what_was_cut_are_remembered() -> None:
    told = ToldDecoder(deque([passing(), Reading("cut", 0.1, True), TEXT]))
    decoder = cached(told, Counter())
    with pytest.raises(BackendFault):
        await decode(decoder)

    assert [(await decode(decoder)).text for _ in range(3)] == ["cut", "text", "text"]


async def test_never_more_readings_than_the_bound() -> None:
    told, tally = ToldDecoder(), Counter[str]()
    decoder = cached(told, tally, max_entries=3)
    for line in range(10):
        await decode(decoder, line)
    newest = [await decode(decoder, line) for line in (7, 8, 9)]

    assert [reading.text for reading in newest] == ["reading 8", "reading 9", "reading 10"]
    assert tally["hit"] == 3


# The log


@pytest.mark.parametrize(("make", "shows"), [(LoggedDecoder, True), (SharedDecoder, False)])
async def test_texts_reach_the_log_only_where_that_is_asked_for(
    make: Callable[[ToldDecoder], LoggedDecoder | SharedDecoder], shows: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        await decode(make(ToldDecoder(deque([TEXT]))))

    assert any(getattr(record, "text", "") == "text" for record in caplog.records) is shows
