"""What costs prompt tokens in a request beside its messages: tools, formats, choices, prompts, inputs.

Says which texts are to be counted; `frames.py` says what is added. Tools are one text, as they are shown to the model;
what cannot be rendered is counted as its JSON. Tools that the provider runs (web search, code interpreter ...) bring
texts that nobody outside has seen: each has a flat estimate.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from gateway.core.tokens.calls import TO_FUNCTION
from gateway.core.tokens.content import as_json
from gateway.core.tokens.frames import CHOICE_KEYS, FORMAT_KEYS, TOOLS_KEYS, Counted
from gateway.core.tokens.profiles import Family, Profile
from gateway.core.tokens.schema_format import render_format
from gateway.core.tokens.schema_text import Manner, render_tools
from gateway.core.tokens.weight import Weight
from gateway.core.wire.request import Endpoint

HOSTED_TOOLS: Final[Mapping[str, int]] = {
    # kind -> tokens of its instructions; what it fetches is billed on top and cannot be known before
    "web_search": 295,  # 2 records without results, 2025; with results 4,400 to 116,000 in 8 records
    "file_search": 1_150,  # 1 record, results included, 2025
    "code_interpreter": 1_300,  # 2 records, 1,320 and 3,709
    "image_generation": 1_875,  # 1 record
    "mcp": 100,  # 2 records of small servers: 80 and 132
    "tool_search": 55,  # 7 records, 2026: 43 to 60
    "computer": 1_000,  # assumed
    "shell": 800,  # assumed
    "apply_patch": 700,  # assumed
}
_OTHER_HOSTED_TOKENS: Final = 300
_GRAMMAR_TOKENS: Final = 47
"""Of a custom tool's grammar, beside its definition: 1 record, 2025-08."""
_PLAIN_TOOLS: Final = frozenset({"function", "custom"})


class Section(NamedTuple):
    """A section's texts, before they are counted.

    Attributes:
        weight: its texts, and tokens that are no text.
        name: of a format, or a forced function as the head of its call; counted by itself; "" if there is none.
        is_text: see `Counted`.
        undescribed: see `Counted`.
    """

    weight: Weight
    name: str = ""
    is_text: bool = True
    undescribed: int = 0

    @property
    def all_texts(self) -> tuple[str, ...]:
        """Every text that has to be tokenised; the name comes last."""
        return (*self.weight.all_texts, self.name) if self.name else self.weight.all_texts

    def counted(self, tokens: list[int]) -> Counted:
        """The section with the tokens of `all_texts`."""
        name_tokens = tokens[-1] if self.name else 0
        texts = tokens[:-1] if self.name else tokens
        return Counted(self.weight.total(texts), name_tokens, self.is_text, self.undescribed)


_NOTHING: Final = Section(Weight((), 0), is_text=False)


def weigh_section(key: str, value: Any, endpoint: Endpoint, profile: Profile) -> Section:
    """A section's weight.

    Args:
        key: of the request's body.
        value: parsed; any JSON.
        endpoint: of the request.
        profile: of its model.
    """
    if value is None or (key == "instructions" and not value):
        return _NOTHING
    if key in TOOLS_KEYS:
        return _weigh_tools(value, endpoint, profile)
    if key in FORMAT_KEYS:
        return _weigh_format(value)
    if key in CHOICE_KEYS:
        name = _forced_name(value)
        return Section(Weight((), 0), TO_FUNCTION + name if name else "", is_text=False)
    if endpoint is Endpoint.RESPONSES and isinstance(value, str):  # instructions, or an input that is one message
        return Section(Weight((value,) if value else (), profile.message_tokens), is_text=False)
    return Section(weigh_value(value), is_text=False)


def _weigh_tools(value: Any, endpoint: Endpoint, profile: Profile) -> Section:
    tools = value if isinstance(value, list) else [value]
    plain = [function for tool in tools if (function := _function_of(tool)) is not None]
    hosted = sum(_hosted_tokens(tool) for tool in tools if _function_of(tool) is None)
    is_chat = endpoint is Endpoint.CHAT
    manner = Manner(profile.family is Family.GPT_4_FIRST, is_chat)
    if not plain:
        return Section(Weight((), hosted), is_text=False)
    text = render_tools(plain, manner) or as_json(plain)
    undescribed = sum(not function.get("description") for function in plain)
    grammars = sum(isinstance(function.get("format"), Mapping) for function in plain)
    return Section(Weight((text,), hosted + _GRAMMAR_TOKENS * grammars), undescribed=undescribed)


def _function_of(tool: Any) -> Mapping[str, Any] | None:
    """What a tool calls itself: chat nests it, Responses does not, `functions` holds it bare, Anthropic renames it."""
    if not isinstance(tool, Mapping):
        return None
    for key in ("function", "custom"):
        if isinstance(nested := tool.get(key), Mapping):
            return {"type": key, **nested}
    if "input_schema" in tool:
        return {**tool, "parameters": tool["input_schema"]}
    return tool if str(tool.get("type", "function")) in _PLAIN_TOOLS and "name" in tool else None


def _hosted_tokens(tool: Any) -> int:
    kind = str(tool.get("type", "")) if isinstance(tool, Mapping) else ""
    return next((tokens for name, tokens in HOSTED_TOOLS.items() if kind.startswith(name)), _OTHER_HOSTED_TOKENS)


def _weigh_format(value: Any) -> Section:
    """`response_format` of chat, or `text` with its `format` of Responses."""
    shape = value.get("format", value) if isinstance(value, Mapping) else None
    if not isinstance(shape, Mapping) or shape.get("type") != "json_schema":
        return _NOTHING
    found = shape.get("json_schema", shape)
    if not isinstance(found, Mapping):
        return _NOTHING
    name = str(found.get("name") or "")
    try:
        text = render_format(name, found.get("description"), found.get("schema"))
    except RecursionError:
        text = as_json(found)
    return Section(Weight((text,), 0), name)


def _forced_name(choice: Any) -> str:
    if not isinstance(choice, Mapping):
        return ""
    named = choice.get("function") or choice.get("custom") or choice
    name = named.get("name") if isinstance(named, Mapping) else None
    return name if isinstance(name, str) else ""


def weigh_value(value: Any) -> Weight:
    """The weight of a prompt or an embeddings input: a text, token ids, or lists of them.

    Each text costs its tokens, each token id one, and nothing is added. Source: 70 recorded embeddings (69 exact) and
    19 legacy completions (18 exact), 2023-04 to 2026-04.
    """
    texts: list[str] = []
    fixed = _gather(value, texts)
    return Weight(tuple(texts), fixed)


def _gather(value: Any, texts: list[str]) -> int:
    """The tokens of what is no text; ids that came as floats are ids all the same."""
    if isinstance(value, str):
        texts.append(value)
        return 0
    if value is None or isinstance(value, bool):
        return 0
    if isinstance(value, int | float):
        return 1
    if isinstance(value, Mapping):
        texts.append(as_json(value))
        return 0
    return sum(_gather(item, texts) for item in value)
