"""Our gateway, started for it, with a recording upstream: what that received is what is priced."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

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
        embeddings=False,
        mine="folded",
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
            _wait_for(process, options.base_url)
            yield Client(upstream, options)
        finally:
            process.terminate()
            process.wait(STOP_S)
            upstream.server.shutdown()
            upstream.server.server_close()


def _wait_for(process: subprocess.Popen[bytes], base_url: str) -> None:
    """Until it answers.

    Raises:
        SystemExit: it does not; its own message stands above.
    """
    for _ in range(START_S):
        wait_for(base_url, 1)
        if process.poll() is not None:
            sys.exit(f"the gateway ended with {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", urlsplit(base_url).port), 1):
            return
    sys.exit(f"the gateway does not answer within {START_S} s")


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
    read = sum(call["tokens"] for call in got["calls"] if call["kind"] == "side")
    return prompt_of(got["body"], read)


def prompt_of(body: Any, read: int) -> Prompt:
    """A forwarded body as the cache sees it; `read` is what a summariser read for it, in tokens."""
    briefs = [text_of(message) for message in body["messages"] if BRIEF_MARK in text_of(message)]
    pieces = [tools_piece(body.get("tools")), *map(piece_of, body["messages"]), ANSWER_START]
    return Prompt(pieces, hash(tuple(briefs)) if briefs else None, read)
