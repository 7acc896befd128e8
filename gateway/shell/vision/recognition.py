"""Text read from pictures, by the PP-OCR models that come in rapidocr's wheel.

It never downloads: the models are named by their paths, and a model that is not there is an error. The classifier of
directions is not used, as it turns lines that stand upright; a page that lies on its side or upside down is found by
the shape of its lines, and by trying. Lines are recognised one at a time, a little narrower than they are: a batch is
as wide as its widest line, and what a line costs goes with its width (docs/vision-reading.md has the numbers).

Invariants, each with a test of its own:
  1. Words stand inside the picture.
  2. The same picture gives the same words.
  3. A page that is turned by 90, 180 or 270 degrees is read as well as one that stands upright.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import rapidocr

from gateway.core.vision.contents import Rect, Word
from gateway.core.vision.document import PageSize
from gateway.core.vision.turning import turn_rect

Pixels = npt.NDArray[Any]
"""Height x width x 3, of bytes, blue first."""

_DETECT_SIDE_PX = 1152
"""Lines are looked for in a picture no larger."""
_MIN_SIDE_PX = 8
_MIN_SCORE = 0.5
_NARROWED = 0.85
_UNSURE = 0.8
"""Below so much confidence a page may lie upside down."""
_SAMPLES = 5
_WIDE = 1.6
_TALL = 2.5
"""A line that lies is so many times higher than wide; a figure one stands, and is nearly as narrow."""
_MARGIN_ACROSS, _MARGIN_DOWN = 0.15, 0.06
"""What stands around a line where it is found, in its heights."""
_MAX_SKEW = 8.0
_TURNS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}


class Recognised(NamedTuple):
    """What a picture says.

    Attributes:
        words: in pixels of the picture, turned by `skew` about its middle.
        turn: by how many degrees, clockwise, it must be turned for its text to stand upright.
        skew: by how many degrees, clockwise, its lines slope.
    """

    words: Sequence[Word]
    turn: int = 0
    skew: float = 0.0


@functools.cache
def _engine() -> Any:
    """The models, loaded once in a process, at the first picture."""
    models = Path(rapidocr.__file__).parent / "models"
    return rapidocr.RapidOCR(
        params={
            "Global.log_level": "error",
            "Global.use_cls": False,
            "Global.max_side_len": 1 << 16,
            "Global.min_side_len": 1,
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            "Det.model_path": str(models / "PP-OCRv6_det_small.onnx"),
            "Det.limit_type": "max",
            "Det.limit_side_len": _DETECT_SIDE_PX,
            "Rec.model_path": str(models / "PP-OCRv6_rec_small.onnx"),
            "Rec.rec_img_shape": [3, 48, 96],
            "Rec.rec_batch_num": 1,
        }
    )


def recognise(pixels: Pixels) -> Recognised:
    """Read a picture.

    Args:
        pixels: it.

    Returns:
        Its words, line by line.
    """
    height, width = pixels.shape[:2]
    if height < _MIN_SIDE_PX or width < _MIN_SIDE_PX:
        return Recognised([])
    turn, upright, quads = 0, pixels, _detect(pixels)
    if _are_sideways(quads):
        turn, upright, quads = _best_turn(pixels, (0, 90, 270))
    texts = _read_lines(upright, quads)
    if quads and _mean(texts) < _UNSURE:
        turn, upright, better = _best_turn(pixels, ((turn + 180) % 360, turn))
        if better is not quads:
            quads, texts = better, _read_lines(upright, better)
    skew = _skew_of(quads)
    words = [
        word
        for quad, (text, score) in zip(quads, texts, strict=True)
        if score >= _MIN_SCORE and text.strip()
        for word in _split(text, _straighten(quad, skew, upright.shape[1], upright.shape[0]), score)
    ]
    size = PageSize(width=upright.shape[1], height=upright.shape[0])
    return Recognised([_place(word, size, turn) for word in words], turn, skew)


def _detect(pixels: Pixels) -> list[Pixels]:
    """The corners of each line, from its upper left on clockwise."""
    found = _engine()(pixels, use_det=True, use_rec=False)
    boxes = getattr(found, "boxes", None)
    return [] if boxes is None else list(boxes)


def _read_lines(pixels: Pixels, quads: Sequence[Pixels]) -> list[tuple[str, float]]:
    """What stands in each line, and how sure that is."""
    if not quads:
        return []
    lines = [_cut_out(pixels, quad) for quad in quads]
    found = _engine().recognize_txt(lines)
    return [(text, float(score)) for text, score in zip(found.txts, found.scores, strict=True)]


def _cut_out(pixels: Pixels, quad: Pixels) -> Pixels:
    """A line as a picture of its own, narrowed.

    The engine's own cutting turns what is half again as high as wide, and so every lone digit 1.
    """
    wide, high = (max(1, round(side)) for side in _sides(quad))
    narrow = max(8, round(wide * _NARROWED))
    corners = np.array([(0, 0), (wide, 0), (wide, high), (0, high)], dtype=np.float32)
    matrix = cv2.getPerspectiveTransform(np.asarray(quad, dtype=np.float32), corners)
    line = cv2.warpPerspective(pixels, matrix, (wide, high), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return cv2.resize(line, (narrow, high), interpolation=cv2.INTER_AREA)


def _mean(texts: Sequence[tuple[str, float]]) -> float:
    letters = sum(len(text) for text, _ in texts)
    return sum(len(text) * score for text, score in texts) / letters if letters else 0.0


def _sides(quad: Pixels) -> tuple[float, float]:
    """How wide and how high a line is."""
    wide = math.dist(quad[0], quad[1]) + math.dist(quad[3], quad[2])
    high = math.dist(quad[0], quad[3]) + math.dist(quad[1], quad[2])
    return wide / 2, high / 2


def _are_sideways(quads: Sequence[Pixels]) -> bool:
    """Whether most lines, by their length, are higher than wide."""
    sides = [_sides(quad) for quad in quads]
    tall = sum(high for wide, high in sides if high > _TALL * wide)
    return tall > sum(wide for wide, high in sides if wide > _WIDE * high)


def _best_turn(pixels: Pixels, turns: Sequence[int]) -> tuple[int, Pixels, list[Pixels]]:
    """The turn by which some long lines are read with more confidence, the picture turned, and its lines."""
    tried = []
    for turn in turns:
        turned = cv2.rotate(pixels, _TURNS[turn]) if turn else pixels
        quads = _detect(turned)
        longest = sorted(quads, key=lambda quad: -_sides(quad)[0])[:_SAMPLES]
        tried.append((_mean(_read_lines(turned, longest)), turn, turned, quads))
    _, turn, turned, quads = max(tried, key=lambda one: one[0])
    return turn, turned, quads


def _skew_of(quads: Sequence[Pixels]) -> float:
    """By how many degrees lines slope: the median of the long ones; 0 where that is too little to tell, or too much."""
    angles = []
    for quad in quads:
        wide, high = _sides(quad)
        if wide > 5 * high:
            angles.append(math.degrees(math.atan2(float(quad[1][1] - quad[0][1]), float(quad[1][0] - quad[0][0]))))
    if len(angles) < 3:
        return 0.0
    skew = sorted(angles)[len(angles) // 2]
    return skew if 0.2 < abs(skew) < _MAX_SKEW else 0.0


def _straighten(quad: Pixels, skew: float, width: int, height: int) -> Rect:
    """A line's place, after the picture was turned back by its skew."""
    wide, high = _sides(quad)
    wide, high = max(1.0, wide - 2 * _MARGIN_ACROSS * high), max(1.0, high * (1 - 2 * _MARGIN_DOWN))
    x, y = (float(mean) for mean in quad.mean(axis=0))
    angle = math.radians(-skew)
    x, y = x - width / 2, y - height / 2
    x, y = x * math.cos(angle) - y * math.sin(angle), x * math.sin(angle) + y * math.cos(angle)
    x, y = x + width / 2, y + height / 2
    left, top = max(0.0, x - wide / 2), max(0.0, y - high / 2)
    return Rect(left, top, max(left, min(width, x + wide / 2)), max(top, min(height, y + high / 2)))


def _split(text: str, place: Rect, score: float) -> list[Word]:
    """A line's words, placed by the share of its letters."""
    step = place.width / max(1, len(text))
    words, at = [], 0
    for part in text.split():
        at = text.index(part, at)
        left, right = place.left + at * step, place.left + (at + len(part)) * step
        words.append(Word(left, place.top, right, place.bottom, part, confidence=score))
        at += len(part)
    return words


def _place(word: Word, size: PageSize, turn: int) -> Word:
    """A word of the picture that was turned, on the picture as it was."""
    if not turn:
        return word
    place = turn_rect(Rect(word.left, word.top, word.right, word.bottom), size, 360 - turn)
    return word._replace(left=place.left, top=place.top, right=place.right, bottom=place.bottom)
