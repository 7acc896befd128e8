"""The cache against its model: never too big, never stale, and kind to what is used."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gateway.core.tokens.cache import TwoGenerationCache

KEYS = st.sampled_from([bytes([letter]) for letter in b"abcdefgh"])
ENTRY_BYTES = 10


class CacheMachine(RuleBasedStateMachine):
    """The model: all that was put, and for each key how many new keys have come since it was last used."""

    @initialize(entries=st.integers(0, 6), odd_bytes=st.integers(0, ENTRY_BYTES - 1))
    def start(self, entries, odd_bytes):
        self.max_bytes = entries * ENTRY_BYTES + odd_bytes
        self.cache = TwoGenerationCache(self.max_bytes, ENTRY_BYTES)
        self.put = {}
        self.age = {}
        self.looked_up = 0

    def use(self, key):
        self.age = {other: age + (other != key) for other, age in self.age.items()} | {key: 0}

    @rule(key=KEYS, value=st.integers(0, 3))
    def put_one(self, key, value):
        self.cache.put(key, value)
        self.put[key] = value
        self.use(key)

    @rule(key=KEYS)
    def get_one(self, key):
        found = self.cache.get(key)
        self.looked_up += 1

        assert found is None or found == self.put[key]
        if found is None and key in self.age:
            assert self.age.pop(key) >= self.generation()
        elif found is not None:
            self.use(key)

    @rule(keys=st.lists(KEYS, max_size=5))
    def get_some(self, keys):
        found = self.cache.get_many(keys)
        self.looked_up += len(keys)

        assert len(found) == len(keys)
        for key, value in zip(keys, found, strict=True):
            assert value is None or value == self.put[key]
            if value is None:
                self.age.pop(key, None)
            else:
                self.use(key)

    def generation(self):
        """How many other uses an entry survives at least."""
        return self.max_bytes // (2 * ENTRY_BYTES)

    @invariant()
    def it_never_holds_more_than_it_may(self):
        if hasattr(self, "cache"):
            assert len(self.cache) * ENTRY_BYTES <= self.max_bytes

    @invariant()
    def it_knows_what_it_holds(self):
        if hasattr(self, "cache"):
            assert self.cache.held_bytes == len(self.cache) * ENTRY_BYTES

    @invariant()
    def every_look_up_is_a_hit_or_a_miss(self):
        if hasattr(self, "cache"):
            assert self.cache.hits + self.cache.misses == self.looked_up


TestCache = CacheMachine.TestCase
TestCache.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_a_used_entry_survives_the_turn_of_generations():
    """Used once a generation, an entry stays for ever; unused, it is gone after two."""
    cache = TwoGenerationCache(max_bytes=8 * ENTRY_BYTES, entry_bytes=ENTRY_BYTES)
    cache.put(b"used", 1)
    cache.put(b"unused", 2)
    for number in range(100):
        cache.put(b"%d" % number, number)

        assert cache.get(b"used") == 1
    assert cache.get(b"unused") is None


def test_putting_a_known_entry_again_drops_no_other():
    """A full young generation takes a new value for what it holds without turning."""
    cache = TwoGenerationCache(max_bytes=4 * ENTRY_BYTES, entry_bytes=ENTRY_BYTES)
    for key in (b"a", b"b", b"c", b"d"):
        cache.put(key, 1)
    for _ in range(5):
        cache.put(b"d", 2)

    assert [cache.get(key) for key in (b"d", b"c", b"a")] == [2, 1, 1]


@pytest.mark.parametrize("max_bytes", [0, 1, 19])
def test_a_cache_without_room_keeps_nothing(max_bytes):
    cache = TwoGenerationCache(max_bytes, entry_bytes=10)
    cache.put(b"a", 1)

    assert cache.get(b"a") is None
    assert len(cache) == 0


class SizedCacheMachine(RuleBasedStateMachine):
    """Values of any size: a value is its own number of extra bytes."""

    def __init__(self):
        super().__init__()
        self.cache = TwoGenerationCache(100, ENTRY_BYTES, extra_bytes=lambda value: value)
        self.put = {}

    @rule(key=KEYS, value=st.integers(0, 60))
    def put_one(self, key, value):
        self.cache.put(key, value)
        self.put[key] = value

        assert self.cache.get(key) == (value if value + ENTRY_BYTES <= 50 else None)

    @rule(keys=st.lists(KEYS, max_size=5))
    def get_some(self, keys):
        for key, found in zip(keys, self.cache.get_many(keys), strict=True):
            assert found in (None, self.put.get(key))

    @invariant()
    def it_never_holds_more_than_it_may(self):
        generations = (self.cache._young, self.cache._old)
        held = sum(ENTRY_BYTES + value for generation in generations for value in generation.values())

        assert held == self.cache.held_bytes <= 100


TestSizedCache = SizedCacheMachine.TestCase
TestSizedCache.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
