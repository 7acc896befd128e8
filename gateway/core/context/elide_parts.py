"""Old pictures, sounds and files become a line of text that says what was there, and what was read in it.

The line is a function of the part, and of the text that was read in a picture where there is one, so a message is
forwarded with the same bytes as long as it is elided. Text parts stay as they are. Nothing is looked at or fetched;
a part's digest tells equal ones from others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

_NAMES = {
    "image_url": "picture",
    "input_image": "picture",
    "image": "picture",
    "input_audio": "sound",
    "audio": "sound",
    "file": "file",
    "input_file": "file",
}
_MAX_SHOWN_CHARS = 120
_INNER_FENCE = "'''"
ReadPart = Callable[[Mapping[str, Any]], str]
"""What was read in a part; "" for nothing."""


def stub_parts(message: Mapping[str, Any], read: ReadPart = lambda _: "") -> dict[str, Any]:
    """The message with a line of text in place of each picture, sound and file, and below it what was read there.

    Args:
        message: as parsed; one whose content is a string, or has only text parts, comes back equal.
        read: of each of these parts.
    """
    content = message.get("content")
    if not isinstance(content, list):
        return dict(message)
    return {**message, "content": [_stub(part, read) for part in content]}


def picture_url(part: Any) -> str:
    """The data URL of an encoded picture; "" for any other part."""
    if not isinstance(part, Mapping) or _NAMES.get(part.get("type", "")) != "picture":
        return ""
    inner = part.get("image_url")
    url = inner.get("url") if isinstance(inner, Mapping) else inner
    return url if isinstance(url, str) and url.startswith("data:image/") else ""


def picture_key(url: str) -> str:
    """What an encoded picture is known by, whatever it comes with: SHA-256 of its URL, in hex."""
    return hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()


def pictures_of(message: Mapping[str, Any]) -> dict[str, str]:
    """The data URLs of a message's encoded pictures, by what each is known by, in order."""
    content = message.get("content")
    urls = filter(None, map(picture_url, content)) if isinstance(content, list) else ()
    return {picture_key(url): url for url in urls}


def tell_pictures(message: Mapping[str, Any], texts: Mapping[str, str]) -> dict[str, Any]:
    """The message, to be told of where it is not forwarded, with what was read in its pictures in place of them.

    It stands between fences, as nothing that the user has said.

    Args:
        message: as parsed.
        texts: what was read, by `picture_key`.
    """
    content = message.get("content")
    if not isinstance(content, list):
        return dict(message)
    read = [texts.get(picture_key(url), "") if (url := picture_url(part)) else "" for part in content]
    told = [
        {"type": "text", "text": f"[picture; the text in it:]\n```\n{text.replace('```', _INNER_FENCE)}\n```"}
        if text
        else part
        for part, text in zip(content, read, strict=True)
    ]
    return {**message, "content": told}


def _stub(part: Any, read: ReadPart) -> Any:
    kind = _NAMES.get(part.get("type", "")) if isinstance(part, Mapping) else None
    if kind is None:
        return part
    encoded = msgspec.json.encode(part, order="deterministic")
    said = [kind, *_details(part), f"{len(encoded)} bytes", f"id {hashlib.sha256(encoded).hexdigest()[:12]}"]
    line, text = f"[left out: {', '.join(said)}]", read(part)
    return {"type": "text", "text": f"{line[:-1]}; the text in it:\n{text}\n]" if text else line}


def _details(part: Mapping[str, Any]) -> list[str]:
    """A file's name, a picture's address, the kind of encoded data: whatever is short and says something."""
    inner = part.get(part.get("type", ""))
    fields = inner if isinstance(inner, Mapping) else {**part, "url": inner} if isinstance(inner, str) else part
    details = [str(fields[key])[:_MAX_SHOWN_CHARS] for key in ("filename", "format", "file_id") if fields.get(key)]
    url = fields.get("url")
    if isinstance(url, str) and url:
        details.append(url.partition(";")[0] if url.startswith("data:") else url[:_MAX_SHOWN_CHARS])
    return details
