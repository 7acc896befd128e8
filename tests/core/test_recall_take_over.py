"""A pool that goes on from an earlier one of its chat recalls what a fresh one does, and makes nothing twice."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.context.recall import Pick, Recalled, fit_recalled, recall
from gateway.core.context.recall_index import MessageTerms, learn_terms
from gateway.core.context.recall_memo import RecallMemo
from gateway.core.context.recall_pool import Pool, Remembered
from gateway.core.context.recall_rank import query_of

Chat = list[tuple[str, str]]
RECORDS: dict[str, MessageTerms] = {}
texts = st.builds(
    lambda speaker, word, times: f"{speaker}{word} " * times,
    st.sampled_from(["Ann: ", "Ann: ", "", "[3 May]\n"]),
    st.sampled_from(["boiler", "BOILER", "boiler the", "garden boiler"]),
    st.sampled_from([1, 2, 90]),
)
chats = st.lists(st.tuples(st.sampled_from(["user", "assistant"]), texts), min_size=1, max_size=9)


def pool_of(chat: Chat) -> Pool:
    """As a recaller makes it: a message that comes again has the very record that it had."""
    records = [RECORDS.setdefault(text, learn_terms(text)) for _, text in chat]
    roles = [role for role, _ in chat]
    return Pool([Remembered(at, role, 9, record) for at, (role, record) in enumerate(zip(roles, records, strict=True))])


def recalled(chat: Chat, pool: Pool, told: list[str]) -> Recalled | None:
    """What is asked for; `told` is what had to be counted for it."""

    def count(line: str) -> int:
        told.append(line)
        return len(line) // 4

    def count_message(lines: Sequence[str]) -> int:
        return pool.memo.tokens_of(lines, "any", count)

    picks: list[Pick] = recall(query_of("the boiler in the garden, said Ann"), pool, 300)
    return fit_recalled(picks, pool, lambda number: chat[number][1], 300, count_message)


@settings(deadline=None, max_examples=300)
@given(before=chats, later=chats, edits=st.lists(st.sampled_from(["", "", "", "case", "role"]), min_size=4, max_size=9))
def test_2_it_makes_no_difference_to_what_is_recalled(before: Chat, later: Chat, edits: list[str]) -> None:
    """Whatever became of the chat: other texts with the same terms, other roles, other speakers."""
    chat = [
        ("tool" if edit == "role" else role, text.swapcase() if edit == "case" else text)
        for (role, text), edit in zip(before, edits, strict=False)
    ]
    chat += later
    first, fresh = pool_of(before), pool_of(chat)
    recalled(before, first, [])
    goes_on = pool_of(chat)
    goes_on.take_over(first)

    assert recalled(chat, goes_on, []) == recalled(chat, fresh, [])


def test_what_was_counted_is_not_counted_again() -> None:
    """A longer chat counts what is new in it."""
    chat = [("user", f"The boiler makes noise {number}.") for number in range(4)]
    first, longer = pool_of(chat), pool_of([*chat, ("user", "The boiler is new.")])
    recalled(chat, first, [])
    longer.take_over(first)
    told: list[str] = []
    found = recalled([*chat, ("user", "The boiler is new.")], longer, told)

    assert found is not None
    assert [line for line in told if "boiler" in line] == ["4 user: The boiler is new.\n"]


def test_only_lines_that_are_the_same_are_gone_on_with() -> None:
    """With what they cost, by encoding; the rest has to be made and counted."""
    memo, later = RecallMemo(), RecallMemo()
    told: list[str] = []

    def made(_: int) -> str:
        return "made"

    def counts(line: str) -> int:
        told.append(line)
        return len(line)

    lines = memo.lines_of([(1, 0), (2, 0), (2, 0, 9)], lambda at: f"line {at}")
    memo.tokens_of(lines[:2], "one", counts)
    memo.tokens_of(lines[2:], "other", counts)
    later.take_over(memo, lambda number: number == 2)
    told.clear()

    assert later.lines_of([(1, 0), (2, 0), (2, 0, 9)], made) == ["made", "line 1", "line 2"]
    assert later.tokens_of(["line 1", "line 2"], "one", counts) == 12
    assert later.tokens_of(["line 0", "line 2"], "other", counts) == 12
    assert told == ["line 2", "line 0"]
