"""Text read from pictures, by the PP-OCR models that come in rapidocr's wheel.

It never downloads: the models are named by their paths, and a model that is not there is an error. The classifier of
directions is not used: it turns lines that stand upright.

Invariants, each with a test of its own:
  1. Words stand inside the picture.
  2. The same picture gives the same words.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rapidocr

from gateway.core.vision.contents import Word

Pixels = npt.NDArray[np.uint8]
"""Height x width x 3, blue first."""

_DETECT_SIDE_PX = 1280
_MIN_SCORE = 0.5


@functools.cache
def _engine() -> Any:
    """The models, loaded once in a process, at the first picture."""
    models = Path(rapidocr.__file__).parent / "models"
    return rapidocr.RapidOCR(
        params={
            "Global.log_level": "error",
            "Global.use_cls": False,
            "Global.text_score": _MIN_SCORE,
            "Global.max_side_len": 1 << 16,
            "Global.min_side_len": 1,
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            "Det.model_path": str(models / "PP-OCRv6_det_small.onnx"),
            "Det.limit_type": "max",
            "Det.limit_side_len": _DETECT_SIDE_PX,
            "Rec.model_path": str(models / "PP-OCRv6_rec_small.onnx"),
            "Rec.rec_batch_num": 6,
        }
    )


def recognise(pixels: Pixels) -> Sequence[Word]:
    """Read a picture.

    Args:
        pixels: it.

    Returns:
        Words in pixels of the picture.
    """
    height, width = pixels.shape[:2]
    if height < 8 or width < 8:
        return []
    found = _engine()(pixels, return_word_box=True)
    if not found.txts:
        return []
    words: list[Word] = []
    for quad, text, score in zip(found.boxes, found.txts, found.scores, strict=True):
        left, right = float(quad[:, 0].min()), float(quad[:, 0].max())
        top, bottom = float(quad[:, 1].min()), float(quad[:, 1].max())
        words.extend(_split(text, left, top, right, bottom, float(score)))
    return words


def _split(text: str, left: float, top: float, right: float, bottom: float, score: float) -> list[Word]:
    """A line's words, placed by the share of its letters."""
    step = (right - left) / max(1, len(text))
    words, at = [], 0
    for part in text.split():
        at = text.index(part, at)
        words.append(
            Word(left + at * step, top, left + (at + len(part)) * step, bottom, part, bottom - top, confidence=score)
        )
        at += len(part)
    return words
