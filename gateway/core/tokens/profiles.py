"""Model name -> how its tokens are counted: the encoding and the overheads of its family.

One table, first match wins; unknown models are o200k_base, as every OpenAI model since gpt-4o is. Vendor prefixes
(`openai/gpt-4o`, `azure/...`) and fine-tunes (`ft:gpt-4o:...`) are looked through.
Source: tiktoken's model table (0.14, 2026) and the overheads fitted to recorded usage of 2024 to 2026.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import NamedTuple

O200K = "o200k_base"
CL100K = "cl100k_base"
WORDS = "words"
ENCODINGS = (O200K, CL100K, WORDS)


class Profile(NamedTuple):
    """How one family of models frames messages.

    Attributes:
        encoding: one of `ENCODINGS`.
        priming_tokens: added once a prompt.
        message_tokens: added for each message, beside its role and content.
        name_tokens: added for a message's `name`, beside the name itself.
        assistant_tokens: added for each assistant message in the history.
    """

    encoding: str
    priming_tokens: int = 3
    message_tokens: int = 3
    name_tokens: int = 0
    assistant_tokens: int = 0


_O200K_CHAT = Profile(O200K)
_O200K_REASONING = Profile(O200K, priming_tokens=2, assistant_tokens=2)
_CL100K_CHAT = Profile(CL100K, name_tokens=1)

_TABLE: tuple[tuple[re.Pattern[str], Profile], ...] = tuple(
    (re.compile(pattern), profile)
    for pattern, profile in (
        (r"gpt-5.*-chat", _O200K_CHAT),
        (r"gpt-5|o[134](-|$)", _O200K_REASONING),
        (r"gpt-4o|gpt-4\.[15]|chatgpt-|gpt-audio|gpt-realtime|gpt-oss", _O200K_CHAT),
        (r"gpt-4|gpt-3\.5|gpt-35|text-embedding-|davinci-002|babbage-002", _CL100K_CHAT),
    )
)


def profile_of(model: str, overrides: Mapping[str, str]) -> Profile:
    """How to count for this model.

    Args:
        model: as the request names it.
        overrides: glob pattern -> encoding, tried first, in order.
    """
    name = bare_model(model)
    found = next((profile for pattern, profile in _TABLE if pattern.match(name)), _O200K_CHAT)
    for pattern, encoding in overrides.items():
        if fnmatchcase(model, pattern):
            return found if encoding == found.encoding else Profile(encoding)
    return found


def bare_model(model: str) -> str:
    """The model's own name: without vendor prefixes (`a/b/name`), `ft:` and letter case."""
    return model.lower().rsplit("/", 1)[-1].removeprefix("ft:")
