"""Model name -> how its tokens are counted: the encoding, the family whose billing rules hold, the rule for pictures.

One table, first match wins; unknown models are o200k_base, as every OpenAI model since gpt-4o is. Vendor prefixes
(`openai/gpt-4o`, `azure/...`, `models/...`, Bedrock's `us.anthropic.claude-...`), fine-tunes (`ft:gpt-4o:...`) and
deployment names that hold a model's (`prod-gpt-4o-eu`) are looked through.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import NamedTuple

from gateway.core.tokens import images

O200K = "o200k_base"
CL100K = "cl100k_base"
WORDS = "words"
ENCODINGS = (O200K, CL100K, WORDS)
FILE_PREFIX = "hf:"
"""Of an encoding that is a Hugging Face tokenizer.json, before its path."""


class Family(enum.Enum):
    """Models that are billed by the same rules, whatever their encoding; the value names them in logs and tables."""

    GPT_4_FIRST = "gpt-4-0613"
    GPT_4O = "gpt-4o"
    O = "o"  # noqa: E741 - its name
    GPT_5 = "gpt-5"


class Profile(NamedTuple):
    """How one family of models frames messages.

    Attributes:
        encoding: one of `ENCODINGS`, or a file behind `FILE_PREFIX`.
        priming_tokens: added once a prompt.
        message_tokens: added for each message beside its content: the frame, and the role's one token.
        name_tokens: added for a message's `name`, beside the name itself.
        assistant_tokens: added for each answer in the history.
        family: whose rules for tools, calls and formats hold.
        images: the rule for pictures.
        thinks: reasons unless told not to; what that changes is how its past calls are billed.
    """

    encoding: str
    priming_tokens: int = 3
    message_tokens: int = 4
    name_tokens: int = 0
    assistant_tokens: int = 0
    family: Family = Family.GPT_4O
    images: images.ImageRule = images.TILES_GPT_4O
    thinks: bool = False

    @property
    def is_reasoning(self) -> bool:
        """Whether the models of this family have an inner monologue."""
        return self.family in (Family.O, Family.GPT_5)


_GPT_4O = Profile(O200K)
_GPT_4O_MINI = Profile(O200K, images=images.TILES_GPT_4O_MINI)
_GPT_4 = Profile(CL100K, name_tokens=1)
_O = Profile(
    O200K, priming_tokens=2, name_tokens=1, assistant_tokens=2, family=Family.O, images=images.TILES_O, thinks=True
)
_O_MINI = _O._replace(images=images.PATCHES_O4_MINI)
_GPT_5 = _O._replace(family=Family.GPT_5, images=images.TILES_GPT_5)
_GPT_5_PATCHES = _GPT_5._replace(images=images.PATCHES_GPT_5_4, thinks=False)
_UNKNOWN = _GPT_4O

_TABLE: tuple[tuple[str, Profile, str], ...] = (
    # pattern at the start of a name or after a mark in it, profile, where the row is from
    (r"gpt-5-chat", _GPT_4O._replace(images=images.TILES_GPT_5), "o200k, not reasoning: model page (2025-08)"),
    (r"gpt-5\.\d-chat", _GPT_5_PATCHES, "1 record, of Azure's, primed as a reasoning model"),
    (r"gpt-5(\.1-codex)?-mini", _GPT_5._replace(images=images.PATCHES_GPT_5_MINI), "48 records, 2025-12 to 2026-07"),
    (r"gpt-5-nano", _GPT_5._replace(images=images.PATCHES_GPT_5_NANO), "36 records, 2025-08 to 2026-08"),
    (r"gpt-5\.1", _GPT_5._replace(thinks=False), "11 records, 2026-01 to 2026-08; effort none unless asked"),
    (r"gpt-5\.[2346789]", _GPT_5_PATCHES, "129 records, 2025-12 to 2026-08; effort none unless asked"),
    (r"gpt-5\.5", _GPT_5_PATCHES._replace(thinks=True), "9 records, 2026-04 to 2026-07"),
    (r"gpt-5", _GPT_5, "44 records, 2025-08 to 2026-08"),
    (r"gpt-oss", _GPT_4O, "o200k_harmony: o200k_base and special tokens; see priors for its system text"),
    (r"gpt-4o-mini(?!-(audio|realtime|search))", _GPT_4O_MINI, "325 records, 2024-08 to 2026-08"),
    (r"gpt-4\.1-mini", _GPT_4O._replace(images=images.PATCHES_GPT_4_1_MINI), "92 records, 2025-04 to 2026-08"),
    (r"gpt-4\.1-nano", _GPT_4O._replace(images=images.PATCHES_GPT_4_1_NANO), "16 records, 2025-05 to 2026-08"),
    (r"gpt-4o|gpt-4\.[15]|chatgpt-|gpt-audio|gpt-realtime", _GPT_4O, "405 records, 2024-07 to 2026-08"),
    (r"computer-use", _GPT_4O._replace(images=images.TILES_COMPUTER_USE), "1 record, 2025-04"),
    (r"gpt-4(-32k)?-0[36]\d\d|gpt-4-32k", _GPT_4._replace(family=Family.GPT_4_FIRST), "25 records, 2024-02 to 2026-03"),
    (r"gpt-4-(turbo|vision|1106|0125)", _GPT_4, "6 records, 2023-11 to 2026-01"),
    (
        r"gpt-4(?![\d.])",
        _GPT_4._replace(family=Family.GPT_4_FIRST),
        "the name stands for gpt-4-0613 (models page, 2026)",
    ),
    (r"gpt-3\.?5|text-embedding-|code-search|text-search|text-similarity", _GPT_4, "163 records, 2023-04 to 2026-04"),
    (r"(text-|code-)?(davinci|curie|babbage|ada|cushman)(?![a-z])", _GPT_4, "p50k and r50k are not packaged: nearest"),
)
_AT_START: tuple[tuple[str, Profile, str], ...] = (
    # too short to be looked for within a name
    (r"o4-mini", _O_MINI, "17 records, 2025-11 to 2026-07"),
    (r"o[134](-|$)", _O, "7 records, 2025-06 to 2026-07"),
)
_within = tuple((re.compile(rf"(?:^|[^a-z0-9])(?:{pattern})"), profile) for pattern, profile, _ in _TABLE)
_leading = tuple((re.compile(pattern), profile) for pattern, profile, _ in _AT_START)
_bedrock_vendor = re.compile(
    r"^(?:[a-z]{2,6}\.)?(?:openai|anthropic|meta|mistral|amazon|cohere|deepseek|qwen|ai21|moonshot|minimax|google)\."
)


class Template(NamedTuple):
    """What a chat template adds, in tokens: to each message beside its role, and to each prompt."""

    message_tokens: int
    priming_tokens: int


NO_TEMPLATES: Mapping[str, Template] = {}


def profile_of(model: str, overrides: Mapping[str, str], templates: Mapping[str, Template] = NO_TEMPLATES) -> Profile:
    """How to count for this model.

    Args:
        model: as the request names it.
        overrides: glob pattern -> encoding, `hf:` and a file's path, or the name of a model that it is to be counted
            as; tried first, in order.
        templates: glob pattern -> what its chat template adds; tried first, in order.
    """
    profile = _known_as(model)
    for pattern, value in overrides.items():
        if fnmatchcase(model, pattern):
            is_encoding = value in ENCODINGS or value.startswith(FILE_PREFIX)
            profile = profile._replace(encoding=value) if is_encoding else _known_as(value)
            break
    for pattern, template in templates.items():
        if fnmatchcase(model, pattern):
            return profile._replace(**template._asdict())
    return profile


def _known_as(model: str) -> Profile:
    name = bare_model(model)
    for pattern, profile in _leading:
        if pattern.match(name):
            return profile
    return next((profile for pattern, profile in _within if pattern.search(name)), _UNKNOWN)


def bare_model(model: str) -> str:
    """The model's own name: without vendor prefixes (`a/b/name`, `us.vendor.name`), `ft:` and letter case."""
    return _bedrock_vendor.sub("", model.lower().rsplit("/", 1)[-1].removeprefix("ft:"))
