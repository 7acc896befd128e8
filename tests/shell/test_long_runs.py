"""A run that no pattern splits is counted window by window, exactly."""

import random
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.tokens.profiles import CL100K, O200K
from gateway.shell.tokens.long_runs import OVERLAPS_BYTES, WINDOW_BYTES, count_run
from gateway.shell.tokens.rank_files import load_rank_file


@pytest.fixture(scope="module", params=[O200K, CL100K])
def ranks(request):
    return load_rank_file(request.param)


def tokens_of(run):
    """All parts of a run, and how many joints were not exact."""
    parts = []
    try:
        while True:
            parts.append(next(run))
    except StopIteration as done:
        return parts, done.value


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32), size=st.integers(1, 12_000), kind=st.sampled_from(["tokens", "few", "bytes", "same"])
)
def test_windows_add_up_to_the_whole(seed, size, kind, ranks):
    """Tokens thrown together, two letters at random, any bytes, one token again and again: tiktoken's number."""
    chance, core = random.Random(seed), ranks.encoding._core_bpe
    vocabulary = [core.decode_single_token_bytes(chance.randrange(len(ranks.lengths))) for _ in range(20)]
    if kind == "same":
        data = (vocabulary[0] * (size // len(vocabulary[0]) + 1))[:size]
    elif kind == "bytes":
        data = chance.randbytes(size)
    else:
        parts = vocabulary if kind == "tokens" else [b"a", b"b"]
        data = b"".join(chance.choices(parts, k=size))[:size]
    parts, inexact = tokens_of(count_run(core.encode_single_piece, ranks.lengths, data))

    assert (sum(parts), inexact) == (len(core.encode_single_piece(data)), 0)
    assert all(0 <= part <= WINDOW_BYTES for part in parts)


@pytest.mark.parametrize("change", [-1, 0, 1])
@pytest.mark.parametrize("windows", [1, 2, 3])
@pytest.mark.parametrize("letter", ["a", " ", "-", "漢", "😀", "\n"])
def test_lengths_around_a_window(letter, windows, change, ranks):
    """One byte less or more than whole windows changes nothing."""
    size = windows * (WINDOW_BYTES - OVERLAPS_BYTES[0]) + OVERLAPS_BYTES[0] + change
    data = (letter * size).encode()[:size]
    core = ranks.encoding._core_bpe
    parts, inexact = tokens_of(count_run(core.encode_single_piece, ranks.lengths, data))

    assert (sum(parts), inexact) == (len(core.encode_single_piece(data)), 0)


def test_windows_that_never_agree_are_told():
    """A tokenizer whose windows have no token in common: joined as they are, off by little, and each joint told."""
    tries = len(OVERLAPS_BYTES)
    calls = count(tries - 1)

    def encode(piece):
        """Tokens of 3 bytes in one window, of 5 bytes in all that are tried as the next."""
        size = 3 if next(calls) // tries % 2 else 5
        return [size] * (len(piece) // size) + [10 * size + len(piece) % size]

    lengths = bytes(rank if rank < 10 else rank % 10 for rank in range(60))
    data = random.Random(1).randbytes(20_000)
    parts, inexact = tokens_of(count_run(encode, lengths, data))

    assert inexact == len(parts) - 1 > 0
    assert 20_000 / 5 <= sum(parts) <= 20_000 / 3


def test_each_call_is_bounded(ranks):
    """Nothing longer than a window is ever encoded at once, and a run of one letter is encoded a few times only."""
    sizes = []
    core = ranks.encoding._core_bpe

    def encode(piece):
        sizes.append(len(piece))
        return core.encode_single_piece(piece)

    parts, _ = tokens_of(count_run(encode, ranks.lengths, b"a" * 1_000_000))

    assert sum(parts) == 125_000
    assert max(sizes) == WINDOW_BYTES
    assert len(sizes) < 20
