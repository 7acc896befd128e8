"""Responses requests as clients send them: histories of items of every kind that is known, and their cost from nothing.

Shapes are those of recorded requests: messages with and without a type, ids and states that the server adds, reasoning
with its encrypted content or without, calls one by one and several in a row.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from hypothesis import strategies as st

from gateway.core.routing.routes import Roles
from gateway.core.tokens.frames import Surroundings, frame_of, frame_sections
from gateway.core.tokens.items import CountedItem, settle_items, weigh_item
from gateway.core.tokens.profiles import profile_of
from gateway.core.tokens.sections import weigh_section
from gateway.core.wire.request import Endpoint, parse_metered
from gateway.exchange import Exchange
from tests.histories import Sent, World, exchange_of, total_of
from tests.histories import texts as said_texts

Item = dict[str, Any]
TOOLS = [{"type": "function", "name": "bash", "description": "Run.", "parameters": {"type": "object"}, "strict": False}]
INSTRUCTIONS = "You are a careful agent. Never push to main."


def body_of(items: Sequence[Item] | str, model: str = "gpt-5.1", **others: Any) -> bytes:
    """A body as a client might write it, with its own white space and keys on both sides of the input."""
    fields = {"model": model, "instructions": INSTRUCTIONS, "input": items, "store": False, "tools": TOOLS, **others}
    return json.dumps(fields, ensure_ascii=False).encode()


def exchange_for(body: bytes, client: bytes = b"someone", roles: Roles = Roles.OPEN) -> Exchange:
    """A Responses request on its way to one upstream, identified and routed."""
    exchange = exchange_of(b'{"model":"m","messages":[{"role":"user","content":"x"}]}', client, roles)
    exchange.endpoint, exchange.request = Endpoint.RESPONSES, parse_metered(Endpoint.RESPONSES, body)
    return exchange


async def send(world: World, body: bytes, client: bytes = b"someone") -> Sent:
    """What becomes of one request; a refusal is an answer too."""
    exchange = exchange_for(body, client, world.roles)
    return await world.walk(exchange, body, [])


def items_of(body: bytes) -> list[Item]:
    """The items of a body."""
    return [json.loads(raw) for raw in raw_items(body)]


def raw_items(body: bytes) -> list[bytes]:
    """The items of a body, as bytes."""
    tree = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    return [bytes(raw) for raw in msgspec.json.decode(tree["input"], type=list[msgspec.Raw])]


def recount(body: bytes, count: Callable[[str], int]) -> int:
    """What a Responses body costs, from nothing but its bytes."""
    tree = json.loads(body)
    profile = profile_of(tree["model"], {})
    weighed = [weigh_item(item, profile) for item in tree["input"]]
    counted = [CountedItem(total_of(item.weight, count), item.kind) for item in weighed]
    effort = (tree.get("reasoning") or {}).get("effort")
    thinks = profile.thinks if effort is None else effort != "none"
    sections = {}
    for key in ("instructions", "tools"):
        if key in tree:
            section = weigh_section(key, tree[key], Endpoint.RESPONSES, profile)
            sections[key] = section.counted([count(text) for text in section.all_texts])
    frame = frame_of(profile.family, Endpoint.RESPONSES)
    framed = sum(frame_sections(frame, sections, Surroundings()).values())
    return framed + settle_items(counted, profile, thinks=thinks) + profile.priming_tokens + frame.hidden_tokens


# What must not be parted, found without the code under test


def is_output(item: Item) -> bool:
    """Whether the model made it."""
    return item.get("role") == "assistant" or str(item.get("type")).endswith(("_call", "reasoning"))


def is_valid(items: Sequence[Item]) -> bool:
    """Whether the provider takes it: outputs after their calls, none missing, reasoning before what came of it."""
    waiting: list[str] = []
    for place, item in enumerate(items):
        kind = str(item.get("type"))
        if kind == "reasoning" and not (place + 1 < len(items) and is_output(items[place + 1])):
            return False
        if kind in ("function_call", "custom_tool_call"):
            waiting.append(item["call_id"])
        elif kind.endswith("_output"):
            if item["call_id"] not in waiting:
                return False
            waiting.remove(item["call_id"])
        elif item.get("role") == "user" and waiting:
            return False
    return not waiting


def rounds_of(items: Sequence[Item]) -> list[list[Item]]:
    """What the model said in one go from a reasoning on, each with its neighbours in order."""
    found: list[list[Item]] = []
    run: list[Item] = []
    for item in [*items, {"role": "user"}]:
        if item.get("role") in ("system", "developer"):
            continue
        if is_output(item) and (run or item.get("type") == "reasoning"):
            run.append(item)
            continue
        found += [run] if run else []
        run = []
    return found


# Strategies

_texts = st.one_of(
    said_texts, said_texts, st.builds(lambda text, times: (text + "\n") * times, said_texts, st.integers(5, 40))
)
_idents = st.integers(0, 10**9).map(lambda number: f"{number:032x}")


def _maybe_stored(item: Item, prefix: str) -> st.SearchStrategy[Item]:
    """As the server sent it, or without what the server added."""
    stored = _idents.map(lambda ident: {"id": f"{prefix}_{ident}", **item, "status": "completed"})
    return st.one_of(stored, st.just(item))


_users = st.one_of(
    _texts.map(lambda text: {"role": "user", "content": text}),
    _texts.map(lambda text: {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}),
    _texts.map(
        lambda text: {
            "role": "user",
            "content": [
                {"type": "input_text", "text": text},
                {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"},
            ],
        }
    ),
)
_answers = st.one_of(
    _texts.map(lambda text: {"role": "assistant", "content": text}),
    _texts.flatmap(
        lambda text: _maybe_stored(
            {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}],
            },
            "msg",
        )
    ),
)
_thoughts = st.builds(
    lambda ident, size, has_data: {
        "id": f"rs_{ident}",
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": "**Thinking** about it"}] if size % 2 else [],
        **({"encrypted_content": "gAAAA" + "x" * size} if has_data else {}),
    },
    _idents,
    st.integers(900, 3000),
    st.booleans(),
)
_searches = _idents.map(
    lambda ident: {
        "id": f"ws_{ident}",
        "type": "web_search_call",
        "status": "completed",
        "action": {"type": "search", "query": "weather in Rome"},
    }
)
_systems = _texts.map(lambda text: {"role": "developer", "content": text[:200]})


@st.composite
def _calls(draw: st.DrawFn) -> list[Item]:
    """What the model called in one go, and what came of it."""
    made: list[Item] = []
    outputs: list[Item] = []
    for _ in range(draw(st.integers(1, 3))):
        ident = f"call_{draw(_idents)}"
        text, said = draw(_texts), draw(_texts)
        if draw(st.integers(0, 4)):
            call: Item = {"type": "function_call", "call_id": ident, "name": "bash"}
            call["arguments"] = json.dumps({"command": text}, ensure_ascii=False)
            output: Any = draw(st.sampled_from([said, [{"type": "input_text", "text": said}]]))
            outputs.append({"type": "function_call_output", "call_id": ident, "output": output})
        else:
            call = {"type": "custom_tool_call", "call_id": ident, "name": "apply_patch", "input": text}
            outputs.append({"type": "custom_tool_call_output", "call_id": ident, "output": said})
        made.append(draw(_maybe_stored(call, "fc")))
    return [*made, *draw(st.permutations(outputs))]


@st.composite
def _turns(draw: st.DrawFn) -> list[Item]:
    """A user's message, and what came of it."""
    found: list[Item] = [draw(_users)]
    for _ in range(draw(st.integers(0, 4))):
        found += draw(st.lists(_thoughts, max_size=1))
        found += draw(st.lists(_searches, max_size=draw(st.sampled_from([0, 0, 1]))))
        found += draw(st.lists(_answers, max_size=draw(st.sampled_from([0, 0, 1]))))
        found += draw(_calls())
    if draw(st.booleans()):
        return found
    return [*found, *draw(st.lists(_thoughts, max_size=1)), *draw(st.lists(_searches, max_size=1)), draw(_answers)]


@st.composite
def sessions(draw: st.DrawFn) -> list[list[Item]]:
    """The inputs that one client sends, in order: growing, now and then edited, undone or branched."""
    history: list[Item] = draw(st.lists(_systems, max_size=1))
    sent: list[list[Item]] = []
    for step in draw(st.lists(st.sampled_from(["grow"] * 6 + ["system", "branch"]), min_size=2, max_size=8)):
        if step == "branch" and sent:
            history = list(draw(st.sampled_from(sent)))
        if step == "system":
            history = [*history, draw(_systems)]
        for turn in draw(st.lists(_turns(), min_size=1, max_size=3)):
            history = [*history, *turn]
        sent.append(history)
    return sent


def growing(history: Sequence[Item]) -> list[list[Item]]:
    """What a client sends that lives through this history: every prefix that waits for an answer."""
    return [
        list(history[: end + 1])
        for end, item in enumerate(history)
        if not is_output(item) and (end + 1 == len(history) or is_output(history[end + 1]))
    ]
