"""What is drawn on a picture besides its text is found, and text is not taken for it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from gateway.core.vision.contents import Rect, Word
from gateway.shell.vision.ink import find_ink, straighten

WHITE = np.full((600, 800, 3), 245, dtype=np.uint8)
SENTENCE = "Ships that came at night waited"


def with_text() -> tuple[np.ndarray, list[Word]]:
    """A page of lines of text, and where they stand."""
    pixels = WHITE.copy()
    words = []
    for row in range(6):
        cv2.putText(pixels, SENTENCE, (60, 100 + 40 * row), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (30, 30, 30), 2)
        words.append(Word(58, 76 + 40 * row, 500, 110 + 40 * row, "text"))
    return pixels, words


def shadow(pixels: np.ndarray) -> np.ndarray:
    """The same in a shadow that falls across."""
    return (pixels * np.linspace(1.0, 0.6, pixels.shape[1])[None, :, None]).astype(np.uint8)


@pytest.mark.parametrize("is_shaded", [False, True])
def test_text_alone_is_neither_lines_nor_figures(is_shaded: bool) -> None:
    """Nor is the paper, where a shadow falls on it."""
    pixels, words = with_text()
    ink = find_ink(shadow(pixels) if is_shaded else pixels, words)

    assert (ink.rules, ink.pictures, ink.shapes) == ([], [], [])


@pytest.mark.parametrize("is_shaded", [False, True])
def test_ruling_lines_and_pictures_are_found(is_shaded: bool) -> None:
    """At their places, which stand inside the picture."""
    pixels, words = with_text()
    cv2.line(pixels, (60, 400), (700, 400), (20, 20, 20), 2)
    cv2.rectangle(pixels, (100, 450), (300, 560), (90, 60, 60), -1)
    ink = find_ink(shadow(pixels) if is_shaded else pixels, words)

    assert len(ink.rules) == 1
    assert ink.rules[0].width == pytest.approx(640, abs=8)
    assert len(ink.pictures) == 1
    assert ink.pictures[0] == pytest.approx(Rect(100, 450, 301, 561), abs=4)


def test_a_sloping_page_is_straightened() -> None:
    """A line that slopes by a degree runs level after."""
    pixels = WHITE.copy()
    cv2.line(pixels, (50, 300), (750, 312), (20, 20, 20), 2)
    level = straighten(pixels, 0.98)
    rows = np.nonzero((level < 128).any(axis=(1, 2)))[0]

    assert rows.max() - rows.min() <= 5
    assert straighten(pixels, 0.0) is pixels


def test_a_tiny_picture_has_nothing_on_it() -> None:
    """Pictures of a few pixels raise nothing."""
    ink = find_ink(np.zeros((3, 2, 3), dtype=np.uint8), [])

    assert (ink.rules, ink.pictures, ink.shapes) == ([], [], [])
