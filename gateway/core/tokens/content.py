"""What the parts of a message cost: text as it is, pictures by their rule, sound and files by stated assumptions.

Parts of chat completions, of the Responses API and of Anthropic's Messages are all understood, since clients and
gateways mix them. Text parts that follow each other are one text: they cost nothing by themselves.
Source: recorded requests with content parts (255 of OpenAI's, 2023-11 to 2026-08).
"""

from __future__ import annotations

from binascii import a2b_base64
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from gateway.core.tokens.images import ImageRule, image_tokens
from gateway.core.tokens.pictures import picture_size


class Parts(NamedTuple):
    """A content's texts, to be tokenised each by itself, and the tokens of whatever is no text."""

    texts: tuple[str, ...]
    fixed_tokens: int


NOTHING: Final = Parts((), 0)

# Assumptions, each where no rule can be known from the request; source: the vendor's page and its date.
AUDIO_TOKENS_PER_SECOND: Final = 10
"""Of `input_audio`: 600 a minute (the vendor's page on realtime costs, 2025-09)."""
_AUDIO_FRAME_TOKENS: Final = 4
"""2 records of short WAV files, 2025-10 and 2026: 6 and 8 tokens for 0.13 and 0.27 s."""
_AUDIO_BYTES_PER_SECOND: Final = {"mp3": 16_000}
_WAV_BYTES_PER_SECOND: Final = 48_000
"""24 kHz, 16 bit, one channel; a WAV's header says its own."""
FILE_TOKENS: Final = 300
"""Of a file named by id or URL: 5 records, 12 to 8,400 tokens."""
_FILE_FRAME_TOKENS: Final = 100
_FILE_BYTES_PER_TOKEN: Final = 40
"""Of a PDF or office file in the request: 17 records, 2025 and 2026, of 0.4 to 19 kB; from a tenth to twice of this."""
_TEXT_BYTES_PER_TOKEN: Final = 4
"""Of a text file in the request: 2 records."""
_MAX_FILE_TOKENS: Final = 100_000
_MIN_WAV_RATE: Final = 4_000
_MAX_WAV_RATE: Final = 400_000
_IMAGE_KINDS: Final = frozenset({"image_url", "input_image", "image", "computer_screenshot"})
_FILE_KINDS: Final = frozenset({"file", "input_file", "document", "document_url", "pdf", "video_url", "input_video"})
_MAX_DEPTH: Final = 8
_TEXT_KEYS: Final = ("text", "refusal", "thinking", "content", "transcript", "input", "output")


def weigh_content(content: Any, images: ImageRule, depth: int = 0) -> Parts:
    """The weight of a message's content, whatever it is.

    Args:
        content: a text, a list of parts, None, or what is none of these.
        images: the rule for pictures.
        depth: of a content within a content.
    """
    if isinstance(content, str):
        return Parts((content,), 0) if content else NOTHING
    if content is None:
        return NOTHING
    if not isinstance(content, list):
        return Parts((as_json(content),), 0)
    texts: list[str] = []
    fixed = 0
    run: list[str] = []
    for part in content:
        found = _weigh_part(part, images, depth)
        run += found.texts
        if found.fixed_tokens:
            fixed += found.fixed_tokens
            texts.append("".join(run))
            run = []
    texts.append("".join(run))
    return Parts(tuple(text for text in texts if text), fixed)


def content_text(content: Any) -> str:
    """The text of a content, its parts joined."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else ()
    found = (part.get("text") or part.get("refusal") for part in parts if isinstance(part, Mapping))
    return "".join(text for text in found if isinstance(text, str))


def _weigh_part(part: Any, images: ImageRule, depth: int) -> Parts:
    if not isinstance(part, Mapping):
        return Parts((part if isinstance(part, str) else as_json(part),), 0)
    kind = str(part.get("type"))
    if kind in _IMAGE_KINDS:
        return Parts((), _image(part, images))
    if kind == "input_audio":
        return Parts((), _audio(part.get("input_audio")))
    if kind in _FILE_KINDS:
        return Parts((), _file(part))
    for key in _TEXT_KEYS:
        value = part.get(key)
        if isinstance(value, str):
            return Parts((value,), 0)
        if isinstance(value, list) and key == "content" and depth < _MAX_DEPTH:  # Anthropic's tool results
            return weigh_content(value, images, depth + 1)
    if any(isinstance(value, str) and value.startswith("data:") for value in _strings(part)):
        return Parts((), _file(part))
    return Parts((as_json(part),), 0)


def _strings(part: Mapping[str, Any]) -> Iterator[Any]:
    """The values of a part that nobody knows, and those one level below."""
    for value in part.values():
        yield from value.values() if isinstance(value, Mapping) else (value,)


def _image(part: Mapping[str, Any], images: ImageRule) -> int:
    """`image_url` is a URL or holds one; Anthropic's `source` holds bare base64."""
    place = part.get("image_url")
    holder = place if isinstance(place, Mapping) else part
    detail = holder.get("detail") or part.get("detail")
    url = place if isinstance(place, str) else holder.get("url")
    if isinstance(source := part.get("source"), Mapping):
        url = source.get("data")
    size = picture_size(url) if isinstance(url, str) else None
    return image_tokens(images, size, detail if isinstance(detail, str) else "auto")


def _audio(audio: Any) -> int:
    data = audio.get("data") if isinstance(audio, Mapping) else None
    if not isinstance(data, str):
        return FILE_TOKENS
    rate = _wav_rate(data) or _AUDIO_BYTES_PER_SECOND.get(str(audio.get("format")), _WAV_BYTES_PER_SECOND)
    return _AUDIO_FRAME_TOKENS + len(data) * 3 // 4 * AUDIO_TOKENS_PER_SECOND // rate


def _wav_rate(data: str) -> int:
    """Bytes per second by a WAV's header; 0 where there is none, or it cannot be."""
    try:
        head = a2b_base64(data[:44])
    except ValueError:
        return 0
    rate = int.from_bytes(head[28:32], "little") if head.startswith(b"RIFF") and head[8:12] == b"WAVE" else 0
    return rate if _MIN_WAV_RATE <= rate <= _MAX_WAV_RATE else 0


def _file(part: Mapping[str, Any]) -> int:
    holder = part.get("file")
    source = part.get("source")
    place = holder if isinstance(holder, Mapping) else source if isinstance(source, Mapping) else part
    data = place.get("file_data") or place.get("data") or place.get("document_url")
    if not isinstance(data, str) or data.startswith("http"):
        return FILE_TOKENS
    rate = _TEXT_BYTES_PER_TOKEN if data.startswith("data:text/") else _FILE_BYTES_PER_TOKEN
    return min(_MAX_FILE_TOKENS, _FILE_FRAME_TOKENS + len(data) * 3 // 4 // rate)


def as_json(value: Any) -> str:
    """A value as compact JSON; what is nested too deeply to be written is no text."""
    try:
        return msgspec.json.encode(value).decode()
    except RecursionError:
        return ""
