"""What is roughly known of models whose tokenizer or template is not: where a correction starts that is learned later.

The estimate counts texts with o200k_base and frames them as gpt-4o does. A prior says how far that is from what a
family's providers bill: a factor, tokens once a prompt, and tokens once a prompt with tools. Weights never use it.
Source: 315 recorded requests to other providers, 2024 to 2026; each row says how many stand behind it.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from gateway.core.tokens.profiles import bare_model


class Prior(NamedTuple):
    """How a family's bill differs from the estimate.

    bill = ratio x (estimate without tools) + fixed_tokens + tools_ratio x (estimate of tools) + tools_fixed_tokens,
    the last two only with tools.

    Attributes:
        ratio: of the bill to the estimate on long texts.
        fixed_tokens: once a prompt.
        tools_fixed_tokens: once a prompt that has tools, beside `fixed_tokens`.
        tools_ratio: of the bill of tools to the estimate of their text.
        records: recorded requests behind the row; 0 where it is taken from a documentation.
    """

    ratio: float = 1.0
    fixed_tokens: int = 0
    tools_fixed_tokens: int = 0
    tools_ratio: float = 1.0
    records: int = 0

    def bill(self, estimate_tokens: int, tools_tokens: int) -> int:
        """What the provider is likely to bill.

        Args:
            estimate_tokens: of the whole prompt, as it was counted here.
            tools_tokens: what of it is the tools' section.
        """
        tools = round(self.tools_ratio * tools_tokens) + self.tools_fixed_tokens if tools_tokens else 0
        return max(1, round(self.ratio * (estimate_tokens - tools_tokens)) + self.fixed_tokens + tools)


EXACT: Final = Prior()
UNKNOWN: Final = Prior(ratio=1.05, fixed_tokens=5, tools_ratio=1.5)
"""Of a model that no row is of: most other vocabularies are smaller than o200k."""

_TABLE: Final[tuple[tuple[str, Prior], ...]] = (
    # ratio, once a prompt, once a prompt with tools, factor of the tools' text, records
    (r"gpt-oss", Prior(1.0, 60, 20, 1.0, 50)),  # a system text with the date comes with every prompt
    (r"gpt-|chatgpt|o[134](-|$)|text-embedding|davinci|babbage|computer-use", EXACT),
    (r"embed", EXACT),  # others' embeddings: short texts only
    (r"claude", Prior(1.12, 0, 400, 4.0, 38)),  # instructions for tools; long texts 1.00 to 1.17
    (r"llama-?guard", Prior(1.0, 165, records=15)),  # the policy that it judges by
    (r"llama-?4", Prior(1.0, 5, 650, 1.5, 7)),
    (r"llama|hermes", Prior(1.03, 18, 0, 3.4, 38)),  # a dated system text, on most servers; tools as indented JSON
    (r"mistral|mixtral|codestral|devstral|magistral|ministral|pixtral", Prior(1.0, -3, 0, 1.85, 45)),
    (r"deepseek", Prior(1.0, -4, 230, 1.7, 29)),
    (r"qwen|qwq", Prior(1.0, 2, 100, 1.6, 36)),
    (r"gemini|gemma", Prior(0.95, -5, 0, 0.5, 20)),
    (r"grok", Prior(1.0, 200, 130, 1.0, 13)),  # 185 to 680 in single prompts
    (r"kimi|moonshot", Prior(1.0, 0, 30, 1.0, 7)),
    (r"glm", Prior(1.0, -2, 75, 2.1, 7)),
    (r"sonar", Prior(1.0, -6, records=8)),
    (r"compound", Prior(1.0, 5_000, records=2)),  # a hosted search: 5,000 and 14,000
)
_patterns = tuple((re.compile(pattern), prior) for pattern, prior in _TABLE)


def prior_of(model: str) -> Prior:
    """What is known of this model's bills before the first was seen.

    Args:
        model: as the request names it.
    """
    name = bare_model(model)
    return next((prior for pattern, prior in _patterns if pattern.search(name)), UNKNOWN)
