"""Our gateway, started for it, with a recording upstream: what that received is what is priced."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import subprocess
from collections.abc import Iterator, Sequence

from benchmarks.processes import STOP_S, free_port
from benchmarks.prompt_cache.chats import ANSWER_START, Chat, piece_of, tools_piece
from benchmarks.prompt_cache.policies import Prompt
from benchmarks.retention.over_http import Client, wait_for
from benchmarks.retention.serve import gateway_config
from benchmarks.retention.upstream import Upstream
from benchmarks.retention.words import text_of

BRIEF_MARK = "<running_brief>"
START_S = 30
Prompts = Sequence[Prompt | None]


def _options(budget: int, completion: int, has_summarizer: bool) -> argparse.Namespace:
    """As the retention judge has them."""
    port = free_port()
    return argparse.Namespace(
        budget=budget,
        completion=completion,
        summarizer=has_summarizer,
        upstream_port=free_port(),
        base_url=f"http://127.0.0.1:{port}/v1",
        port=port,
        model="mock",
        api_key="sk-test",
        header=[],
        session_header="x-gateway-session",
        stream=False,
        settle=0,
        timeout=120,
    )


@contextlib.contextmanager
def _serving(options: argparse.Namespace) -> Iterator[Client]:
    upstream = Upstream("127.0.0.1", options.upstream_port)
    with gateway_config(options, options.port) as command:
        process = subprocess.Popen(shlex.split(command), env=dict(os.environ))
        try:
            wait_for(options.base_url, START_S)
            yield Client(upstream, options)
        finally:
            process.terminate()
            process.wait(STOP_S)
            upstream.server.shutdown()
            upstream.server.server_close()


def gateway_prompts(
    chats: Sequence[Chat], budget: int, completion: int, *, has_summarizer: bool = False
) -> dict[str, Prompts]:
    """What the upstream received for each request of each chat; None where the gateway refused."""
    out: dict[str, Prompts] = {}
    with _serving(_options(budget, completion, has_summarizer)) as client:
        for chat in chats:
            out[chat.ident] = [_ask(client, chat, end) for end in chat.requests]
            client.up.calls.clear()
    return out


def _ask(client: Client, chat: Chat, end: int) -> Prompt | None:
    got = client.ask(list(chat.messages[:end]), chat.tools, chat.ident)
    if got["why"] or got["body"] is None:
        return None
    body = got["body"]
    briefs = [text_of(message) for message in body["messages"] if BRIEF_MARK in text_of(message)]
    pieces = [tools_piece(body.get("tools")), *map(piece_of, body["messages"]), ANSWER_START]
    read = sum(call["tokens"] for call in got["calls"] if call["kind"] == "side")
    return Prompt(pieces, hash(tuple(briefs)) if briefs else None, read)
