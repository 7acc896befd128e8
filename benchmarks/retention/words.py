"""Words and tokens as the judge sees them; kept apart from the gateway's own, so that it is judged by other code."""

from __future__ import annotations

import json
import re
from functools import lru_cache

from gateway.shell.tokens.rank_files import load_encoding

STOP = frozenset(
    """a about above after again against all also am an and any are aren't as at be because been
before being below between both but by can can't cannot could couldn't did didn't do does doesn't doing don't
down during each few for from further had hadn't has hasn't have haven't having he he'd he'll he's her here
here's hers herself him himself his how how's i i'd i'll i'm i've if in into is isn't it it's its itself just
let's me more most mustn't my myself no nor not of off on once only or other ought our ours ourselves out over
own same shan't she she'd she'll she's should shouldn't since so some such than that that's the their theirs
them themselves then there there's these they they'd they'll they're they've this those through to too under
until up very was wasn't we we'd we'll we're we've were weren't what what's when when's where where's which
while who who's whom why why's will with won't would wouldn't yes you you'd you'll you're you've your yours
yourself yourselves""".split()  # noqa: SIM905 - a list of 170 lines reads worse
)
_WORD = re.compile(r"[^\W_]+(?:'[a-z]+)?", re.U)
_CJK = re.compile(r"([\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af])")


def words(text: str) -> list[str]:
    """Lower-case words; a CJK character is one."""
    text = _CJK.sub(r" \1 ", text.lower().replace("\u2019", "'"))
    return _WORD.findall(text)


def stem(w: str) -> str:
    """A small suffix stripper: enough to match paint/paints/painted/painting."""
    if w.endswith("'s"):
        w = w[:-2]
    if len(w) <= 3 or w.isdigit():
        return w
    for suffix, to in (("ies", "y"), ("sses", "ss"), ("ing", ""), ("ed", ""), ("ly", ""), ("es", ""), ("s", "")):
        if w.endswith(suffix) and len(w) - len(suffix) >= 3 and not (suffix == "s" and w.endswith("ss")):
            w = w[: len(w) - len(suffix)] + to
            break
    if len(w) > 3 and w[-1] == w[-2] and w[-1] not in "aeiouls":
        w = w[:-1]
    return w[:-1] if len(w) > 3 and w.endswith("e") else w


def stems(text: str) -> list[str]:
    """Content words without their endings."""
    return [stem(w) for w in words(text) if w not in STOP]


@lru_cache(1)
def _encoding():
    return load_encoding("o200k_base")


_tok_cache: dict[str, int] = {}


def ntok(text: str) -> int:
    """o200k_base tokens of a text."""
    n = _tok_cache.get(text)
    if n is None:
        n = len(_encoding().encode(text, disallowed_special=()))
        if len(_tok_cache) < 500_000:
            _tok_cache[text] = n
    return n


def text_of(m: dict) -> str:
    """Everything a model reads in a message: text parts and tool calls."""
    c = m.get("content")
    if isinstance(c, list):
        c = "\n".join(p.get("text", "") for p in c if isinstance(p, dict))
    out = c or ""
    for t in m.get("tool_calls") or []:
        f = t.get("function", {})
        out += f"\n{f.get('name', '')} {f.get('arguments', '')}"
    return out


def message_tokens(m: dict) -> int:
    """o200k_base tokens of a message, 3 of them for its frame."""
    return 3 + ntok(text_of(m)) + (ntok(m["name"]) + 1 if m.get("name") else 0)


def prompt_tokens(messages: list[dict], tools=None) -> int:
    """o200k_base tokens, 3 a message and 3 to start the reply; tool schemas as JSON."""
    return 3 + sum(map(message_tokens, messages)) + (ntok(json.dumps(tools)) if tools else 0)
