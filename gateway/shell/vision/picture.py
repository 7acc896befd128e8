"""Reads pictures: PNG, JPEG, WebP, TIFF with its pages, the first frame of GIF, and BMP.

Invariants, each with a test of its own:
  1. A picture's size is taken from its header, and refused above the limit, before anything is decoded.
  2. A picture stands as its EXIF orientation says.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

from gateway.core.vision.contents import PageContents, Rect, drop_cut
from gateway.core.vision.document import RENDER_DPI, Box, LaidPage, PageSize, Reading
from gateway.core.vision.layout import lay_out, read_box
from gateway.shell.vision.unreadable import Unreadable

if TYPE_CHECKING:
    from gateway.shell.vision.source import ReadLimits

_ORIENTATION_TAG = 0x0112
_SIDEWAYS = (5, 6, 7, 8)
"""Orientations that swap width and height (EXIF 2.32, tag Orientation)."""
_MAX_UPSCALE = 2.0


class PictureSource:
    """A picture, or pages of pictures."""

    def __init__(self, data: bytes, format_: str, media_type: str, limits: ReadLimits) -> None:
        self.media_type = media_type
        self._limits = limits
        self._shown: tuple[int, Image.Image] | None = None
        Image.MAX_IMAGE_PIXELS = limits.max_pixels
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._image = Image.open(io.BytesIO(data), formats=[format_])
                self.page_count = int(getattr(self._image, "n_frames", 1)) if format_ == "TIFF" else 1
        except Image.DecompressionBombError as fault:
            raise Unreadable(f"The picture has more than {limits.max_pixels} pixels, which is the limit.") from fault
        except Exception as fault:
            raise Unreadable(f"The picture is broken: it cannot be opened as {format_} ({len(data)} bytes).") from fault
        self._check_pixels()
        if self.page_count > limits.max_pages:
            raise Unreadable(f"The document has {self.page_count} pages; the limit is {limits.max_pages}.")

    def _check_pixels(self) -> None:
        width, height = self._image.size
        if width * height > self._limits.max_pixels:
            raise Unreadable(
                f"The picture has {width}x{height} = {width * height} pixels; the limit is {self._limits.max_pixels}."
            )
        if width < 1 or height < 1:
            raise Unreadable(f"The picture has {width}x{height} pixels.")

    def _page(self, page: int) -> Image.Image:
        """A page, decoded and upright, as RGB; the last one is kept."""
        if not 1 <= page <= self.page_count:
            raise Unreadable(f"There is no page {page}: the document has {self.page_count}.")
        if self._shown is None or self._shown[0] != page:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    self._image.seek(page - 1)
                    self._check_pixels()
                    self._shown = (page, _flatten(ImageOps.exif_transpose(self._image)))
            except Unreadable:
                raise
            except Exception as fault:
                raise Unreadable(f"Page {page} of the picture is broken: it cannot be decoded.") from fault
        return self._shown[1]

    def read(self, page: int) -> LaidPage:
        """See `Source`."""
        image = self._page(page)
        size = PageSize(width=image.width, height=image.height)
        contents = read_picture(image, size) if self._limits.ocr else PageContents(size, [], has_text_layer=False)
        return lay_out(contents, whole_is_picture=True)

    def render(self, page: int, box: Box | None, max_side_px: int) -> bytes:
        """See `Source`."""
        image = self._page(page)
        if box is not None:
            image = _crop(image, box)
        if max(image.size) > max_side_px:
            image = image.copy()
            image.thumbnail((max(1, max_side_px), max(1, max_side_px)))
        return to_png(image)

    def decode(self, page: int, box: Box, dpi: int) -> Reading:
        """See `Source`."""
        image = self._page(page)
        if not self._limits.ocr:
            return Reading(text="", confidence=None)
        image = _crop(image, box)
        scale = min(_MAX_UPSCALE, dpi / RENDER_DPI, math.sqrt(self._limits.max_pixels / (image.width * image.height)))
        scaled = (max(1, int(image.width * scale)), max(1, int(image.height * scale)))
        return read_scaled(image.resize(scaled, Image.Resampling.LANCZOS), image.width / scaled[0])

    def close(self) -> None:
        """See `Source`."""
        self._shown = None
        self._image.close()


def read_picture(image: Image.Image, size: PageSize) -> PageContents:
    """What stands on a picture, in pixels of the page of this size that it shows."""
    from gateway.shell.vision.ink import find_ink, straighten
    from gateway.shell.vision.recognition import recognise

    pixels = np.ascontiguousarray(np.asarray(image)[:, :, ::-1])
    found = recognise(pixels)
    ink = find_ink(straighten(pixels, found.skew), found.words)
    factor = size.width / image.width
    words = [
        word._replace(
            left=word.left * factor, right=word.right * factor, top=word.top * factor, bottom=word.bottom * factor
        )
        for word in found.words
    ]
    return PageContents(
        size,
        words,
        scale_places(ink.rules, factor),
        scale_places(ink.pictures, factor),
        scale_places(ink.shapes, factor),
        has_text_layer=False,
        turn=found.turn,
        skew=found.skew,
    )


def scale_places(places: Sequence[Rect], factor: float) -> list[Rect]:
    """Places on a picture that is so much larger."""
    return [Rect(*(edge * factor for edge in place)) for place in places]


def read_scaled(image: Image.Image, factor: float) -> Reading:
    """What a picture says that is a page's part which is so much larger."""
    size = PageSize(width=math.ceil(image.width * factor), height=math.ceil(image.height * factor))
    return read_box(drop_cut(read_picture(image, size)))


def to_png(image: Image.Image) -> bytes:
    """A picture's bytes."""
    out = io.BytesIO()
    image.save(out, "PNG", compress_level=3)
    return out.getvalue()


def clip_box(box: Box, size: PageSize) -> Box:
    """The part of a box that is on the page.

    Raises:
        Unreadable: there is none.
    """
    left, top = max(0, box.x), max(0, box.y)
    right, bottom = min(size.width, box.x + box.w), min(size.height, box.y + box.h)
    if right <= left or bottom <= top:
        raise Unreadable(
            f"The box {box.x},{box.y} {box.w}x{box.h} is not on the page of {size.width}x{size.height} pixels."
        )
    return Box(x=left, y=top, w=right - left, h=bottom - top)


def _crop(image: Image.Image, box: Box) -> Image.Image:
    """A part of a picture."""
    part = clip_box(box, PageSize(width=image.width, height=image.height))
    return image.crop((part.x, part.y, part.x + part.w, part.y + part.h))


def _flatten(image: Image.Image) -> Image.Image:
    """As RGB on white; pictures of 16 bits keep their upper 8."""
    if image.mode.startswith("I"):
        levels = np.asarray(image).astype(np.int64)
        if levels.size and levels.max() > 255:
            levels = levels >> 8
        return Image.fromarray(levels.clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")
