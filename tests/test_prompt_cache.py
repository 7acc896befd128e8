"""The prompt-cache simulator: the cache's rules, and what each policy sends.

The recorded chats here are a sample; `python3 dev.py bench-cache` replays all of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.prompt_cache.__main__ import main
from benchmarks.prompt_cache.cache import TOKEN_BYTES, CacheRules, Charge, PromptCache
from benchmarks.prompt_cache.chats import Chat, piece_of, tokens_in
from benchmarks.prompt_cache.gateway_prompts import gateway_prompts
from benchmarks.prompt_cache.policies import Compact, Policy, SendAll, Truncate, new_tokens
from benchmarks.prompt_cache.replay import Bill, Clock, bill_of, prompts_of
from benchmarks.prompt_cache.timed_prompts import timed_prompts
from benchmarks.retention.cases import load
from benchmarks.retention.words import prompt_tokens
from tests.shared_data import shared_data

RULES = CacheRules()
STEADY = Clock()
SMALL = CacheRules(min_tokens=8, step_tokens=4)


def tokens(count: int, seed: str = "a") -> bytes:
    """So many tokens; with one seed, the longer starts with the shorter."""
    return new_tokens(5000, seed)[: count * TOKEN_BYTES]


def read_of(before: Sequence[bytes], now: Sequence[bytes], pause_s: float = 1) -> Charge:
    """What the second of two prompts is billed for."""
    cache = PromptCache(RULES)
    cache.charge(before, 0)
    return cache.charge(now, pause_s)


@pytest.mark.parametrize(
    ("size", "written"),
    [(0, 0), (1, 0), (1023, 0), (1024, 1024), (1151, 1024), (1152, 1152), (1300, 1280), (2048, 2048)],
)
def test_prompts_are_written_in_steps_from_the_least_size(size: int, written: int) -> None:
    """Below 1,024 tokens nothing is cached; above, in steps of 128; what is left over costs the plain price."""
    charge = PromptCache(RULES).charge([tokens(size)], 0)

    assert (charge.read, charge.written, charge.plain) == (0, written, size - written)


@pytest.mark.parametrize(
    ("before", "now", "read"),
    [
        ([tokens(1023)], [tokens(1023)], 0),
        ([tokens(1024)], [tokens(1024)], 1024),
        ([tokens(1500)], [tokens(1500)], 1408),
        ([tokens(1500)], [tokens(3000)], 1408),
        ([tokens(3000)], [tokens(1500)], 1408),
        ([tokens(1500)], [tokens(1500), tokens(400, "b")], 1408),
        ([tokens(1500), tokens(500, "b")], [tokens(1500), tokens(500, "c")], 1408),
        ([tokens(1500), tokens(500, "b")], [tokens(1500)], 1408),
        ([tokens(1), tokens(3000)], [tokens(1, "b"), tokens(3000)], 0),
        ([tokens(3000)], [tokens(1, "b"), tokens(3000)], 0),
        ([tokens(1100), tokens(2000, "b")], [tokens(1100), tokens(1, "c"), tokens(2000, "b")], 1024),
    ],
)
def test_what_is_read_is_the_prefix_that_was_sent(before: list[bytes], now: list[bytes], read: int) -> None:
    """A change at the front loses all of it; one further back what stands behind it."""
    assert read_of(before, now).read == read


@pytest.mark.parametrize(("pause_s", "read"), [(0, 1920), (299, 1920), (300, 1920), (301, 0), (3600, 0)])
def test_a_prefix_expires(pause_s: float, read: int) -> None:
    """Five minutes after its last use."""
    assert read_of([tokens(2000)], [tokens(2000)], pause_s).read == read


def test_use_keeps_a_prefix_alive_and_only_that() -> None:
    """What a shorter prompt does not reach grows old meanwhile."""
    cache = PromptCache(RULES)
    cache.charge([tokens(4096)], 0)
    cache.charge([tokens(2048)], 200)

    assert cache.charge([tokens(4096)], 400).read == 2048


def test_a_return_to_an_earlier_prompt_is_still_cached() -> None:
    """The cache remembers more than the prompt before."""
    cache = PromptCache(RULES)
    cache.charge([tokens(2048)], 0)
    cache.charge([tokens(2048, "b")], 1)

    assert cache.charge([tokens(2048)], 2).read == 2048


@pytest.mark.parametrize(
    ("rules", "cost"),
    [
        (CacheRules(), 0.1 * 1024 + 1.25 * 128 + 1.0 * 20),
        (CacheRules(cached_price=0.5, write_price=1.0), 0.5 * 1024 + 1.0 * 128 + 1.0 * 20),
        (CacheRules(input_price=2.0, cached_price=0.2, write_price=2.5), 0.2 * 1024 + 2.5 * 128 + 2.0 * 20),
        (CacheRules(min_tokens=2048), 1172.0),
    ],
)
def test_prices_are_of_what_is_read_written_and_neither(rules: CacheRules, cost: float) -> None:
    """Each has its own."""
    cache = PromptCache(rules)
    cache.charge([tokens(1024)], 0)

    assert cache.charge([tokens(1172)], 1).cost == pytest.approx(cost)


letters = st.lists(st.integers(0, 1), max_size=40)


@given(prompts=st.lists(letters, min_size=1, max_size=6), data=st.data())
def test_the_cache_reads_the_longest_prefix_sent_before(prompts: list[list[int]], data: st.DataObject) -> None:
    """In whole steps, however prompts are cut into pieces; reckoned here the long way."""
    cache = PromptCache(SMALL)
    for number, prompt in enumerate(prompts):
        cuts = sorted(data.draw(st.lists(st.integers(0, len(prompt)), max_size=4)))
        pieces = [
            b"".join(token.to_bytes(TOKEN_BYTES, "little") for token in prompt[start:end])
            for start, end in zip([0, *cuts], [*cuts, len(prompt)], strict=True)
        ]
        charge = cache.charge(pieces, number)
        sizes = range(8, len(prompt) + 1, 4)
        sent = [size for size in sizes if any(prompt[:size] == each[:size] for each in prompts[:number])]

        assert charge.read == max(sent, default=0)
        assert charge.read + charge.written == max(sizes, default=0)
        assert charge.tokens == len(prompt)


# The policies


def chat_of(turns: int, words: int) -> Chat:
    """A chat of questions and answers."""
    messages = [{"role": "system", "content": "Be exact. " * 150}]
    for turn in range(turns):
        messages.append({"role": "user", "content": f"Question {turn}: " + "what of it? " * words})
        messages.append({"role": "assistant", "content": f"Answer {turn}: " + "it is so. " * words})
    return Chat("made", messages)


CHAT = chat_of(60, 20)
LIMIT = 3000
BASELINES = ("no gateway", "truncation", "re-summarise each turn", "compact on overflow")
POLICIES: dict[str, Callable[[Chat], Policy]] = {
    "truncation": lambda chat: Truncate(chat, LIMIT),
    "re-summarise": lambda chat: Truncate(chat, LIMIT, is_told=True),
    "on overflow": lambda chat: Compact(chat, LIMIT, LIMIT // 2),
    "appended": lambda chat: Compact(chat, LIMIT, LIMIT // 2, is_appended=True),
    "early": lambda chat: Compact(chat, LIMIT, LIMIT // 2, is_appended=True, keep_value=0.2, is_early=True),
    "best target": lambda chat: Compact(chat, LIMIT, 0, is_appended=True, keep_value=0.4),
}


def test_tokens_are_those_that_the_judge_counts() -> None:
    """3 a message and 3 to start the answer."""
    pieces = SendAll(CHAT).prompt(len(CHAT.messages), is_warm=True).pieces

    assert tokens_in(pieces) == prompt_tokens(list(CHAT.messages))


def test_a_request_is_made_where_an_answer_followed() -> None:
    """And one more at the end, where one is due."""
    loop = [*CHAT.messages[:3], {"role": "user", "content": "go on"}]

    assert Chat("made", loop).requests == [2, 4]


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("break_every", [0, 5])
def test_a_policy_keeps_to_the_limit_and_to_the_ends(name: str, break_every: int) -> None:
    """Every prompt fits, starts with the system message and ends with the newest one."""
    sent = prompts_of(POLICIES[name](CHAT), CHAT, RULES, Clock(break_every=break_every))

    for end, prompt in zip(CHAT.requests, sent, strict=True):
        assert tokens_in(prompt.pieces) <= LIMIT
        assert prompt.pieces[1] == piece_of(CHAT.messages[0])
        assert prompt.pieces[-2] == piece_of(CHAT.messages[end - 1])


def bill(name: str, clock: Clock = STEADY) -> Bill:
    """Of the made chat."""
    return bill_of(POLICIES.get(name, SendAll), [CHAT], RULES, clock, LIMIT)


def test_what_is_told_anew_every_time_is_never_read() -> None:
    """A sliding window and a fresh brief keep the system message at most; a brief that stays keeps the prompt."""
    all_of_it, sliding, fresh, kept = map(bill, ("no gateway", "truncation", "re-summarise", "on overflow"))

    assert all_of_it.compactions == sliding.compactions == 0
    assert fresh.compactions > 5 * kept.compactions > 0
    assert kept.kept_shares
    assert min(kept.kept_shares) == 1.0
    assert kept.cost < sliding.cost < fresh.cost


def test_a_brief_that_is_added_to_costs_no_more_than_one_told_anew() -> None:
    """Its beginning stays cached."""
    assert bill("appended").cost <= bill("on overflow").cost


def test_compacting_in_a_break_saves_and_without_one_does_not_happen() -> None:
    """After a pause the whole prompt is written anyway, and a smaller one costs less."""
    breaks = Clock(break_every=10)

    assert bill("early", breaks).cost < bill("appended", breaks).cost
    assert bill("early").cost == pytest.approx(bill("appended").cost, rel=0.02)


def test_recorded_traces_cost_least_where_the_prefix_is_kept() -> None:
    """On a sample: compacting on overflow is cheaper than sending all, and a sliding window dearer."""
    records = load([str(shared_data("traces_dev.jsonl.gz"))])[:3]
    chats = [Chat(record["id"], record["messages"], record.get("tools")) for record in records]
    all_of_it = bill_of(SendAll, chats, RULES, STEADY, 7000)
    kept = bill_of(lambda chat: Compact(chat, 7000, 3500), chats, RULES, STEADY, 7000)
    sliding = bill_of(lambda chat: Truncate(chat, 7000), chats, RULES, STEADY, 7000)

    assert kept.cost < all_of_it.cost < sliding.cost


def test_the_command_prices_what_a_real_gateway_forwards(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Side by side with the rest, in one table; it keeps the beginning of what it sends, a sliding window does not."""
    path, sums = tmp_path / "made.jsonl", tmp_path / "sums.json"
    path.write_text(json.dumps({"id": "made", "messages": list(chat_of(50, 35).messages)}))
    main(["--data", str(path), "--budgets", "8000", "--json", str(sums)])
    (table,) = json.loads(sums.read_text()).values()
    cost = {name: row["cost"] for name, row in table.items()}

    assert "refused" not in capsys.readouterr().out
    assert list(table) == [*BASELINES, "our gateway"]
    assert {row["requests"] for row in table.values()} == {50}
    assert cost["our gateway"] < cost["truncation"] < cost["re-summarise each turn"]


def test_our_stages_use_a_break_where_they_may() -> None:
    """With nothing recalled: compacted early they cost less, and without a break they forward the same."""
    chat, steady, breaks = chat_of(50, 35), Clock(), Clock(break_every=10)
    off, on = ({"compaction": {"recall": "off", "early": early}} for early in (False, True))
    costs = []
    for options in (off, on):
        bill = Bill()
        bill.add(timed_prompts(chat, 8000, 1000, breaks, options), RULES, breaks, 7000)
        costs.append(bill.cost)

    assert costs[1] < costs[0]
    assert timed_prompts(chat, 8000, 1000, steady, on) == timed_prompts(chat, 8000, 1000, steady, off)


def test_a_gateway_that_does_not_start_is_told() -> None:
    """And no table is printed without it: its budget is below the sum of its shares."""
    with pytest.raises(SystemExit, match="the gateway ended"):
        gateway_prompts([CHAT], 4000, 1000)
