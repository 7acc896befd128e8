"""Which results are shortened: the room is kept, the newest keep most, repeats go first."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.context.elide_plan import (
    MIN_RESULT_TOKENS,
    REPEAT_TOKENS,
    Elision,
    Result,
    note_of_repeat,
    plan_elisions,
)

sizes = st.lists(st.tuples(st.integers(0, 6000), st.integers(0, 5), st.booleans()), max_size=40)


def results_of(found: list[tuple[int, int, bool]]) -> list[Result]:
    """One result a unit, oldest first; equal second numbers are equal texts, and so have equal sizes."""
    sizes_of: dict[int, int] = {}
    return [
        Result(number, sizes_of.setdefault(text, tokens), len(found) - number, bytes([text]), related)
        for number, (tokens, text, related) in enumerate(found, 1)
    ]


def distinct(sizes: list[int]) -> list[Result]:
    return [Result(n, tokens, len(sizes) - n, bytes([n])) for n, tokens in enumerate(sizes, 1)]


@given(found=sizes, room=st.integers(-100, 40_000))
def test_they_fit_or_are_as_small_as_they_get(found: list[tuple[int, int, bool]], room: int) -> None:
    """None grows; the same input plans the same."""
    results = results_of(found)
    plan = plan_elisions(results, room)
    kept = {result.number: plan[result.number].tokens if result.number in plan else result.tokens for result in results}
    least = {result.number: min(result.tokens, MIN_RESULT_TOKENS) for result in results}

    assert plan == plan_elisions(results, room)
    assert all(plan[result.number].tokens < result.tokens for result in results if result.number in plan)
    assert sum(kept.values()) <= room or all(kept[number] <= least[number] for number in kept)


def test_what_fits_is_left_alone() -> None:
    """Not even repeats are touched without need."""
    assert plan_elisions([Result(1, 500, 1, b"a"), Result(2, 500, 0, b"a")], 1000) == {}


def test_a_file_read_five_times_stands_once() -> None:
    """The newest copy, at full length if the others make room enough; the rest say where it is."""
    results = [Result(n, 800, 5 - n, b"same") for n in range(1, 6)]
    plan = plan_elisions(results, 1000)

    assert plan == {n: Elision(REPEAT_TOKENS, same_as=5) for n in range(1, 5)}
    assert note_of_repeat(5) == "[the same text as in message 5]"


def test_the_newest_keeps_most() -> None:
    """And each older one at most as much as the one after it."""
    plan = plan_elisions(distinct([1000] * 10), 4000)
    kept = [plan[n].tokens if n in plan else 1000 for n in range(1, 11)]

    assert kept[-1] == 1000
    assert kept == sorted(kept)


def test_related_results_keep_more() -> None:
    """What shares names with the newest steps is wanted more than what is merely newer."""
    results = distinct([1000] * 10)
    results[3] = results[3]._replace(is_related=True)
    plan = plan_elisions(results, 4000)

    assert plan[4].tokens > plan[5].tokens
