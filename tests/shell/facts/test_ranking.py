"""What a search reads is bounded, and its order is that of BM25; rows come back as they were."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.core.facts.memory import Sought
from gateway.shell.facts import ranking
from gateway.shell.facts.merging import merge
from gateway.shell.facts.rows import Row, body_bytes, class_of, row_from, terms_bytes, words_of
from tests.shell.facts.memories import fact, same, text

terms = st.integers(0, 2**32 - 1)


@given(
    counts=st.dictionaries(terms, st.integers(0, ranking.MAX_COUNTED), max_size=ranking.MAX_TERMS),
    size=st.integers(0, 10**7),
)
def test_what_is_read_is_bounded(counts: dict[int, int], size: int) -> None:
    """Whatever words a question has; the rarest is read whole, and each that is held at all is read."""
    weights = ranking.weigh(counts, frozenset(), size)
    lookups = ranking.plan_lookups(counts, weights)
    read = sum(min(each.take, counts[each.term]) for each in lookups if counts[each.term] < ranking.MAX_COUNTED)
    read += sum(each.take for each in lookups if counts[each.term] == ranking.MAX_COUNTED)

    assert read <= ranking.MAX_POSTINGS + 64 * ranking.MAX_TERMS
    assert {each.term for each in lookups} == {term for term, count in counts.items() if count}
    assert all(each.weight > 0 for each in lookups)
    assert not lookups or lookups[0].take >= min(counts[lookups[0].term], ranking.MAX_COUNTED)


@given(asked=st.lists(terms, unique=True, max_size=200), exact=st.data())
def test_what_matters_is_asked(asked: list[int], exact: st.DataObject) -> None:
    """Exact terms first, then in the order of importance."""
    chosen = exact.draw(st.sets(st.sampled_from(asked), max_size=20)) if asked else set()
    kept = ranking.terms_to_ask(Sought(asked, frozenset(chosen)))

    assert len(kept) == min(len(asked), ranking.MAX_TERMS)
    assert set(kept) >= chosen
    assert kept[len(chosen) :] == [term for term in asked if term not in chosen][: len(kept) - len(chosen)]


@given(st.lists(st.lists(st.integers(0, 8), min_size=1, max_size=12), min_size=1, max_size=12))
def test_the_order_is_bm25s(documents: list[list[int]]) -> None:
    """As the formula says, worked out anew."""
    asked = (0, 1, 2)
    counts = {term: sum(term in document for document in documents) for term in asked}
    weights = ranking.weigh(counts, frozenset(), len(documents))
    ranked = ranking.rank(dict(enumerate(documents)), weights)
    mean = sum(map(len, documents)) / len(documents)

    def score(document: Sequence[int]) -> float:
        total = 0.0
        for term in asked:
            rarity = math.log(1 + (len(documents) - counts[term] + 0.5) / (counts[term] + 0.5))
            times = document.count(term)
            total += rarity * times * 2.2 / (times + 1.2 * (0.25 + 0.75 * len(document) / mean))
        return total

    assert set(ranked) == {number for number, document in enumerate(documents) if set(asked) & set(document)}
    assert all(score(documents[a]) >= score(documents[b]) - 1e-9 for a, b in itertools.pairwise(ranked))


def test_an_exact_word_weighs_double() -> None:
    weights = ranking.weigh({1: 3, 2: 3}, {1}, 100)

    assert weights[1] == 2 * weights[2]


@given(st.permutations([("a", 1), ("b", 2), ("a", 3), ("c", 3), ("b", 5), ("c", 4)]))
def test_statements_of_a_topic_may_come_in_any_order(said: list[tuple[str, int]]) -> None:
    """What was said last holds, and nothing else; each call may be made twice."""
    rows: list[Row] = []
    for object_, observed_us in said:
        memory = fact("s", "p", object_, topic=True, observed_us=observed_us)
        for _ in range(2):
            merged = merge(
                [row for row in rows if row.memory.key == memory.key or not row.memory.ended_us], [memory], 0
            )
            rows += merged.added

    assert [row.memory.object for row in rows if row.memory.ended_us is None] == ["b"]
    assert len(rows) == 3


@given(
    words=st.text(st.characters(exclude_categories=("Cs",))),
    numbers=st.lists(terms),
    times=st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), min_size=2, max_size=2),
    is_fact=st.booleans(),
)
def test_a_row_comes_back_as_it_was(words: str, numbers: list[int], times: list[int | None], is_fact: bool) -> None:
    made = fact(words, words, words, doc=words) if is_fact else text(words, metadata={words: [words, 1.5, None]})
    memory = replace(made, terms=numbers, ended_us=times[0], expires_us=times[1])
    columns = (
        7,
        bytes.fromhex(memory.id),
        class_of(memory),
        memory.key,
        None,
        None,
        1,
        9,
        memory.ended_us,
        memory.expires_us,
        memory.confidence,
        body_bytes(memory),
        terms_bytes(memory.terms),
    )
    row = row_from(columns)

    assert same(row.memory, memory)
    assert (row.seq, row.seen_us) == (7, 9)
    assert words_of(row.memory) == words_of(memory)
