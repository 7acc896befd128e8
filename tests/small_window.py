"""What end-to-end tests of compaction share: a window that a chat soon outgrows, and the tokenizer that enforces it."""

from __future__ import annotations

from typing import Any

from gateway.shell.tokens.rank_files import load_encoding
from tests.fakes.openai_server import Recorded

WINDOW = 4000
ANSWER_TOKENS = 200
BUDGET: dict[str, Any] = {
    "max_total": WINDOW,
    "completion": ANSWER_TOKENS,
    "running_brief": 600,
    "recent_turns": 300,
    "retrieved_context": 0,
}
_ENCODING = load_encoding("o200k_base")


def count(text: str) -> int:
    """Tokens as the gateway and the upstream count them."""
    return len(_ENCODING.encode_ordinary(text))


def is_summary_request(seen: Recorded) -> bool:
    """Whether the upstream was asked to write a brief."""
    return b"running brief of a conversation" in seen.body or GOING_ON in seen.body


GOING_ON = b"about to be replaced by a running brief"
"""What asks for a brief at the end of what was sent already."""
