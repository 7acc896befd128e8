"""How finely a region is read at each fidelity.

Two tables: for this machine's own reading, the size at which the region is rendered, chosen from measurement
(docs/vision-reading.md, `python3 dev.py eval-vision`); for a vision model, the size of the picture that it is sent.

A vision model of DeepSeek-OCR's kind makes one vision token of 64 x 64 pixels: its square modes are 512 pixels a side
for 64 tokens, 640 for 100, 1024 for 256 and 1280 for 400 (DeepSeek-OCR, arXiv:2510.18234, table 1). A fidelity of n is
n text tokens for a vision token; the paper reads about 97 % of the letters rightly below 10, and about 60 % at 20.

Invariants, each with a test of its own:
  1. A finer fidelity never renders coarser.
  2. The size for a vision model stays between 256 and 1280 pixels, whatever the region.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from gateway.core.vision.document import Box, Fidelity

LOCAL_DPI: Mapping[Fidelity, int] = {
    Fidelity.SKIM: 64,
    Fidelity.DEFAULT: 96,
    Fidelity.FINE: 128,
    Fidelity.EXACT: 144,
}
"""Dots to the inch at which a region is rendered before it is read here."""

TOKEN_SIDE_PX = 64
"""A vision token's side on the picture that a model is sent."""
_MIN_SIDE_PX = 256
_MAX_SIDE_PX = 1280
_MIN_TOKENS = 16
"""A picture of fewer says nothing."""


def vision_side(box: Box, token_estimate: int, fidelity: Fidelity) -> int:
    """How long the longer side of a region's picture is to be for a vision model.

    Args:
        box: the region's place, for its shape.
        token_estimate: of its text.
        fidelity: at which it is read.

    Returns:
        Pixels, a multiple of `TOKEN_SIDE_PX`, so that the picture has about `token_estimate / fidelity.ratio` vision
        tokens; the largest size where the text is wanted exactly.
    """
    if fidelity is Fidelity.EXACT:
        return _MAX_SIDE_PX
    tokens = max(_MIN_TOKENS, token_estimate / fidelity.ratio)
    longer, shorter = max(box.w, box.h, 1), max(min(box.w, box.h), 1)
    side = math.sqrt(tokens * longer / shorter) * TOKEN_SIDE_PX
    steps = math.ceil(min(side, _MAX_SIDE_PX) / TOKEN_SIDE_PX)
    return min(_MAX_SIDE_PX, max(_MIN_SIDE_PX, steps * TOKEN_SIDE_PX))
