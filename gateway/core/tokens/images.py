"""What a picture costs: by tiles of 512 pixels or by patches of 32, from its width, height and `detail`.

One table row per model family; `profiles.py` says which family a model is of. A picture whose size is not known
(a remote URL, a file id, a damaged header) is taken for `ASSUMED_SIZE`.

Invariants, each with a test of its own:
  1. Any width, height and detail has a cost above 0, bounded by its family's largest.
  2. A larger picture of the same shape never costs less.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple


class Size(NamedTuple):
    """Width and height in pixels. A picture turned by its EXIF data costs the same."""

    width: int
    height: int


class TileRule(NamedTuple):
    """Fit into 2048 x 2048, shrink the shortest side to 768, count tiles of 512 x 512.

    Attributes:
        base_tokens: for any picture, and all of one at `detail: low`.
        tile_tokens: for each tile.
    """

    base_tokens: int
    tile_tokens: int


class PatchRule(NamedTuple):
    """Count patches of 32 x 32, shrinking the picture until they are at most `max_patches`.

    Attributes:
        tokens_per_patch: the model's multiplier.
        max_patches: at the default detail and at `high`.
        frame_tokens: for any picture beside its patches.
        has_details: whether `low` and `original` change the number of patches.
    """

    tokens_per_patch: float
    max_patches: int = 1536
    frame_tokens: int = 0
    has_details: bool = False


ImageRule = TileRule | PatchRule

# Source of tiles: developers.openai.com/api/docs/guides/images-vision (2026-03); the rows marked * are confirmed by all
# recorded requests with a picture of known size (1 x 1 to 2560 x 1669, 2023-11 to 2026-04).
TILES_GPT_4O: Final = TileRule(85, 170)  # * gpt-4o, gpt-4.1, gpt-4.5, gpt-4-turbo, gpt-4-vision
TILES_GPT_4O_MINI: Final = TileRule(2833, 5667)  # * so that a picture costs as many cents as with gpt-4o
TILES_GPT_5: Final = TileRule(70, 140)  # gpt-5, gpt-5.1, gpt-5-chat
TILES_O: Final = TileRule(75, 150)  # o1, o1-pro, o3
TILES_COMPUTER_USE: Final = TileRule(65, 129)

# Source of patches: the same page; multipliers marked * are fitted to recorded usage where the page's do not hold.
PATCHES_GPT_4_1_MINI: Final = PatchRule(1.62)  # 72 patches: 117 (2025-04)
PATCHES_GPT_4_1_NANO: Final = PatchRule(2.46, frame_tokens=1)  # 16 patches: 41 (2026-06)
PATCHES_O4_MINI: Final = PatchRule(1.72)
PATCHES_GPT_5_MINI: Final = PatchRule(1.2, frame_tokens=1)  # * 342 patches: 412, 130: 157 (2026-02)
PATCHES_GPT_5_NANO: Final = PatchRule(1.5, frame_tokens=1)  # * 1: 3, 1488: 2233 (2025-08); 48: 72 (2026-06)
PATCHES_GPT_5_4: Final = PatchRule(1.21875, max_patches=2500, has_details=True)  # * 256: 312, 80: 98 (2026-08)

ASSUMED_SIZE: Final = Size(800, 600)
"""Of a picture whose size nobody can read from the request. Of 22 recorded requests with pictures by URL it bills 6 too
low, as 1024 x 1024 does, with half of that one's mean error; 640 x 480 bills 9 too low."""
_TILE_PX = 512
_PATCH_PX = 32
_LOW_PATCHES = 256
"""`detail: low` shows a model with patches a picture of 512 x 512 at most."""
_ORIGINAL_PATCHES = 10_000
_MAX_SIDE_PX = 65_535
"""No format that is read has more; a larger number is a lie and costs no more."""


def image_tokens(rule: ImageRule, size: Size | None, detail: str = "auto") -> int:
    """Tokens of one picture.

    Args:
        rule: of the model's family.
        size: in pixels, or None where it is unknown.
        detail: `low`, `high`, `auto` or `original`; anything else is as `auto`.
    """
    width, height = (min(max(1, side), _MAX_SIDE_PX) for side in size or ASSUMED_SIZE)
    if isinstance(rule, TileRule):
        return rule.base_tokens if detail == "low" else rule.base_tokens + rule.tile_tokens * _tiles(width, height)
    return rule.frame_tokens + math.ceil(_patches(width, height, _max_patches(rule, detail)) * rule.tokens_per_patch)


def _tiles(width: float, height: float) -> int:
    scale = min(1.0, 2048 / max(width, height))
    scale *= min(1.0, 768 / (min(width, height) * scale))
    return math.ceil(round(width * scale) / _TILE_PX or 1) * math.ceil(round(height * scale) / _TILE_PX or 1)


def _max_patches(rule: PatchRule, detail: str) -> int:
    if not rule.has_details:
        return rule.max_patches
    return {"low": _LOW_PATCHES, "original": _ORIGINAL_PATCHES}.get(detail, rule.max_patches)


def _patches(width: int, height: int, most: int) -> int:
    """Patches that cover the picture, shrunk so that a whole number of them fits if there are too many."""
    patches = math.ceil(width / _PATCH_PX) * math.ceil(height / _PATCH_PX)
    if patches <= most:
        return patches
    scale = math.sqrt(_PATCH_PX**2 * most / (width * height))
    across, down = width * scale / _PATCH_PX, height * scale / _PATCH_PX
    scale *= min(max(1, math.floor(across)) / across, max(1, math.floor(down)) / down)
    covered = math.ceil(round(width * scale) / _PATCH_PX or 1) * math.ceil(round(height * scale) / _PATCH_PX or 1)
    return max(1, min(most, covered))
