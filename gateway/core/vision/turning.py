"""Turns a page whose text does not stand upright, and turns places back.

Invariants, each with a test of its own:
  1. Turning a place and turning it back gives the place.
  2. What stands on the page stands on the turned page.
"""

from __future__ import annotations

import math

from gateway.core.vision.contents import PageContents, Rect, Word
from gateway.core.vision.document import PageSize


def turn_contents(contents: PageContents) -> PageContents:
    """The contents of the page with most of its text upright."""
    turn = contents.turn % 360
    if turn not in (90, 180, 270):
        return contents
    size = contents.size
    turned = PageSize(width=size.height, height=size.width) if turn != 180 else size
    return contents._replace(
        size=turned,
        words=[_turn_word(word, size, turn) for word in contents.words],
        rules=[turn_rect(rule, size, turn) for rule in contents.rules],
        pictures=[turn_rect(picture, size, turn) for picture in contents.pictures],
        shapes=[turn_rect(shape, size, turn) for shape in contents.shapes],
        turn=0,
    )


def turn_back(place: Rect, contents: PageContents) -> Rect:
    """A place of the turned page, on the page itself."""
    turn = contents.turn % 360
    size = contents.size
    if turn in (90, 180, 270):
        turned = PageSize(width=size.height, height=size.width) if turn != 180 else size
        place = turn_rect(place, turned, 360 - turn)
    return slope(place, size, contents.skew) if contents.skew else place


def slope(place: Rect, size: PageSize, degrees: float) -> Rect:
    """What holds a place after its page was turned clockwise about its middle."""
    angle = math.radians(degrees)
    across, down = math.cos(angle), math.sin(angle)
    x0, y0 = size.width / 2, size.height / 2
    corners = [(x - x0, y - y0) for x in (place.left, place.right) for y in (place.top, place.bottom)]
    xs = [x * across - y * down + x0 for x, y in corners]
    ys = [x * down + y * across + y0 for x, y in corners]
    return Rect(min(xs), min(ys), max(xs), max(ys))


def _turn_word(word: Word, size: PageSize, turn: int) -> Word:
    place = turn_rect(Rect(word.left, word.top, word.right, word.bottom), size, turn)
    return word._replace(left=place.left, top=place.top, right=place.right, bottom=place.bottom)


def turn_rect(place: Rect, size: PageSize, turn: int) -> Rect:
    """A place, after its page of this size was turned clockwise by so many degrees."""
    left, top, right, bottom = place
    if turn == 90:
        return Rect(size.height - bottom, left, size.height - top, right)
    if turn == 180:
        return Rect(size.width - right, size.height - bottom, size.width - left, size.height - top)
    if turn == 270:
        return Rect(top, size.width - right, bottom, size.width - left)
    return place
