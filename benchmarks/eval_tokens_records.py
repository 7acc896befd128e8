"""Recorded requests with the usage that the provider billed, and how the gateway counts them: its own code path.

A record's body is parsed as a client's would be and walks the count stage with the real tokenizer. Prices are those
of the day of the recording, unless asked otherwise.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gateway.core.context.count_caches import CountCaches
from gateway.core.errors import Refusal
from gateway.core.tokens.frames import TOOLS_KEYS
from gateway.core.tokens.priors import prior_of
from gateway.core.wire.request import Endpoint, parse_metered
from gateway.exchange import Count, Exchange
from gateway.shell.tokens.counter import TiktokenCounter
from gateway.shell.tokens.digest import message_digests
from gateway.stages.count import CountStage

Record = dict[str, Any]
DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "usage_dev.jsonl"
ENDPOINTS = {
    "chat/completions": Endpoint.CHAT,
    "responses": Endpoint.RESPONSES,
    "count_tokens": Endpoint.RESPONSES,
    "completions": Endpoint.COMPLETIONS,
    "embeddings": Endpoint.EMBEDDINGS,
}
"""Anthropic's `messages` are not metered and so not judged; a count_tokens record is OpenAI's, of a Responses body."""
_UNSCORED = frozenset({"audio", "file"})


def read_records(path: Path) -> Iterator[Record]:
    """The records whose endpoint the gateway counts."""
    with path.open(encoding="utf-8") as lines:
        for record in map(json.loads, lines):
            if is_counted(record):
                yield record


def is_counted(record: Record) -> bool:
    """Whether the gateway counts such requests: OpenAI's endpoints, in OpenAI's shape."""
    is_openai_shape = record["endpoint"] != "count_tokens" or record["provider"] == "openai"
    return record["endpoint"] in ENDPOINTS and is_openai_shape and billed_tokens(record) > 0


def billed_tokens(record: Record) -> int:
    """The prompt, as the provider billed it."""
    usage = record["usage"]
    return int(usage.get("prompt_tokens", usage.get("input_tokens")) or 0)


def is_scored(record: Record) -> bool:
    """Whether the body says all that the bill depends on."""
    return not record.get("opaque") and not _UNSCORED & set(record["features"]) and not has_remote_image(record)


def has_remote_image(record: Record) -> bool:
    """Whether it holds a picture whose size cannot be read from the body."""
    return any(image["kind"] != "data" or image.get("width") is None for image in record.get("images", ()))


class Judge:
    """Counts records as the gateway does.

    Args:
        by_day: bill each by the prices of its day, not by today's.
    """

    def __init__(self, *, by_day: bool = True) -> None:
        self.counter = TiktokenCounter(tokens_per_word=1.3)
        self._caches = CountCaches(256 * 1024 * 1024, message_digests)
        self._by_day = by_day

    async def count(self, record: Record) -> Count | None:
        """What the gateway counts; None where it refuses the body."""
        endpoint = ENDPOINTS[record["endpoint"]]
        nobody: Any = None
        exchange = Exchange("eval", "POST", "", "", (), endpoint, nobody, nobody, 0.0)
        created = record.get("created") if self._by_day else None
        day = datetime.datetime.fromtimestamp(created, datetime.UTC).date() if created else None
        body = {**record["request"], "model": record["model"] or record["request"].get("model") or "unknown"}
        try:
            exchange.request = parse_metered(endpoint, json.dumps(body).encode())
            await CountStage(self.counter, self._caches, {}, day)(exchange)
        except Refusal:
            return None
        return exchange.count

    def close(self) -> None:
        """Let the tokenizer's threads go."""
        self.counter.close()


def with_prior(count: Count, model: str) -> int:
    """A count corrected by what is roughly known of the model's family."""
    tools = sum(count.sections.get(key, 0) for key in TOOLS_KEYS)
    return prior_of(model).bill(count.prompt_tokens, tools)
