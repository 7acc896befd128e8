"""Facts and questions as people and programs make them: words by Zipf's law, and unique identifiers."""

from __future__ import annotations

import itertools
import random
from bisect import bisect
from collections.abc import Iterator
from dataclasses import dataclass

from gateway.core.context.terms import name_terms, terms_of
from gateway.core.facts.memory import Kind, Memory, Scope, Sought, Source, fact_key

VOCABULARY = 30_000
_SYLLABLES = [a + b for a in "bcdfghjklmnprstvwz" for b in ("a", "e", "i", "o", "u", "ar", "en", "ol")]
_PREDICATES = ["uses", "is owned by", "runs on", "decided", "depends on", "has port", "was moved to", "fails with"]


@dataclass(frozen=True)
class Told:
    """A fact, and a question that it answers."""

    memory: Memory
    question: str


class Texts:
    """A source of facts; the same seed gives the same ones."""

    def __init__(self, seed: int = 1) -> None:
        self._random = random.Random(seed)
        letters = random.Random(99)
        self._words = ["".join(letters.choices(_SYLLABLES, k=letters.randint(2, 4))) for _ in range(VOCABULARY)]
        weights = [1 / (rank + 2.7) for rank in range(VOCABULARY)]
        self._sums = list(itertools.accumulate(weights))
        self._number = 0

    def _some_words(self, count: int) -> list[str]:
        chosen = (bisect(self._sums, self._random.random() * self._sums[-1]) for _ in range(count))
        return [self._words[min(place, VOCABULARY - 1)] for place in chosen]

    def tell(self) -> Told:
        """Another fact: one to three words about whom, eight to twenty of what, in half of them a unique identifier."""
        self._number += 1
        subject = " ".join(self._some_words(self._random.randint(1, 3)))
        words = self._some_words(self._random.randint(8, 20))
        name = f"svc-{self._random.getrandbits(40):010x}"
        if self._number % 2:
            words.insert(self._random.randrange(len(words)), name)
        predicate, object_ = self._random.choice(_PREDICATES), " ".join(words)
        asked = self._random.sample(words, min(6, len(words)))
        asked += self._some_words(4)
        return Told(self._fact(subject, predicate, object_), f"What about {subject}: {' '.join(asked)}?")

    def _fact(self, subject: str, predicate: str, object_: str) -> Memory:
        return Memory(
            id=f"{self._random.getrandbits(128):032x}",
            kind=Kind.FACT,
            subject=subject,
            predicate=predicate,
            object=object_,
            key=fact_key(subject, predicate, object_),
            observed_us=1_700_000_000_000_000 + self._number,
            sources=[Source(f"{self._number:064x}", f"doc-{self._number // 50}")],
            terms=terms_of(f"{subject} {predicate} {object_}"),
        )

    def many(self, count: int) -> Iterator[Told]:
        """So many facts."""
        return (self.tell() for _ in range(count))


def sought(question: str, vector: bytes = b"", model: str = "") -> Sought:
    """A question as the retriever asks it."""
    named = name_terms(question)
    return Sought(list(named.words), named.hard, vector, model)


def scope_number(number: int) -> Scope:
    """One of many scopes of one owner."""
    return Scope(b"o" * 32, f"scope-{number}")
