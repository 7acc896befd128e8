"""Scans and photos of made documents: rendered, and made worse as scanners and cameras do, by a fixed seed."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pypdfium2
from PIL import Image, ImageFilter

_SEED = 7
SCAN_DPI = 144


def render_pages(data: bytes, dpi: int = SCAN_DPI) -> list[Image.Image]:
    """A PDF's pages as pictures."""
    document = pypdfium2.PdfDocument(data)
    pages = [page.render(scale=dpi / 72).to_pil().convert("RGB") for page in document]
    document.close()
    return pages


def clean(image: Image.Image) -> Image.Image:
    """A good scan."""
    return image


def degraded(image: Image.Image) -> Image.Image:
    """A bad scan: a degree askew, blurred, grey, noisy, and saved as JPEG of quality 50."""
    turned = image.rotate(-SLOPES["degraded"], resample=Image.Resampling.BICUBIC, fillcolor="white")
    return _jpeg(_noisy(turned.filter(ImageFilter.GaussianBlur(0.7)), 10.0, 60, 225), 50)


def photo(image: Image.Image) -> Image.Image:
    """A photo of a page: a shadow across, low contrast, two degrees askew, JPEG of quality 70."""
    turned = image.rotate(-SLOPES["photo"], resample=Image.Resampling.BICUBIC, fillcolor=(235, 235, 230))
    shade = np.linspace(1.0, 0.62, turned.width)[None, :, None]
    shaded = Image.fromarray((np.asarray(turned) * shade).astype(np.uint8))
    return _jpeg(_noisy(shaded.filter(ImageFilter.GaussianBlur(0.6)), 5.0, 30, 220), 70)


KINDS: Mapping[str, Callable[[Image.Image], Image.Image]] = {"clean": clean, "degraded": degraded, "photo": photo}


SLOPES: Mapping[str, float] = {"clean": 0.0, "degraded": 1.0, "photo": -2.0}
"""By how many degrees, clockwise, pages of a kind are turned about their middle."""


def to_png(image: Image.Image) -> bytes:
    """A picture's bytes."""
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def _noisy(image: Image.Image, sigma: float, black: int, white: int) -> Image.Image:
    levels: npt.NDArray[Any] = np.asarray(image).astype(np.float32)
    levels = black + levels * (white - black) / 255
    levels = levels + np.random.default_rng(_SEED).normal(0.0, sigma, levels.shape)
    return Image.fromarray(levels.clip(0, 255).astype(np.uint8))


def _jpeg(image: Image.Image, quality: int) -> Image.Image:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return Image.open(io.BytesIO(out.getvalue())).convert("RGB")
